"""A file's content within a conversation: what is still to come, or to be sent."""

from collections.abc import Callable

from securerecv.errors import MisuseError
from securerecv.limits import (
    MAX_UNREAD_PUSH_BYTES,
    MIN_PAYLOAD_BYTES_PER_S,
    REQUEST_TIMEOUT_S,
)
from securerecv.wire.budget import Share
from securerecv.wire.events import Chunk, Command

STRETCH_BYTES = int(REQUEST_TIMEOUT_S * MIN_PAYLOAD_BYTES_PER_S)
"""What must come within each `REQUEST_TIMEOUT_S`, or all that is left."""


class Incoming:
    """
    The content of an upload.

    How slow the peer may be is said stretch by stretch.  What came quickly
    earns no time for later, so somebody who falls silent is noticed soon,
    however much was sent before.

    Args:
        command: the ``PUT``.
        left: bytes to come.
        now: seconds on the clock that all other times are on.
    """

    def __init__(self, command: Command, left: int, now: float) -> None:
        self._command = command
        self._left = left
        self._stretch = 0
        self._deadline = now + REQUEST_TIMEOUT_S
        self._stopped_at: float | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a chunk was given that is not done with."""
        return self._stopped_at is not None

    @property
    def tag(self) -> str:
        """What its answer begins with."""
        return self._command.request.tag

    @property
    def deadline(self) -> float | None:
        """When the peer is too slow; None if it is not the peer who is waited for."""
        return self._deadline if self._stopped_at is None else None

    def came(self, count: int, now: float) -> None:
        """Note that bytes came."""
        self._stretch += count
        if self._stretch >= STRETCH_BYTES:
            self._stretch = 0
            self._deadline = now + REQUEST_TIMEOUT_S

    def next_chunk(
        self, take: Callable[[int], bytes | memoryview], now: float
    ) -> Chunk | None:
        """
        Give what has come, if anything has and the chunk before is done with.

        Args:
            take: gives at most so many of the bytes that are there.
            now: seconds.
        """
        if self._stopped_at is not None:
            return None
        data = take(self._left)
        if self._left and not data:
            return None
        self._left -= len(data)
        self._stopped_at = now
        return Chunk(self._command, data, not self._left)

    def go_on(self, now: float) -> None:
        """Let the time run again: the chunk is done with."""
        if self._stopped_at is not None:
            self._deadline += now - self._stopped_at
            self._stopped_at = None


class Outgoing:
    """
    The content of a download, and what is to be said behind it.

    Args:
        left: bytes to be sent.
        budget: the peer's allowance, for what waits.

    Attributes:
        left: bytes to be sent.
    """

    def __init__(self, left: int, budget: Share) -> None:
        self.left = left
        self._budget = budget
        self._pushes: list[bytes] = []
        self._push_bytes = 0

    def give(self, count: int) -> None:
        """
        Note that bytes are sent.

        Raises:
            MisuseError: there are not as many left.
        """
        if count > self.left:
            raise MisuseError("this is more content than was announced")
        self.left -= count

    def push(self, data: bytes) -> bool:
        """Keep what is to be said behind the content; False if that is too much."""
        if self._push_bytes > MAX_UNREAD_PUSH_BYTES or not self._budget.take(len(data)):
            return False
        self._pushes.append(data)
        self._push_bytes += len(data)
        return True

    def let_go(self) -> list[bytes]:
        """Give what waits, which is then no more counted."""
        self._budget.give_back(self._push_bytes)
        return self._pushes
