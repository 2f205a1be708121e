"""
What DTLS 1.2 shows to everybody: the headers of records and handshake messages.

RFC 6347 section 4.1: a record begins with type, version, epoch, sequence number
and length; section 4.2.2: a handshake message begins with its type.
"""

from collections.abc import Iterator, Sequence

HEADER_BYTES = 13
OVERHEAD_BYTES = 37
"""A record with AES-GCM: header 13, explicit nonce 8 (RFC 5288), tag 16."""

FINISHED_BYTES = OVERHEAD_BYTES + 24
"""A record with the end of a handshake, Finished: header 12, content 12."""

MAX_RECORD_BYTES = 1 << 14
"""The most that one record carries."""

MAX_DATAGRAM_BYTES = MAX_RECORD_BYTES + OVERHEAD_BYTES

_CONVERSATION = b"\x17\xfe\xfd\0\1"
"""How a record begins that carries what is said: type, version and epoch (the keys
are never changed, so it stays 1)."""

_EPOCH = slice(3, 5)
_LENGTH = slice(11, 13)
_HANDSHAKE = 22
_APPLICATION_DATA = 23
_CLIENT_HELLO = 1
# Behind the handshake header (12 bytes) and the version.
_RANDOM = slice(27, 59)


def is_before_keys(datagram: bytes) -> bool:
    """Tell whether a datagram begins with a record that is not encrypted."""
    return datagram[_EPOCH] == b"\0\0"


def is_of_handshake(datagram: bytes) -> bool:
    """Tell whether a datagram begins with a record that shakes hands."""
    return datagram[0] == _HANDSHAKE or is_before_keys(datagram)


def is_of_conversation(datagram: bytes) -> bool:
    """Tell whether a datagram begins with a record that carries what is said."""
    return datagram[0] == _APPLICATION_DATA


def is_record_of_conversation(datagram: bytes) -> bool:
    """Tell whether a datagram is one record that carries what is said, and whole."""
    return (
        datagram.startswith(_CONVERSATION)
        and len(datagram) <= MAX_DATAGRAM_BYTES
        and int.from_bytes(datagram[_LENGTH]) == len(datagram) - HEADER_BYTES
    )


def is_after_handshake(record: bytes) -> bool:
    """Tell whether a record is encrypted, and of no handshake."""
    return record[_EPOCH] == b"\0\1" and record[0] != _HANDSHAKE


def may_be_finished(record: bytes) -> bool:
    """Tell whether a record may hold a Finished, and nothing else."""
    return (
        record[0] == _HANDSHAKE
        and record[_EPOCH] == b"\0\1"
        and len(record) == FINISHED_BYTES
    )


def random_of_hello(datagram: bytes) -> bytes | None:
    """Give the client's random, 32 bytes; None if this is no ClientHello."""
    if (
        len(datagram) < _RANDOM.stop
        or datagram[0] != _HANDSHAKE
        or not is_before_keys(datagram)
        or datagram[HEADER_BYTES] != _CLIENT_HELLO
    ):
        return None
    return datagram[_RANDOM]


def records(data: bytes) -> Iterator[bytes]:
    """Cut what OpenSSL wants sent into records."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at:][_LENGTH])
        end = at + HEADER_BYTES + length
        yield data[at:end]
        at = end


def datagrams(parts: Sequence[bytes], size: int) -> Iterator[bytes]:
    """
    Put records together, in their order.

    Args:
        parts: records.
        size: of the largest datagram to make of more than one.
    """
    waiting = b""
    for part in parts:
        if waiting and len(waiting) + len(part) > size:
            yield waiting
            waiting = b""
        waiting += part
    if waiting:
        yield waiting
