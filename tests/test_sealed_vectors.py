"""Sealed datagrams against test vectors, and against a second implementation."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire import hpke
from securerecv.wire.datagram import key_id_of
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.hpke import Psk, Secrets, private_key_of, public_key_of
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.replay import ReplayMemory
from securerecv.wire.sealed import SealedReceiver
from securerecv.wire.sealing import SealedSender
from tests import make_vectors, sealed_by_hand

VECTORS = Path(__file__).parent / "vectors"
RFC9180: list[dict[str, Any]] = json.loads((VECTORS / "rfc9180.json").read_text())
SEALED: dict[str, Any] = json.loads((VECTORS / "sealed.json").read_text())

ADDRESS = "192.0.2.1"
NOW_S = 1_800_000_000.0


@frozen
class OneToken:
    """A token as the receiver sees it."""

    token_id: bytes
    secret: bytes


PRIVATE_KEY = bytes.fromhex(SEALED["receiver"]["private_key"])
PUBLIC_KEY = bytes.fromhex(SEALED["receiver"]["public_key"])
TOKENS = {
    bytes.fromhex(token["id"]): OneToken(
        bytes.fromhex(token["id"]), bytes.fromhex(token["secret"])
    )
    for token in SEALED["tokens"]
}


def new_receiver() -> SealedReceiver[OneToken]:
    """Make the vectors' receiver, which has seen nothing yet."""
    plenty = OpeningBudget(burst_s=1000.0, burst_per_address_s=1000.0)
    return SealedReceiver([PRIVATE_KEY], TOKENS.get, ReplayMemory(), plenty)


def new_sender(name: str) -> SealedSender:
    """Make one of the vectors' senders, with the secrets that they give."""
    values = SEALED["senders"][name]
    enc, *exported = (
        bytes.fromhex(values[member])
        for member in ("enc", "key", "iv", "reply_key", "reply_iv")
    )
    psk = None
    if values["token_id"] is not None:
        token = TOKENS[bytes.fromhex(values["token_id"])]
        psk = Psk(token.token_id, token.secret)
    return SealedSender(
        PUBLIC_KEY, psk, encapsulate=lambda _key, _psk: (enc, Secrets(*exported))
    )


class HpkeTests(SynchronousTestCase):
    """Our use of HPKE, and the second implementation's, against RFC 9180."""

    def test_receiving(self) -> None:
        """The product's contexts export and open what RFC 9180 says."""
        self.assertEqual([vector["mode"] for vector in RFC9180], [0, 1])
        for vector in RFC9180:
            context = hpke._receiving(
                private_key_of(bytes.fromhex(vector["skRm"])),
                bytes.fromhex(vector["enc"]),
                psk_in(vector),
                bytes.fromhex(vector["info"]),
            )
            for export in vector["exports"]:
                label = bytes.fromhex(export["exporter_context"])
                exported = context.export(label, export["L"])
                self.assertEqual(exported.hex(), export["exported_value"])
            for seal in vector["encryptions"][:3]:
                aad, sealed = bytes.fromhex(seal["aad"]), bytes.fromhex(seal["ct"])
                self.assertEqual(context.unseal(sealed, aad).hex(), seal["pt"])

    def test_public_keys(self) -> None:
        """Public halves of private keys are those of RFC 9180."""
        for vector in RFC9180:
            private_key = private_key_of(bytes.fromhex(vector["skRm"]))
            self.assertEqual(public_key_of(private_key).hex(), vector["pkRm"])

    def test_by_hand(self) -> None:
        """The second implementation makes every intermediate value of RFC 9180."""
        for vector in RFC9180:
            enc, receiver = bytes.fromhex(vector["enc"]), bytes.fromhex(vector["pkRm"])
            ephemeral = bytes.fromhex(vector["skEm"])
            self.assertEqual(sealed_by_hand.public_key(ephemeral), enc)
            shared = sealed_by_hand.agree(ephemeral, receiver, enc, receiver)
            self.assertEqual(shared.hex(), vector["shared_secret"])
            private_key = bytes.fromhex(vector["skRm"])
            self.assertEqual(
                sealed_by_hand.agree(private_key, enc, enc, receiver), shared
            )
            psk = psk_in(vector)
            made = sealed_by_hand.schedule(
                shared,
                bytes.fromhex(vector["info"]),
                psk.secret if psk else b"",
                psk.psk_id if psk else b"",
            )
            self.assertEqual(made.context.hex(), vector["key_schedule_context"])
            self.assertEqual(made.secret.hex(), vector["secret"])
            self.assertEqual(made.key.hex(), vector["key"])
            self.assertEqual(made.base_nonce.hex(), vector["base_nonce"])
            self.assertEqual(made.exporter_secret.hex(), vector["exporter_secret"])
            for export in vector["exports"]:
                label = bytes.fromhex(export["exporter_context"])
                exported = made.export(label, export["L"])
                self.assertEqual(exported.hex(), export["exported_value"])
            for seal in vector["encryptions"]:
                nonce = sealed_by_hand.nonce(made.base_nonce, seal["sequence"])
                self.assertEqual(nonce.hex(), seal["nonce"])


def psk_in(vector: dict[str, Any]) -> Psk | None:
    """Give a vector's pre-shared key."""
    if not vector["mode"]:
        return None
    return Psk(bytes.fromhex(vector["psk_id"]), bytes.fromhex(vector["psk"]))


class VectorTests(SynchronousTestCase):
    """The product does what ``sealed.json`` says."""

    def test_fresh(self) -> None:
        """The file is what its maker makes."""
        self.assertEqual(make_vectors.FILE.read_text("utf-8"), make_vectors.text())

    def test_every_kind(self) -> None:
        """Every way to drop a datagram is there, but for what a receiver chooses."""
        seen = {
            step["outcome"] for chain in SEALED["chains"] for step in chain["steps"]
        }
        chosen = {DropReason.OVER_BUDGET.value, DropReason.MEMORY_FULL.value}
        every = {reason.value for reason in DropReason}
        self.assertEqual(seen, every - chosen | {"opened"})

    def test_receiver(self) -> None:
        """The receiver opens what is to be opened, and drops the rest by its kind."""
        key_id = SEALED["receiver"]["key_id"]
        self.assertEqual(key_id_of(PUBLIC_KEY).hex(), key_id)
        for chain in SEALED["chains"]:
            receiver = new_receiver()
            for step in chain["steps"]:
                with self.subTest(chain=chain["name"], what=step["what"]):
                    self.check_step(receiver, step)

    def check_step(
        self, receiver: SealedReceiver[OneToken], step: dict[str, Any]
    ) -> None:
        """Try one datagram."""
        datagram = bytes.fromhex(step["datagram"])
        now_s = step["now_ms"] / 1000
        if step["outcome"] != "opened":
            drop = self.assertRaises(Dropped, receiver.open, datagram, ADDRESS, now_s)
            self.assertEqual(drop.reason.value, step["outcome"])
            return
        opened = receiver.open(datagram, ADDRESS, now_s)
        self.assertEqual(opened.request.hex(), step["request"])
        self.assertEqual(opened.sequence, step["sequence"])
        token_id = opened.token.token_id.hex() if opened.token else None
        self.assertEqual(token_id, step["token_id"])
        if "reply" in step:
            reply = opened.reply(bytes.fromhex(step["reply"]["answer"]))
            self.assertEqual(reply.hex(), step["reply"]["datagram"])

    def test_sender(self) -> None:
        """The sender seals the same bytes, and opens the replies."""
        tried = 0
        for chain in SEALED["chains"]:
            for step in chain["steps"]:
                if step["outcome"] != "opened":
                    continue
                sender = new_sender(step["sender"])
                sender._next = step["sequence"]
                datagram = bytes.fromhex(step["datagram"])
                if step["sequence"] >= 2**23:
                    continue
                time_s = int.from_bytes(datagram[10:18], "big") / 1000
                sealed = sender.seal(bytes.fromhex(step["request"]), time_s)
                self.assertEqual(sealed.hex(), step["datagram"])
                tried += 1
                if "reply" in step:
                    reply = bytes.fromhex(step["reply"]["datagram"])
                    answer = bytes.fromhex(step["reply"]["answer"])
                    self.assertEqual(
                        sender.open_reply(reply), (step["sequence"], answer)
                    )
        self.assertGreater(tried, 20)

    def test_replies(self) -> None:
        """The sender opens genuine replies to its requests, and nothing else."""
        for reply in SEALED["replies"]:
            sender = new_sender(reply["sender"])
            for _ in range(reply["requests_sent"]):
                sender.seal(b"PING", NOW_S)
            datagram = bytes.fromhex(reply["datagram"])
            with self.subTest(sender=reply["sender"], what=reply["what"]):
                if reply["outcome"] == "opened":
                    answer = bytes.fromhex(reply["answer"])
                    self.assertEqual(
                        sender.open_reply(datagram), (reply["sequence"], answer)
                    )
                else:
                    drop = self.assertRaises(Dropped, sender.open_reply, datagram)
                    self.assertEqual(drop.reason.value, reply["outcome"])


class BothWaysTests(SynchronousTestCase):
    """The product and the second implementation understand each other."""

    def setUp(self) -> None:
        """Draw a key for each, and a token."""
        self.private_key = secrets.token_bytes(32)
        self.public_key = sealed_by_hand.public_key(self.private_key)
        self.token = OneToken(secrets.token_bytes(16), secrets.token_bytes(32))

    def test_theirs_to_ours(self) -> None:
        """The product opens what the second implementation seals, and answers it."""
        known = {self.token.token_id: self.token}
        receiver = SealedReceiver(
            [self.private_key], known.get, ReplayMemory(), OpeningBudget()
        )
        anonymous = sealed_by_hand.Sender(self.public_key, secrets.token_bytes(32))
        named = sealed_by_hand.Sender(
            self.public_key,
            secrets.token_bytes(32),
            self.token.secret,
            self.token.token_id,
        )
        for sender, token in ((anonymous, None), (named, self.token)):
            for sequence in (0, 1, 300):
                request = b"#t SAY alice number %d\n" % sequence
                datagram = sender.seal(request, int(NOW_S * 1000), sequence)
                opened = receiver.open(datagram, ADDRESS, NOW_S)
                self.assertEqual(opened.request, request)
                self.assertIs(opened.token, token)
                reply = opened.reply(b"#t +OK")
                self.assertEqual(sender.open_reply(reply), (sequence, b"#t +OK"))

    def test_ours_to_theirs(self) -> None:
        """The second implementation opens what the product seals, and answers it."""
        receiver = sealed_by_hand.Receiver(
            self.private_key, {self.token.token_id: self.token.secret}
        )
        psk = Psk(self.token.token_id, self.token.secret)
        for sender, token_id in (
            (SealedSender(self.public_key), b""),
            (SealedSender(self.public_key, psk), self.token.token_id),
        ):
            for sequence in range(3):
                request = b"#t SAY alice number %d\n" % sequence
                datagram = sender.seal(request, NOW_S)
                taken = receiver.open(datagram, int(NOW_S * 1000))
                assert isinstance(taken, sealed_by_hand.Taken)
                self.assertEqual(taken.request, request)
                self.assertEqual(taken.token_id, token_id)
                reply = taken.seal_reply(b"#t +OK")
                self.assertEqual(sender.open_reply(reply), (sequence, b"#t +OK"))
