"""What a file's content comes from and goes to, whatever it travels on."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from securerecv.wire.filereplies import Found


class Stage(Enum):
    """What is being done with a file."""

    CHECKING = "checking"
    SENDING = "sending"
    RECEIVING = "receiving"


Progress = Callable[[Stage, int, int], None]
"""Is told what is being done, how many bytes of it are done, and of how many."""


class Source(Protocol):
    """
    What a file is sent from.

    Attributes:
        size: bytes of the whole.
    """

    @property
    def size(self) -> int:
        """See above."""

    def read(self, offset: int, size: int) -> bytes:
        """
        Read a piece.

        Args:
            offset: of its first byte, less than the size of the whole.
            size: the most bytes wanted.

        Returns:
            At least one byte.  What it raises ends the conversation.
        """

    def sent(self, count: int) -> None:
        """Take note that so many bytes of the whole are on their way."""


class Sink(Protocol):
    """
    What a file is received into.

    Attributes:
        offset: how many bytes are there; those behind them are asked for.
    """

    @property
    def offset(self) -> int:
        """See above."""

    def begin(self, found: Found) -> None:
        """Learn what follows.  What it raises ends the conversation."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes.  What it raises ends the conversation."""
