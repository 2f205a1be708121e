"""
The bytes of sealed datagrams and of their replies: ``docs/protocol.md`` section 5.

All of it is fixed by the protocol; numbers are unsigned and big-endian.
"""

from hashlib import sha256
from struct import Struct

KIND_REQUEST = 0xC1
KIND_REPLY = 0xC2

MODE_BASE = 0
MODE_PSK = 1

KEY_ID_BYTES = 8
TOKEN_ID_BYTES = 16
PUBLIC_KEY_BYTES = 32
SECRET_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12

MAX_TIME_DIFFERENCE_MS = 120_000
"""Between a datagram's time and the receiver's clock, either way, inclusive."""

MAX_SEQUENCE = 2**64 - 1

MAX_DATAGRAM_BYTES = 65_507
"""The most that UDP carries over IPv4."""

REQUEST_FIELDS = Struct(">BB8sQQ32s")
"""Kind, mode, key id, time in milliseconds since 1970, sequence number, enc."""

KEY_ID_AT = 2
TIME_AT = 10
ENC_AT = 26
TOKEN_ID_AT = REQUEST_FIELDS.size
HEADER_BYTES = {
    MODE_BASE: REQUEST_FIELDS.size,
    MODE_PSK: REQUEST_FIELDS.size + TOKEN_ID_BYTES,
}
"""What stands before the ciphertext, by mode."""

REPLY_FIELDS = Struct(">BQ8s")
"""Kind, sequence number and the first bytes of enc, both of the request."""

REPLY_OVERHEAD_BYTES = REPLY_FIELDS.size + TAG_BYTES


def key_id_of(public_key: bytes) -> bytes:
    """Name a receiver's raw X25519 public key (32 bytes) in 8 bytes."""
    return sha256(public_key).digest()[:KEY_ID_BYTES]


def milliseconds(seconds: float) -> int:
    """Give a time since 1970 as it stands in a datagram."""
    return round(seconds * 1000)
