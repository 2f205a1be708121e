"""A file that comes in pieces: a window of it, and what is there already."""

from __future__ import annotations

from bisect import bisect_right

from securerecv.wire.ranges import Ranges

MAX_ISLANDS = 4096
"""Stretches beyond the first gap; pieces that would make more are not taken."""

CHUNK_BYTES = 1024 * 1024
"""Memory is taken in such pieces, each for what begins at a multiple of it."""


class Reassembly:
    """
    The part of a file that has come and has not been used up.

    Its bytes lie in chunks.  One is made when the first of its bytes comes, and let
    go when all of them are used up; so a window takes memory only as it fills, and
    pieces are decrypted where they belong.

    Args:
        offset: where in the file it begins.
        size: of the whole file.
        window_bytes: between what is used up and what can be taken.
        chunk_bytes: of a chunk.

    Attributes:
        contiguous: all bytes before this offset are there.
        frontier: no byte at this offset or behind it is there.
        limit: bytes before this offset have a place now.
    """

    def __init__(
        self, offset: int, size: int, window_bytes: int, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self._window_bytes = window_bytes
        self.contiguous = self.frontier = self._consumed = offset
        self._size = size
        self.limit = min(size, offset + window_bytes)
        self._chunk_bytes = chunk_bytes
        self._chunks: dict[int, memoryview] = {}
        self._islands = Ranges()

    @property
    def is_complete(self) -> bool:
        """Whether the file is there to its end."""
        return self.contiguous == self._size

    def room(self) -> tuple[int, memoryview, int]:
        """
        Give the chunk that bytes at the frontier belong to.

        Returns:
            The offset of its first byte; its bytes; the offset up to which they may
            be written, which is the frontier if nothing has a place there now.
        """
        if self.frontier == self.limit:
            return self.frontier, memoryview(b""), self.frontier
        base, chunk = self._chunk(self.frontier)
        return base, chunk, min(self.limit, base + len(chunk))

    def _chunk(self, offset: int) -> tuple[int, memoryview]:
        """Give the chunk that an offset lies in, and where it begins."""
        base = offset - offset % self._chunk_bytes
        chunk = self._chunks.get(base)
        if chunk is None:
            chunk = memoryview(bytearray(min(self._chunk_bytes, self._size - base)))
            self._chunks[base] = chunk
        return base, chunk

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
        while first < end:
            base, chunk = self._chunk(first)
            stop = min(end, base + len(chunk))
            chunk[first - base : stop - base] = piece[: stop - first]
            piece = piece[stop - first :]
            first = stop
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
        if self._consumed == self.contiguous:
            return memoryview(b"")
        base, chunk = self._chunk(self._consumed)
        return chunk[self._consumed - base : self.contiguous - base].toreadonly()

    def consume(self, count: int) -> None:
        """Give back the place of bytes that `readable` has given."""
        base = self._consumed - self._consumed % self._chunk_bytes
        self._consumed += count
        self.limit = min(self._size, self._consumed + self._window_bytes)
        if self._consumed in {base + self._chunk_bytes, self._size}:
            self._chunks.pop(base, None)
