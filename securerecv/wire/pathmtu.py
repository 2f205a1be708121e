"""
How long a datagram may be on a path: RFC 8899, as far as a lane needs it.

It is found out by trying: a packet of padding that is acknowledged has come through.
What routers say about it is not listened to, since anybody can say it.
"""

from __future__ import annotations

from securerecv.wire.lanepackets import BASE_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES

SIZES = (
    BASE_DATAGRAM_BYTES,
    1452,  # 1,500 bytes with IPv6
    1472,  # 1,500 bytes with IPv4
    8952,  # 9,000 bytes with IPv6
    MAX_DATAGRAM_BYTES,  # loopback has more, but one key seals no more at once
)

MAX_PROBES = 3
"""So many of one size must be lost before it counts as too long."""

MIN_PACKETS = 8
"""Under way at once: with fewer, longer ones would stutter, and help nothing."""

BLACK_HOLE_TIMEOUTS = 2
"""After so many silences in a row, long datagrams may not come through any more."""


class PathMtu:
    """The search, upwards through `SIZES`."""

    def __init__(self) -> None:
        self._at = 0
        self._end = len(SIZES)
        self._lost = 0
        self._is_under_way = False

    @property
    def datagram_bytes(self) -> int:
        """What is known to come through."""
        return SIZES[self._at]

    def size_for(self, window_bytes: float) -> int:
        """Give the size of datagrams to use while so many bytes are under way."""
        at = self._at
        while at and SIZES[at] * MIN_PACKETS > window_bytes:
            at -= 1
        return SIZES[at]

    def next_probe(self, window_bytes: float) -> int | None:
        """Give the size to try now, if one is to be tried."""
        if self._is_under_way or self._at + 1 >= self._end:
            return None
        size = SIZES[self._at + 1]
        return size if size * MIN_PACKETS <= window_bytes else None

    def probe_sent(self) -> None:
        """Note that the size was tried."""
        self._is_under_way = True

    def probe_came(self, size: int) -> None:
        """Note that a probe has come through."""
        self._is_under_way = False
        self._lost = 0
        if size in SIZES[: self._end]:
            self._at = max(self._at, SIZES.index(size))

    def probe_lost(self, size: int) -> None:
        """Note that a probe was lost."""
        self._is_under_way = False
        if self._at + 1 < self._end and size == SIZES[self._at + 1]:
            self._lost += 1
            if self._lost >= MAX_PROBES:
                self.too_long(size)

    def too_long(self, size: int) -> None:
        """Note that a size does not even leave this machine, or is never heard of."""
        self._is_under_way = False
        self._lost = 0
        if size in SIZES[1:]:
            self._end = min(self._end, SIZES.index(size))
            self._at = min(self._at, self._end - 1)

    def silence(self, timeouts: int) -> None:
        """
        Go back to the shortest, and begin anew, if nothing comes through.

        Args:
            timeouts: probe timeouts in a row.
        """
        if timeouts == BLACK_HOLE_TIMEOUTS and self._at:
            self.restart()

    def restart(self) -> None:
        """Begin anew: the path is another one."""
        self._at = 0
        self._end = len(SIZES)
        self._lost = 0
        self._is_under_way = False
