"""
The receiving end of a lane: packets in, a file's bytes in order out.

Like the conversation it has no socket and no clock.  What drives it may each be
followed by `readable`, `to_send` and `deadline`:

* `receive` - packets came;
* `consumed` - bytes were used up;
* `expire` - the time that `deadline` named has come.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from cryptography.exceptions import InvalidTag

from securerecv.limits import LANE_WINDOW_BYTES
from securerecv.wire.laneend import LaneEnd
from securerecv.wire.lanekeys import MAX_PACKETS, NONCE_BYTES, LaneKeys
from securerecv.wire.lanepackets import (
    HEADER,
    HEADER_BYTES,
    IDLE_TIMEOUT_S,
    MAX_ACK_DELAY_S,
    MAX_ACK_RANGES,
    MAX_DATAGRAM_BYTES,
    OVERHEAD_BYTES,
    Ack,
    Kind,
    LaneDrop,
)
from securerecv.wire.reassembly import Reassembly

ACK_EVERY_PACKETS = 4
ACK_AT_ONCE_PACKETS = 48
ACK_EVERY_S = 0.001
"""
After so few packets an acknowledgement is due, but not more often than that; after so
many, which is what comes in one go where packets come in batches, at once.
"""

SILENCE_S = 1.0
"""
After so long without a packet, a receiver that waits for more says what it has.

If its address has changed the sender learns of it by that alone.
"""

_NEVER = float("inf")
_HEARS = frozenset({Kind.DATA, Kind.PROBE, Kind.CHALLENGE, Kind.RESPONSE, Kind.CLOSE})


class LaneReceiver(LaneEnd):
    """
    Receives one file, or the rest of one.

    Args:
        lane_id: 8 bytes.
        keys: of this lane.
        offset: where in the file it begins.
        size: of the whole file.
        address: of the other end, which DTLS has shaken hands with.
        now: seconds on the clock that all other times are on.
        random_bytes: draws what an address must repeat.
        window_bytes: what it may hold of the file.

    Attributes:
        window_bytes: as given.
    """

    def __init__(
        self,
        lane_id: bytes,
        keys: LaneKeys,
        offset: int,
        size: int,
        address: Hashable,
        now: float,
        random_bytes: Callable[[int], bytes],
        window_bytes: int = LANE_WINDOW_BYTES,
    ) -> None:
        super().__init__(lane_id, keys.acks, _HEARS, address, now, random_bytes)
        self.window_bytes = window_bytes
        self._keys = keys
        self._file = Reassembly(offset, size, window_bytes)
        self._scratch = memoryview(bytearray(MAX_DATAGRAM_BYTES))
        self._told_limit = self._file.limit
        self._spoke_s = self._largest_came_s = now
        self._unacked = 0
        self._ack_s = _NEVER

    @property
    def is_complete(self) -> bool:
        """Whether the file has come to its end."""
        return self._file.is_complete

    @property
    def contiguous(self) -> int:
        """The offset up to which the file has come."""
        return self._file.contiguous

    @property
    def is_used_up(self) -> bool:
        """Whether the file has come to its end, and nothing of it is held."""
        return self._file.is_complete and not self._file.readable()

    # -- what drives it -----------------------------------------------------------

    def receive(
        self, datagrams: Sequence[bytes], address: Hashable, now: float
    ) -> list[LaneDrop]:
        """
        Take packets of this lane.

        A piece is decrypted straight to its place, but never over bytes that are
        there: what turns out to be forged has only spoilt bytes that are still
        missing afterwards.

        Args:
            datagrams: that came together.
            address: where from.
            now: seconds.

        Returns:
            Why nothing came of some.
        """
        file = self._file
        numbers = self._numbers
        frontier = file.frontier
        base, chunk, stop = file.room()
        first = expected = numbers.expected
        iv = self._keys.data.iv
        decrypt_into = self._keys.data.cipher.decrypt_into
        unpack = HEADER.unpack_from
        drops: list[LaneDrop] = []
        largest_before = expected
        good_bytes = 0

        for datagram in datagrams:
            size = len(datagram)
            if OVERHEAD_BYTES < size <= MAX_DATAGRAM_BYTES:
                _, kind, _, number, offset = unpack(datagram)
                end = offset + size - OVERHEAD_BYTES
                if (
                    kind == 0
                    and number == expected < MAX_PACKETS
                    and offset == frontier
                    and end <= stop
                    and not self.is_over
                ):
                    # Nearly always: the next packet, with the next piece.
                    try:
                        decrypt_into(
                            (iv ^ number).to_bytes(NONCE_BYTES, "big"),
                            datagram[HEADER_BYTES:],
                            datagram[:HEADER_BYTES],
                            chunk[offset - base : end - base],
                        )
                    except InvalidTag:
                        drops.append(LaneDrop.FORGED)
                        continue
                    expected = number + 1
                    frontier = end
                    good_bytes += size
                    continue
            self._came_in_order(first, expected, frontier, now)
            drop = self._take_other(datagram, address, now)
            if drop is None:
                good_bytes += size
            else:
                drops.append(drop)
            first = expected = numbers.expected
            frontier = file.frontier
            base, chunk, stop = file.room()

        self._came_in_order(first, expected, frontier, now)
        if good_bytes:
            self._heard_s = now
            is_newest = numbers.expected > largest_before
            self.path.heard(address, good_bytes, now, is_newest=is_newest)
            if is_newest:
                self._largest_came_s = now
        return drops

    def _came_in_order(
        self, first: int, expected: int, frontier: int, now: float
    ) -> None:
        """Note packets that came one after the other, if there were any."""
        if expected > first:
            self._numbers.add(first, expected)
            self._file.add_at_frontier(self._file.frontier, frontier)
            self._came(expected - first, now)

    def _take_other(
        self, datagram: bytes, address: Hashable, now: float
    ) -> LaneDrop | None:
        """Take a packet that is not simply the next one."""
        size = len(datagram) - OVERHEAD_BYTES
        if not 0 <= size <= MAX_DATAGRAM_BYTES - OVERHEAD_BYTES:
            return LaneDrop.MALFORMED
        _, kind, _, number, offset = HEADER.unpack_from(datagram)
        drop = self._refusal(kind, number)
        if kind == Kind.DATA and drop is None:
            drop = self._data_refusal(offset, size)
        if drop is not None:
            return drop
        piece = self._scratch[:size]
        try:
            self._keys.data.cipher.decrypt_into(
                self._keys.data.nonce(number),
                datagram[HEADER_BYTES:],
                datagram[:HEADER_BYTES],
                piece,
            )
        except InvalidTag:
            return LaneDrop.FORGED
        if kind == Kind.DATA and not self._place(offset, piece):
            return LaneDrop.BEYOND
        is_next = number == self._numbers.expected
        self._numbers.add(number, number + 1)
        if kind == Kind.DATA:
            # The sender hears soon of a gap, of what comes late, and of the end.
            self._came(1, now, urgent=not is_next)
        elif kind == Kind.PROBE:
            self._came(1, now, urgent=True)
        else:
            self._take_word(kind, address, bytes(piece))
        return None

    def _data_refusal(self, offset: int, size: int) -> LaneDrop | None:
        """Say why a piece of the file is not worth decrypting, if it is not."""
        if not size:
            return LaneDrop.MALFORMED
        if offset + size > self._file.limit:
            return LaneDrop.BEYOND
        return None

    def _place(self, offset: int, piece: memoryview) -> bool:
        """Put what is missing of a piece where it belongs."""
        for first, end in self._file.missing(offset, offset + len(piece)):
            if not self._file.put(first, piece[first - offset : end - offset]):
                return False
        return True

    def _came(self, count: int, now: float, *, urgent: bool = False) -> None:
        self._unacked += count
        if self.is_complete or self._unacked >= ACK_AT_ONCE_PACKETS:
            self._ack_s = now
        elif urgent or self._unacked >= ACK_EVERY_PACKETS:
            self._ack_s = min(self._ack_s, max(now, self._spoke_s + ACK_EVERY_S))
        elif self._ack_s == _NEVER:
            self._ack_s = now + MAX_ACK_DELAY_S

    def consumed(self, count: int, now: float) -> None:
        """Take back the place of bytes that `readable` has given."""
        file = self._file
        file.consume(count)
        if file.limit - self._told_limit >= self.window_bytes // 4:
            self._ack_s = now

    def expire(self, now: float) -> None:
        """Do what the time has come for."""
        self.path.expire(now)
        if now >= self._heard_s + IDLE_TIMEOUT_S:
            self.is_over = True
        elif now >= self._silent_until():
            self._ack_s = now

    # -- what comes out ---------------------------------------------------------

    def readable(self) -> memoryview:
        """
        Give the next bytes of the file, as many as lie together; maybe none.

        They stay as they are until `consumed` says that they are used up.
        """
        return self._file.readable()

    def to_send(self, now: float) -> list[bytes]:
        """Give datagrams, all for `path.address`."""
        out: list[bytes] = []
        self._say_words(now, out)
        if now >= self._ack_s and not self.is_over:
            self._ack_s = _NEVER
            self._spoke_s = now
            self._unacked = 0
            self._told_limit = self._file.limit
            ack = Ack(
                max(0.0, min(now - self._largest_came_s, 1.0)),
                self._file.contiguous,
                self._file.limit,
                self._numbers.newest(MAX_ACK_RANGES),
            )
            self._say(Kind.ACK, ack.encode(), out)
        return out

    def deadline(self) -> float:
        """Tell when `expire`, and then `to_send`, is due; over is infinite."""
        if self.is_over:
            return _NEVER
        return min(
            self._ack_s,
            self.path.deadline(),
            self._silent_until(),
            self._heard_s + IDLE_TIMEOUT_S,
        )

    def _silent_until(self) -> float:
        if self.is_complete:
            return _NEVER
        return max(self._heard_s, self._spoke_s) + SILENCE_S
