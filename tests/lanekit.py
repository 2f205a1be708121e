"""One end of a lane, with the other done by hand, from ``docs/protocol.md`` alone."""

from __future__ import annotations

import struct
from hashlib import sha256
from hmac import digest

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET = bytes(range(32))
LANE_ID = b"lane-id."

DATA, PROBE, CHALLENGE, RESPONSE, CLOSE, ACK = 0, 1, 2, 3, 4, 16


def expand(secret: bytes, info: str, size: int) -> bytes:
    """HKDF-Expand (RFC 5869) with SHA-256, for at most 32 bytes."""
    return digest(secret, info.encode() + b"\x01", sha256)[:size]


class Direction:
    """
    Seals and opens packets of one direction.

    Args:
        name: ``data`` or ``acks``.
        secret: of the lane.
        lane_id: 8 bytes.
    """

    def __init__(
        self, name: str, secret: bytes = SECRET, lane_id: bytes = LANE_ID
    ) -> None:
        self.key = expand(secret, f"securerecv/1 lane {name} key", 32)
        self.iv = expand(secret, f"securerecv/1 lane {name} iv", 12)
        self.lane_id = lane_id

    def _nonce(self, number: int) -> bytes:
        padded = number.to_bytes(12, "big")
        return bytes(a ^ b for a, b in zip(self.iv, padded, strict=True))

    def seal(self, kind: int, number: int, text: bytes, offset: int = 0) -> bytes:
        """Make a packet."""
        header = struct.pack(">BB8sIQ", 0xC3, kind, self.lane_id, number, offset)
        return header + AESGCM(self.key).encrypt(self._nonce(number), text, header)

    def open(self, packet: bytes) -> tuple[int, int, int, bytes]:
        """Give kind, number, offset and text of a packet."""
        first, kind, lane_id, number, offset = struct.unpack(">BB8sIQ", packet[:22])
        assert (first, lane_id) == (0xC3, self.lane_id)
        nonce = self._nonce(number)
        return (
            kind,
            number,
            offset,
            AESGCM(self.key).decrypt(nonce, packet[22:], packet[:22]),
        )


def ack_text(
    contiguous: int, limit: int, *ranges: tuple[int, int], delay_us: int = 0
) -> bytes:
    """Write an acknowledgement; each range is its first number and one behind."""
    (first, end), *others = ranges or ((0, 0),)
    text = struct.pack(">QQIII", contiguous, limit, delay_us, end, end - first)
    for next_first, next_end in others:
        text += struct.pack(">II", first - next_end, next_end - next_first)
        first = next_first
    return text
