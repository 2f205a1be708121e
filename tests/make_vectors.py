"""
Makes ``tests/vectors/sealed.json``: ``python -m tests.make_vectors``.

With the second implementation in `tests.sealed_by_hand`, not with the product; the
outcomes are written here by hand, from ``docs/protocol.md`` section 5.  Every
run makes the same bytes.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import evolve

from tests.sealed_by_hand import Receiver, Sender, Taken, public_key

FILE = Path(__file__).parent / "vectors" / "sealed.json"

NOW_MS = 1_800_000_000_000
TOLERANCE_MS = 120_000
REQUEST = b"#a1 SAY alice The door opens at nine.\n"
ANSWER = b"#a1 +OK 00112233445566ff\n"

BASE_BYTES = 58
PSK_BYTES = 74
TAG_BYTES = 16
FIELDS = {"kind": 0, "mode": 1, "key id": 2, "time": 10, "sequence": 18, "enc": 26}

Step = dict[str, Any]


def drawn(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are the same in each run."""
    return sha256(b"securerecv test vectors: " + label.encode()).digest()[:size]


PRIVATE_KEY = drawn("receiver")
PUBLIC_KEY = public_key(PRIVATE_KEY)
TOKENS = {drawn(f"token {name} id", 16): drawn(f"token {name}") for name in "ab"}
TOKEN_A, TOKEN_B = TOKENS
OTHER_KEY = public_key(drawn("other receiver"))


def base(name: str = "base", receiver: bytes = PUBLIC_KEY) -> Sender:
    """Begin to send without a name."""
    return Sender(receiver, drawn(f"{name} ephemeral"))


def with_token(name: str = "psk", token_id: bytes = TOKEN_A) -> Sender:
    """Begin to send with a token."""
    secret = TOKENS[token_id]
    return Sender(PUBLIC_KEY, drawn(f"{name} ephemeral"), secret, token_id)


SENDERS = {
    "base": base(),
    "second base": base("second base"),
    "psk": with_token(),
    "second psk": with_token("second psk", TOKEN_B),
}


class Chain:
    """Datagrams for one receiver, which has seen nothing before the first."""

    def __init__(self, name: str, sender: str = "base") -> None:
        self.name = name
        self.steps: list[Step] = []
        self._sender_name = sender
        self._sender = SENDERS[sender]
        self._receiver = Receiver(PRIVATE_KEY, TOKENS)

    def genuine(
        self, sequence: int, time_ms: int = NOW_MS, request: bytes = REQUEST
    ) -> bytes:
        """Seal one."""
        return self._sender.seal(request, time_ms, sequence)

    def opened(
        self,
        what: str,
        datagram: bytes,
        now_ms: int = NOW_MS,
        *,
        sender: str = "",
        answer: bytes | None = None,
    ) -> None:
        """Add one that is taken."""
        taken = self._receiver.open(datagram, now_ms)
        assert isinstance(taken, Taken), (self.name, what, taken)
        step: Step = {
            "what": what,
            "now_ms": now_ms,
            "datagram": datagram.hex(),
            "outcome": "opened",
            "sender": sender or self._sender_name,
            "request": taken.request.hex(),
            "sequence": taken.sequence,
            "token_id": taken.token_id.hex() or None,
        }
        if answer is not None:
            reply = taken.seal_reply(answer)
            step["reply"] = {"answer": answer.hex(), "datagram": reply.hex()}
        self.steps.append(step)

    def dropped(
        self, what: str, outcome: str, datagram: bytes, now_ms: int = NOW_MS
    ) -> None:
        """Add one that is not taken."""
        seen = self._receiver.open(datagram, now_ms)
        assert seen == outcome, (self.name, what, seen)
        self.steps.append(
            {
                "what": what,
                "now_ms": now_ms,
                "datagram": datagram.hex(),
                "outcome": outcome,
            }
        )


def flipped(datagram: bytes, at: int, bit: int = 0) -> bytes:
    """Change one bit."""
    changed = bytearray(datagram)
    changed[at] ^= 1 << bit
    return bytes(changed)


def in_order(sender: str) -> Chain:
    """What every sender does."""
    chain = Chain(f"{sender}: in order, with replies", sender)
    for number in range(3):
        chain.opened(f"number {number}", chain.genuine(number), answer=ANSWER)
    later_ms = NOW_MS + 60_000
    chain.opened("a minute later", chain.genuine(3, later_ms), later_ms)
    chain.opened("an empty request", chain.genuine(4, request=b""))
    return chain


def repeated(sender: str) -> Chain:
    """What a network does."""
    chain = Chain(f"{sender}: reordered and repeated", sender)
    for number in (1, 0, 4):
        chain.opened(f"number {number}", chain.genuine(number))
    for number in (4, 0, 1):
        chain.dropped(f"number {number} again", "replayed", chain.genuine(number))
    chain.opened("number 3, late", chain.genuine(3))
    other = chain.genuine(3, NOW_MS + 1, b"SAY alice other\n")
    chain.dropped("number 3 again, with another request", "replayed", other)
    bad = flipped(chain.genuine(3), -1)
    chain.dropped("number 3 again, and forged", "replayed", bad)
    chain.opened("number 2, late", chain.genuine(2))
    return chain


def window() -> Chain:
    """How far behind a number may be."""
    chain = Chain("the window of 2,048 numbers")
    chain.opened("number 0", chain.genuine(0))
    chain.opened("far ahead", chain.genuine(5000))
    chain.opened("the last in the window", chain.genuine(5000 - 2047))
    chain.dropped("the same again", "replayed", chain.genuine(5000 - 2047))
    behind = "behind-window"
    chain.dropped("the first behind the window", behind, chain.genuine(5000 - 2048))
    chain.dropped("number 0 again", behind, chain.genuine(0))
    chain.dropped("5000 again", "replayed", chain.genuine(5000))
    chain.opened("ahead by the window less one", chain.genuine(5000 + 2047))
    chain.dropped("5000 is the last now", "replayed", chain.genuine(5000))
    chain.opened("one further", chain.genuine(5000 + 2048))
    chain.dropped("5000 is behind now", behind, chain.genuine(5000))
    chain.opened("the highest number", chain.genuine(2**64 - 1))
    chain.dropped("the same again", "replayed", chain.genuine(2**64 - 1))
    chain.dropped("a number from before", behind, chain.genuine(5001))
    return chain


def times() -> Chain:
    """How far from the clock a time may be."""
    chain = Chain("time")
    early, late = NOW_MS - TOLERANCE_MS, NOW_MS + TOLERANCE_MS
    chain.opened("as old as may be", chain.genuine(0, early))
    chain.dropped("a millisecond older", "stale", chain.genuine(1, early - 1))
    chain.opened("as far ahead as may be", chain.genuine(2, late))
    chain.dropped("a millisecond further", "stale", chain.genuine(3, late + 1))
    chain.dropped("time 0", "stale", chain.genuine(4, 0))
    chain.dropped("the highest time", "stale", chain.genuine(5, 2**64 - 1))
    return chain


def remembered() -> Chain:
    """How long a datagram stays taken."""
    chain = Chain("a datagram is remembered as long as it looks fresh")
    ahead = chain.genuine(0, NOW_MS + TOLERANCE_MS)
    last_ms = NOW_MS + 2 * TOLERANCE_MS
    chain.opened("taken as early as can be", ahead)
    chain.dropped("as late as it looks fresh", "replayed", ahead, last_ms)
    chain.dropped("a millisecond later", "stale", ahead, last_ms + 1)
    chain.opened("the sender goes on", chain.genuine(1, last_ms), last_ms)
    return chain


def changed(sender: str) -> Chain:
    """Every field with a flipped bit, and none of them spoils the genuine one."""
    chain = Chain(f"{sender}: a flipped bit in each field", sender)
    outcomes = {
        "kind": "malformed",
        "mode": "unknown-token" if sender == "base" else "forged",
        "key id": "not-for-us",
        "token id": "unknown-token",
    }
    fields = dict(FIELDS)
    if sender == "base":
        fields["ciphertext"] = BASE_BYTES
    else:
        fields |= {"token id": BASE_BYTES, "ciphertext": PSK_BYTES}
    datagram = chain.genuine(7)
    fields["tag"] = len(datagram) - TAG_BYTES
    ends = {**{name: at - 1 for name, at in fields.items()}, "tag": len(datagram) - 1}
    names = list(fields)
    # The last byte of a time or number: a flip in the first makes it absurd.
    last = {"time", "sequence"}
    for name, following in zip(names, [*names[1:], "tag"], strict=True):
        at = ends[following] if name in last else fields[name]
        outcome = outcomes.get(name, "forged")
        chain.dropped(name, outcome, flipped(datagram, at))
    high = flipped(datagram, FIELDS["enc"] + 31, 7)
    chain.dropped("the bit of enc that X25519 ignores", "forged", high)
    chain.dropped("the last bit", "forged", flipped(datagram, len(datagram) - 1))
    first = flipped(datagram, FIELDS["sequence"], 7)
    chain.dropped("the first bit of the number", "forged", first)
    chain.opened("untouched", datagram)
    chain.dropped(
        "changed, under an enc that is known",
        "forged",
        flipped(chain.genuine(8), len(datagram) - 1),
    )
    ahead = flipped(chain.genuine(8), FIELDS["sequence"], 7)
    chain.dropped("a number far ahead, forged", "forged", ahead)
    chain.opened("and the next genuine one", chain.genuine(8))
    return chain


def cut(sender: str) -> Chain:
    """Too short, and too long."""
    chain = Chain(f"{sender}: cut short, and with more behind", sender)
    header_bytes = BASE_BYTES if sender == "base" else PSK_BYTES
    least = header_bytes + TAG_BYTES
    datagram = chain.genuine(0)
    sizes = {0, 1, 2, 10, 18, 26, 57, 58, 73, header_bytes, least - 1}
    for size in sorted(sizes):
        chain.dropped(f"{size} bytes", "malformed", datagram[:size])
    chain.dropped(f"{least} bytes", "forged", datagram[:least])
    chain.dropped("without the last byte", "forged", datagram[:-1])
    chain.dropped("without the tag", "forged", datagram[:-TAG_BYTES])
    chain.dropped("a byte more", "forged", datagram + b"\0")
    chain.dropped("twice", "forged", datagram + datagram)
    chain.opened("whole", datagram)
    return chain


def wrong_kinds() -> Chain:
    """What is no sealed request, or none to this receiver."""
    chain = Chain("wrong kind, mode and receiver")
    datagram = chain.genuine(0)
    for kind in (0x00, 0x16, 0xC2, 0xC3, 0xFF):
        wrong = bytes([kind]) + datagram[1:]
        chain.dropped(f"kind {kind:#04x}", "malformed", wrong)
    for mode in (2, 3, 255):
        wrong = datagram[:1] + bytes([mode]) + datagram[2:]
        chain.dropped(f"mode {mode}", "malformed", wrong)
    other = base("to another", OTHER_KEY).seal(REQUEST, NOW_MS, 0)
    chain.dropped("to another receiver", "not-for-us", other)
    wrong = other[:2] + datagram[2:10] + other[10:]
    chain.dropped("to another, with our key id", "forged", wrong)
    for name, point in (
        ("0", bytes(32)),
        ("1", b"\1" + bytes(31)),
        (
            "order 8",
            bytes.fromhex(
                "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
            ),
        ),
        ("2^255 - 19", (2**255 - 19).to_bytes(32, "little")),
    ):
        wrong = datagram[:26] + point + datagram[58:]
        chain.dropped(f"enc of small order: {name}", "forged", wrong)
    chain.opened("the genuine one", datagram)
    return chain


def two_senders() -> Chain:
    """Numbers are counted for each enc."""
    chain = Chain("each enc has its own numbers")
    chain.opened("number 0", chain.genuine(0))
    second = SENDERS["second base"].seal(REQUEST, NOW_MS, 0)
    chain.opened("number 0 of another", second, sender="second base")
    psk = SENDERS["psk"].seal(REQUEST, NOW_MS, 0)
    chain.opened("number 0 of one with a token", psk, sender="psk", answer=ANSWER)
    psk = SENDERS["second psk"].seal(REQUEST, NOW_MS, 0)
    chain.opened("number 0 with another token", psk, sender="second psk")
    chain.dropped("the first again", "replayed", chain.genuine(0))
    return chain


def wrong_tokens() -> Chain:
    """Who does not know a token's secret is not its owner."""
    chain = Chain("wrong tokens", "psk")
    sender = SENDERS["psk"]

    def sealed(psk: bytes, psk_id: bytes) -> bytes:
        return evolve(sender, psk=psk, psk_id=psk_id).seal(REQUEST, NOW_MS, 0)

    a, b = TOKENS[TOKEN_A], TOKENS[TOKEN_B]
    nobodys = drawn("nobody's token", 16)
    chain.dropped("unknown token", "unknown-token", sealed(a, nobodys))
    chain.dropped("wrong secret", "forged", sealed(drawn("wrong"), TOKEN_A))
    chain.dropped("another token's secret", "forged", sealed(b, TOKEN_A))
    chain.dropped("another token's id", "forged", sealed(a, TOKEN_B))
    genuine = chain.genuine(0)
    wrong = genuine[:58] + TOKEN_B + genuine[74:]
    chain.dropped("the id exchanged on the way", "forged", wrong)
    plain = base("psk").seal(REQUEST, NOW_MS, 0)
    wrong = plain[:1] + b"\1" + plain[2:58] + TOKEN_A + plain[58:]
    chain.dropped("mode PSK, sealed without it", "forged", wrong)
    wrong = genuine[:1] + b"\0" + genuine[2:58] + genuine[74:]
    chain.dropped("mode base, sealed with PSK", "forged", wrong)
    chain.opened("the genuine one", genuine)
    return chain


def replies() -> list[Step]:
    """Replies as a sender gets them, after three requests."""
    made: list[Step] = []

    def add(what: str, sender: str, datagram: bytes, outcome: str, **more: Any) -> None:
        made.append(
            {
                "what": what,
                "sender": sender,
                "requests_sent": 3,
                "datagram": datagram.hex(),
                "outcome": outcome,
                **more,
            }
        )

    for name in ("base", "psk"):
        receiver = Receiver(PRIVATE_KEY, TOKENS)
        sealed: list[bytes] = []
        for number in range(4):
            taken = receiver.open(SENDERS[name].seal(REQUEST, NOW_MS, number), NOW_MS)
            assert isinstance(taken, Taken)
            sealed.append(taken.seal_reply(ANSWER))
        for number in (0, 2):
            answer = {"sequence": number, "answer": ANSWER.hex()}
            add(f"reply to {number}", name, sealed[number], "opened", **answer)
        reply = sealed[1]
        add("reply to what was not sent", name, sealed[3], "not-for-us")
        add("kind", name, flipped(reply, 0), "malformed")
        add("number", name, flipped(reply, 8), "forged")
        add("enc", name, flipped(reply, 9), "not-for-us")
        add("ciphertext", name, flipped(reply, 17), "forged")
        add("tag", name, flipped(reply, len(reply) - 1), "forged")
        add("cut to nothing", name, b"", "malformed")
        add("cut in the header", name, reply[:16], "malformed")
        add("cut in the tag", name, reply[:32], "malformed")
        add("cut to a tag", name, reply[:33], "forged")
        add("cut by a byte", name, reply[:-1], "forged")
        add("a byte more", name, reply + b"\0", "forged")
        request = SENDERS[name].seal(REQUEST, NOW_MS, 1)
        mirrored = b"\xc2" + reply[1:17] + request[-len(REQUEST) - TAG_BYTES :]
        add("the request's own ciphertext", name, mirrored, "forged")
    return made


def make() -> dict[str, Any]:
    """Give the whole file."""
    chains = [
        in_order("base"),
        in_order("psk"),
        repeated("base"),
        repeated("psk"),
        window(),
        times(),
        remembered(),
        changed("base"),
        changed("psk"),
        cut("base"),
        cut("psk"),
        wrong_kinds(),
        two_senders(),
        wrong_tokens(),
    ]
    return {
        "info": b"securerecv/1 sealed".hex(),
        "receiver": {
            "private_key": PRIVATE_KEY.hex(),
            "public_key": PUBLIC_KEY.hex(),
            "key_id": sha256(PUBLIC_KEY).digest()[:8].hex(),
        },
        "tokens": [
            {"id": token_id.hex(), "secret": secret.hex()}
            for token_id, secret in TOKENS.items()
        ],
        "senders": {
            name: {
                "mode": int(bool(sender.psk)),
                "token_id": sender.psk_id.hex() or None,
                "ephemeral_private_key": sender.ephemeral.hex(),
                "enc": sender.enc.hex(),
                "key": sender.keys[0].hex(),
                "iv": sender.keys[1].hex(),
                "reply_key": sender.keys[2].hex(),
                "reply_iv": sender.keys[3].hex(),
            }
            for name, sender in SENDERS.items()
        },
        "chains": [{"name": chain.name, "steps": chain.steps} for chain in chains],
        "replies": replies(),
    }


def text() -> str:
    """Give the file's text."""
    return json.dumps(make(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
