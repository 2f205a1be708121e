"""A file on its way out: pieces of it in memory, and what is to be sent next."""

from __future__ import annotations

from collections import deque

from securerecv.errors import MisuseError

CHUNK_BYTES = 1024 * 1024
"""What is asked of the source at once, beginning at multiples of it."""

READ_AHEAD_BYTES = CHUNK_BYTES
"""Beyond what was sent."""


class Outgoing:
    """
    What a sender holds of a file.

    That is from the first byte that may have to be sent again to a little beyond
    what was sent.

    Args:
        offset: where in the file it begins.
        size: of the whole file.
        window_bytes: of what was sent and has not arrived, whatever a receiver would
            take: it is held in memory.

    Attributes:
        sent: all before this offset was sent at least once.
        arrived: all before this offset is with the receiver.
        limit: the receiver takes nothing behind this offset yet.
    """

    def __init__(self, offset: int, size: int, window_bytes: int) -> None:
        self.sent = self.arrived = self.limit = offset
        self._size = size
        self._window_bytes = window_bytes
        self._base = self._end = offset
        self._chunks: deque[memoryview] = deque()
        self._again: deque[tuple[int, int]] = deque()

    @property
    def is_finished(self) -> bool:
        """Whether the receiver has the whole file."""
        return self.arrived == self._size

    def wanted(self) -> tuple[int, int] | None:
        """Give offset and size of what should be read next, if there is room."""
        if self._end == self._size or self._end >= self.sent + READ_AHEAD_BYTES:
            return None
        most = CHUNK_BYTES - self._end % CHUNK_BYTES
        return self._end, min(most, self._size - self._end)

    def supply(self, data: bytes) -> None:
        """
        Take what was wanted, or the beginning of it; the caller keeps it as it is.

        Raises:
            MisuseError: it is longer than what was wanted, or nothing.
        """
        wanted = self.wanted()
        if wanted is None or not 0 < len(data) <= wanted[1]:
            raise MisuseError("not the piece of the file that was asked for")
        self._chunks.append(memoryview(data))
        self._end += len(data)

    def acknowledged(self, contiguous: int, limit: int) -> None:
        """Take note of how far the receiver is, and what it takes."""
        self.arrived = max(self.arrived, contiguous)
        most = min(limit, self.arrived + self._window_bytes, self._size)
        self.limit = max(self.limit, most)
        while self._chunks and self._base + len(self._chunks[0]) <= self.arrived:
            self._base += len(self._chunks.popleft())

    def lost(self, first: int, end: int) -> None:
        """Send a stretch again."""
        self._again.append((first, end))

    @property
    def has_lost(self) -> bool:
        """Whether something waits to be sent again."""
        while self._again and self._again[0][1] <= self.arrived:
            self._again.popleft()
        return bool(self._again)

    def next(self, most: int) -> tuple[int, memoryview] | None:
        """
        Give what is to be sent next.

        Args:
            most: bytes.

        Returns:
            Its offset and its bytes; None if there is nothing, or it is not to be
            sent yet.
        """
        if self.has_lost:
            first, end = self._again.popleft()
            first = max(first, self.arrived)
            piece = self._piece(first, min(end, first + most))
            if first + len(piece) < end:
                self._again.appendleft((first + len(piece), end))
            return first, piece
        first = self.sent
        stop = min(first + most, self._end, self.limit)
        if first >= stop:
            return None
        piece = self._piece(first, stop)
        self.sent += len(piece)
        return first, piece

    def _piece(self, first: int, end: int) -> memoryview:
        """Cut bytes out of the chunk that they begin in."""
        base = self._base
        for chunk in self._chunks:
            if first < base + len(chunk):
                return chunk[first - base : end - base]
            base += len(chunk)
        raise MisuseError("bytes that are not in memory")
