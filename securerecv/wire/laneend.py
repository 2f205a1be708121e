"""What both ends of a lane have in common: how they speak, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from securerecv.wire.ackranges import AckRanges
from securerecv.wire.lanekeys import MAX_PACKETS, PacketKey
from securerecv.wire.lanepackets import (
    FIRST_BYTE,
    HEADER,
    OVERHEAD_BYTES,
    TOKEN_BYTES,
    Kind,
    LaneDrop,
)
from securerecv.wire.lanepath import LanePath


class LaneEnd:
    """
    One end of a lane.

    Args:
        lane_id: 8 bytes.
        key: seals what this end says.
        hears: the kinds of packets that the other end may send.
        address: of the other end, which DTLS has shaken hands with.
        now: seconds on the clock that all other times are on.
        random_bytes: draws what an address must repeat.

    Attributes:
        path: where the other end is.
        is_over: nothing more is heard or said.
    """

    def __init__(
        self,
        lane_id: bytes,
        key: PacketKey,
        hears: Collection[int],
        address: Hashable,
        now: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.path = LanePath(address, random_bytes)
        self.is_over = False
        self._lane_id = lane_id
        self._numbers = AckRanges()
        self._next_number = 0
        self._heard_s = now
        self._saying_key = key
        self._hears = hears
        self._responses: list[bytes] = []
        self._is_closing = False

    def close(self) -> None:
        """Tell the other end that this one has done its part or gives up, and end."""
        self._is_closing = not self.is_over
        self.is_over = True

    def _refusal(self, kind: int, number: int) -> LaneDrop | None:
        """Say why a packet is not even worth decrypting, if it is not."""
        if kind not in self._hears or number >= MAX_PACKETS:
            return LaneDrop.MALFORMED
        if self.is_over:
            return LaneDrop.UNKNOWN
        if not self._numbers.is_new(number):
            return LaneDrop.REPEATED
        return None

    def _take_word(self, kind: int, address: Hashable, text: bytes) -> None:
        """Take a packet that is about the path, or ends the lane."""
        if kind == Kind.CHALLENGE and len(text) == TOKEN_BYTES:
            self._responses = [text]
        elif kind == Kind.RESPONSE:
            self.path.answered(address, text)
        elif kind == Kind.CLOSE:
            self.is_over = True

    def _say_words(self, now: float, out: list[bytes]) -> None:
        """Say what comes before all else: the end, or what is about the path."""
        if self._is_closing:
            self._is_closing = False
            self._say(Kind.CLOSE, b"", out)
        if self.is_over:
            return
        for token in self._responses:
            self._say(Kind.RESPONSE, token, out)
        self._responses = []
        challenge = self.path.challenge(now)
        if challenge is not None:
            self._say(Kind.CHALLENGE, challenge, out)

    def _say(self, kind: Kind, text: bytes, out: list[bytes]) -> bool:
        """
        Add a packet to `out`.

        Returns:
            False, and nothing added, if the lane has no number left for it, or the
            path takes no more.
        """
        number = self._next_number
        if number >= MAX_PACKETS:
            self.is_over = True
            return False
        if not self.path.take(len(text) + OVERHEAD_BYTES):
            return False
        self._next_number += 1
        header = HEADER.pack(FIRST_BYTE, kind, self._lane_id, number, 0)
        key = self._saying_key
        out.append(header + key.cipher.encrypt(key.nonce(number), text, header))
        return True
