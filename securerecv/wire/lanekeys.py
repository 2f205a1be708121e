"""The keys of one lane, ``docs/protocol.md`` section 6.1."""

from __future__ import annotations

from attrs import field, frozen
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securerecv.errors import MisuseError

EXPORTER_LABEL = b"EXPORTER-securerecv-lane"
"""Of RFC 5705; the context is the lane's id, so each lane has its own secret."""

SECRET_BYTES = 32
LANE_ID_BYTES = 8

MAX_PACKETS = 2**23
"""In one direction of one lane: the limit of AES-GCM, RFC 9001 section 6.6."""

_KEY_BYTES = 32
NONCE_BYTES = 12


@frozen
class PacketKey:
    """
    What seals the packets of one direction.

    The nonce is the IV with the packet number added by exclusive or, as in RFC
    9001 section 5.3.  The key is for one direction of one lane, whose id is drawn
    for it alone; there numbers only rise, a packet that is sent again gets a new
    one, and what is sealed under one key is never more than `MAX_PACKETS`.  So no
    nonce comes again (NIST SP 800-38D section 8.2.1).

    Attributes:
        cipher: AES-256-GCM.
        iv: 12 bytes, as a number.
    """

    cipher: AESGCM = field(repr=False)
    iv: int = field(repr=False)

    def nonce(self, number: int) -> bytes:
        """Give the nonce of a packet."""
        return (self.iv ^ number).to_bytes(NONCE_BYTES, "big")


@frozen
class LaneKeys:
    """
    Both directions of a lane.

    Attributes:
        data: for what the sender of the file sends.
        acks: for what its receiver sends.
    """

    data: PacketKey
    acks: PacketKey


def derive(secret: bytes) -> LaneKeys:
    """
    Expand a lane's secret.

    Each key and IV is expanded under a label of its own (RFC 5869 section 2.3), so
    that none says anything about another.

    Args:
        secret: 32 bytes, exported from the DTLS session for this lane's id.

    Raises:
        MisuseError: it has another length.
    """
    if len(secret) != SECRET_BYTES:
        raise MisuseError(f"a lane's secret has {SECRET_BYTES} bytes")

    def expand(label: bytes, size: int) -> bytes:
        info = b"securerecv/1 lane " + label
        return HKDFExpand(SHA256(), size, info).derive(secret)

    def direction(name: bytes) -> PacketKey:
        iv = expand(name + b" iv", NONCE_BYTES)
        key = expand(name + b" key", _KEY_BYTES)
        return PacketKey(AESGCM(key), int.from_bytes(iv, "big"))

    return LaneKeys(direction(b"data"), direction(b"acks"))
