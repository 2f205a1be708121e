"""
Sealed datagrams once more, from the text alone.

RFC 9180 and ``docs/protocol.md`` section 5, written down a second time with
nothing but HMAC, X25519 and AES-GCM, and without a line of `securerecv`: what it
makes and what the product makes have to agree.  It takes no care of speed, memory
or time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from attrs import field, frozen, mutable
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_ID = (0x0020).to_bytes(2, "big")
KDF_ID = (0x0001).to_bytes(2, "big")
AEAD_ID = (0x0002).to_bytes(2, "big")
KEM_SUITE = b"KEM" + KEM_ID
SUITE = b"HPKE" + KEM_ID + KDF_ID + AEAD_ID


# -- RFC 9180 -----------------------------------------------------------------


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180 section 4, with HKDF-Extract of RFC 5869."""
    key = salt or bytes(32)
    return hmac.digest(key, b"HPKE-v1" + suite + label + ikm, "sha256")


def labeled_expand(
    suite: bytes, prk: bytes, label: bytes, info: bytes, length: int
) -> bytes:
    """RFC 9180 section 4, with HKDF-Expand of RFC 5869."""
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    made = block = b""
    for number in range(1, length // 32 + 2):
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        made += block
    return made[:length]


def public_key(private_key: bytes) -> bytes:
    """Give the public half of a raw X25519 key."""
    return (
        X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    )


def agree(private_key: bytes, public: bytes, enc: bytes, receiver: bytes) -> bytes:
    """Give the KEM's shared secret, RFC 9180 section 4.1."""
    mine = X25519PrivateKey.from_private_bytes(private_key)
    agreed = mine.exchange(X25519PublicKey.from_public_bytes(public))
    prk = labeled_extract(KEM_SUITE, b"", b"eae_prk", agreed)
    return labeled_expand(KEM_SUITE, prk, b"shared_secret", enc + receiver, 32)


@frozen
class Schedule:
    """What the key schedule of RFC 9180 section 5.1 gives."""

    context: bytes
    secret: bytes
    key: bytes
    base_nonce: bytes
    exporter_secret: bytes

    def export(self, label: bytes, length: int) -> bytes:
        """RFC 9180 section 5.3."""
        return labeled_expand(SUITE, self.exporter_secret, b"sec", label, length)


def schedule(
    shared: bytes, info: bytes, psk: bytes = b"", psk_id: bytes = b""
) -> Schedule:
    """RFC 9180 section 5.1, for the modes base and PSK."""
    context = (
        (b"\1" if psk else b"\0")
        + labeled_extract(SUITE, b"", b"psk_id_hash", psk_id)
        + labeled_extract(SUITE, b"", b"info_hash", info)
    )
    secret = labeled_extract(SUITE, shared, b"secret", psk)
    return Schedule(
        context,
        secret,
        labeled_expand(SUITE, secret, b"key", context, 32),
        labeled_expand(SUITE, secret, b"base_nonce", context, 12),
        labeled_expand(SUITE, secret, b"exp", context, 32),
    )


# -- docs/protocol.md section 5 -----------------------------------------------


def exported(shared: bytes, psk: bytes, psk_id: bytes) -> tuple[bytes, ...]:
    """Give key, IV, reply key and reply IV."""
    made = schedule(shared, b"securerecv/1 sealed", psk, psk_id)
    return (
        made.export(b"securerecv/1 key", 32),
        made.export(b"securerecv/1 iv", 12),
        made.export(b"securerecv/1 reply key", 32),
        made.export(b"securerecv/1 reply iv", 12),
    )


def nonce(iv: bytes, sequence: int) -> bytes:
    """IV, exclusive-or the number padded on the left."""
    padded = bytes(4) + sequence.to_bytes(8, "big")
    return bytes(a ^ b for a, b in zip(iv, padded, strict=True))


@mutable
class Sender:
    """Seals with an ephemeral key of one's choice."""

    receiver: bytes
    ephemeral: bytes
    psk: bytes = b""
    psk_id: bytes = b""
    enc: bytes = field(init=False)
    keys: tuple[bytes, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Agree with the receiver's key."""
        self.enc = public_key(self.ephemeral)
        shared = agree(self.ephemeral, self.receiver, self.enc, self.receiver)
        self.keys = exported(shared, self.psk, self.psk_id)

    def seal(self, request: bytes, time_ms: int, sequence: int) -> bytes:
        """Give a datagram."""
        header = (
            b"\xc1"
            + (b"\1" if self.psk else b"\0")
            + sha256(self.receiver).digest()[:8]
            + time_ms.to_bytes(8, "big")
            + sequence.to_bytes(8, "big")
            + self.enc
            + self.psk_id
        )
        key, iv, _, _ = self.keys
        return header + AESGCM(key).encrypt(nonce(iv, sequence), request, header)

    def open_reply(self, reply: bytes) -> tuple[int, bytes]:
        """Give the request's number and the answer."""
        sequence = int.from_bytes(reply[1:9], "big")
        if reply[:1] != b"\xc2" or reply[9:17] != self.enc[:8]:
            raise ValueError(reply)
        _, _, key, iv = self.keys
        opened = AESGCM(key).decrypt(nonce(iv, sequence), reply[17:], reply[:17])
        return sequence, opened


@frozen
class Taken:
    """A datagram that was taken."""

    request: bytes
    token_id: bytes
    sequence: int
    seal_reply: Callable[[bytes], bytes]


@frozen
class Receiver:
    """Opens datagrams, and remembers numbers for ever."""

    private_key: bytes
    tokens: dict[bytes, bytes]
    taken: dict[bytes, set[int]] = field(factory=dict)

    def open(self, datagram: bytes, now_ms: int) -> Taken | str:  # noqa: PLR0911  one for each kind
        """Give what was taken, or in a word why it was not."""
        mode = datagram[1:2]
        body = {b"\0": 58, b"\1": 74}.get(mode, 1 << 16)
        if datagram[:1] != b"\xc1" or len(datagram) < body + 16:
            return "malformed"
        mine = public_key(self.private_key)
        if datagram[2:10] != sha256(mine).digest()[:8]:
            return "not-for-us"
        if not -120_000 <= int.from_bytes(datagram[10:18], "big") - now_ms <= 120_000:
            return "stale"
        token_id = datagram[58:body]
        if mode == b"\1" and token_id not in self.tokens:
            return "unknown-token"
        sequence = int.from_bytes(datagram[18:26], "big")
        enc = datagram[26:58]
        taken = self.taken.get(enc, set())
        if taken and sequence <= max(taken) - 2048:
            return "behind-window"
        if sequence in taken:
            return "replayed"
        try:
            shared = agree(self.private_key, enc, enc, mine)
        except ValueError:  # a point of small order
            return "forged"
        keys = exported(shared, self.tokens.get(token_id, b""), token_id)
        header, sealed = datagram[:body], datagram[body:]
        try:
            request = AESGCM(keys[0]).decrypt(nonce(keys[1], sequence), sealed, header)
        except InvalidTag:
            return "forged"
        self.taken.setdefault(enc, set()).add(sequence)

        def seal_reply(answer: bytes) -> bytes:
            header = b"\xc2" + datagram[18:26] + enc[:8]
            return header + AESGCM(keys[2]).encrypt(
                nonce(keys[3], sequence), answer, header
            )

        return Taken(request, token_id, sequence, seal_reply)
