"""A file that comes in pieces: a window of it, and what is there already."""

from __future__ import annotations

from bisect import bisect_right

from securerecv.wire.ranges import Ranges

MAX_ISLANDS = 4096
"""Stretches beyond the first gap; pieces that would make more are not taken."""


class Reassembly:
    """
    The part of a file that has come and has not been used up.

    The byte at an offset has its place in a ring, at the offset modulo the ring's
    size; so pieces are decrypted where they belong, and what is used up makes room.

    Args:
        offset: where in the file it begins.
        size: of the whole file.
        window_bytes: of the ring; it takes memory only as it fills.

    Attributes:
        ring: the bytes.
        ring_bytes: how many.
        contiguous: all bytes before this offset are there.
        frontier: no byte at this offset or behind it is there.
        limit: bytes before this offset have a place now.
    """

    def __init__(self, offset: int, size: int, window_bytes: int) -> None:
        self.ring_bytes = max(1, min(window_bytes, size - offset))
        self.ring = memoryview(bytearray(self.ring_bytes))
        self.contiguous = self.frontier = self._consumed = offset
        self._size = size
        self.limit = min(size, offset + self.ring_bytes)
        self._islands = Ranges()

    @property
    def is_complete(self) -> bool:
        """Whether the file is there to its end."""
        return self.contiguous == self._size

    def add_at_frontier(self, first: int, end: int) -> bool:
        """
        Note that bytes have come, none of them before the frontier.

        Returns:
            False, and nothing noted, if there are too many gaps already.
        """
        islands = self._islands
        if first == self.frontier:
            if islands.ends:
                islands.ends[-1] = end
            else:
                self.contiguous = end
        elif len(islands.firsts) >= MAX_ISLANDS:
            return False
        else:
            islands.firsts.append(first)
            islands.ends.append(end)
        self.frontier = end
        return True

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """Give what is not there of a stretch, as first offset and end."""
        islands = self._islands
        found = []
        first = max(first, self.contiguous)
        at = max(0, bisect_right(islands.firsts, first) - 1)
        while first < end:
            if at == len(islands.firsts):
                found.append((first, end))
                break
            if first < islands.firsts[at]:
                found.append((first, min(end, islands.firsts[at])))
            first = max(first, islands.ends[at])
            at += 1
        return found

    def put(self, first: int, piece: memoryview) -> bool:
        """
        Keep bytes that are missing wholly, and have their place.

        Returns:
            False, and nothing kept, if there are too many gaps already.
        """
        end = first + len(piece)
        if first >= self.frontier:
            if not self.add_at_frontier(first, end):
                return False
        elif not self._fill(first, end):
            return False
        at = first % self.ring_bytes
        before_edge = min(len(piece), self.ring_bytes - at)
        self.ring[at : at + before_edge] = piece[:before_edge]
        self.ring[: len(piece) - before_edge] = piece[before_edge:]
        return True

    def _fill(self, first: int, end: int) -> bool:
        islands = self._islands
        if first == self.contiguous:
            self.contiguous = end
            if islands.firsts and islands.firsts[0] == end:
                self.contiguous = islands.drop_lowest()
            return True
        if islands.join(first, end):
            return True
        if len(islands.firsts) >= MAX_ISLANDS:
            return False
        islands.insert(first, end)
        return True

    def readable(self) -> memoryview:
        """
        Give bytes that are next in the file, as many as lie together.

        They stay as they are until `consume` says that they are used up.
        """
        at = self._consumed % self.ring_bytes
        count = min(self.contiguous - self._consumed, self.ring_bytes - at)
        return self.ring[at : at + count].toreadonly()

    def consume(self, count: int) -> None:
        """Give back the place of bytes that `readable` has given."""
        self._consumed += count
        self.limit = min(self._size, self._consumed + self.ring_bytes)
        if self._consumed == self._size:
            self.ring = memoryview(bytearray())
            self.ring_bytes = 1
