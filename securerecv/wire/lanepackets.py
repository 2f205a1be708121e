"""How the packets of a lane look, ``docs/protocol.md`` section 6.2."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from struct import Struct, pack, unpack_from

from attrs import frozen

FIRST_BYTE = 0xC3

HEADER = Struct(">BB8sIQ")
"""First byte, kind, lane id, packet number, offset in the file."""

LANE_ID = slice(2, 10)
HEADER_BYTES = HEADER.size
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES

BASE_DATAGRAM_BYTES = 1232
"""Goes through every path of IPv6: 1,280 bytes (RFC 8200 section 5) less headers."""

MAX_DATAGRAM_BYTES = 16_376
"""Four of them fill the longest batch that a kernel takes, of 65,507 bytes."""

MAX_ACK_DELAY_S = 0.005
"""How long a receiver waits with an acknowledgement that is not urgent."""

IDLE_TIMEOUT_S = 30.0
"""How long a lane lives on without a word from the other end."""

MAX_ACK_RANGES = 64
"""In one acknowledgement, the newest; all of them fit into the smallest datagram."""

TOKEN_BYTES = 8
"""What a path challenge asks for, and the response says."""


class Kind(IntEnum):
    """What a packet is; those from 16 on are sent by the file's receiver."""

    DATA = 0
    """A piece of the file, one byte or more, which belongs at the offset."""

    PROBE = 1
    """Padding, any number of zeros: asks for an acknowledgement, nothing else."""

    CHALLENGE = 2
    """Asks whoever is at an address to repeat 8 bytes."""

    RESPONSE = 3
    """Repeats them."""

    CLOSE = 4
    """Ends the lane: nothing more will be said, and nothing heard."""

    ACK = 16
    """What has arrived, and how far the sender may go."""


class LaneDrop(Enum):
    """Why nothing came of a packet: counted, never told."""

    MALFORMED = "malformed"
    """It is too short, or of a kind that its direction does not know."""

    UNKNOWN = "unknown-lane"
    """There is no such lane, or it is over."""

    REPEATED = "repeated"
    """Its number was taken before, or is too old to tell."""

    BEYOND = "beyond-window"
    """It holds bytes that the sender was not asked for yet."""

    FORGED = "forged"
    """It does not decrypt."""


@frozen
class Ack:
    """
    What a receiver says.

    Attributes:
        delay_s: from the largest packet's arrival to this.
        contiguous: the file is there up to this offset.
        limit: the sender may send up to this offset.
        ranges: of packet numbers, the newest first; each from its first number to
            one behind its last.
    """

    delay_s: float
    contiguous: int
    limit: int
    ranges: Sequence[tuple[int, int]]

    def encode(self) -> bytes:
        """
        Write it down.

        As in RFC 9000 section 19.3 each range is told by its distance from the one
        before, so that no text can mean ranges which overlap.  The numbers have 32
        bits each here: to read many is what costs, and not to carry them.
        """
        first, end = self.ranges[0] if self.ranges else (0, 0)
        numbers = [end - first]
        for next_first, next_end in self.ranges[1:MAX_ACK_RANGES]:
            numbers += (first - next_end, next_end - next_first)
            first = next_first
        delay_us = round(self.delay_s * 1_000_000)
        head = _ACK_HEAD.pack(self.contiguous, self.limit, delay_us, end)
        return head + pack(f">{len(numbers)}I", *numbers)

    @classmethod
    def decode(cls, text: bytes) -> Ack:
        """
        Read it.

        Raises:
            ValueError: not what `encode` writes.
        """
        count, odd = divmod(len(text) - _ACK_HEAD.size, 4)
        if odd or count % 2 == 0 or not 0 < count < 2 * MAX_ACK_RANGES:
            raise ValueError("an acknowledgement of another length")
        contiguous, limit, delay_us, end = _ACK_HEAD.unpack_from(text)
        numbers = unpack_from(f">{count}I", text, _ACK_HEAD.size)
        first = end - numbers[0]
        ranges = [(first, end)] if end else []
        for gap, length in zip(numbers[1::2], numbers[2::2], strict=True):
            end = first - gap
            first = end - length
            if not gap or not length:
                raise ValueError("an empty range, or none between two")
            ranges.append((first, end))
        if first < 0 or contiguous > limit or (end and not numbers[0]):
            raise ValueError("ranges below zero, or a limit that was reached before")
        return cls(delay_us / 1_000_000, contiguous, limit, ranges)


_ACK_HEAD = Struct(">QQII")
