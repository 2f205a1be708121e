"""A file, or a message, on its way out: piece by piece, as the peer reads."""

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from securerecv.errors import MisuseError, StorageError
from securerecv.intake.uploads import Run
from securerecv.vault.filereader import FileReader
from securerecv.wire.lines import Message

PIECE_BYTES = 1024 * 1024


class FileDownload:
    """
    An `securerecv.interfaces.Download` of a file.

    Args:
        file_id: 16 hexadecimal digits.
        size: bytes of the whole content.
        sha256: 64 hexadecimal digits.
        name: of the file.
        reader: closed when the download is.
        run: calls something in a thread.
        over: called once, when it is closed.
    """

    def __init__(
        self,
        file_id: str,
        size: int,
        sha256: str,
        name: str,
        reader: FileReader,
        run: Run,
        over: Callable[[], object],
    ) -> None:
        self.id = file_id
        self.size = size
        self.sha256 = sha256
        self.name = name
        self._reader = reader
        self._run = run
        self._over = over
        self._reading = False
        self._closed = False

    def read(self, offset: int, size: int) -> "Deferred[bytes]":
        """See `securerecv.interfaces.Download`."""
        if self._reading or not (0 <= offset < self.size and size > 0):
            raise MisuseError("a download gives one piece at a time, of what there is")
        if self._closed:
            return fail(StorageError("the download is closed"))
        self._reading = True
        done = self._run(self._reader.read, offset, min(size, PIECE_BYTES))
        return done.addBoth(self._read)

    def close(self) -> None:
        """See `securerecv.interfaces.Download`."""
        if not self._closed:
            self._closed = True
            if not self._reading:
                self._reader.close()
            self._over()

    def _read(self, result: Any) -> Any:
        self._reading = False
        if self._closed:
            # Not while a thread was at it.
            self._reader.close()
        return result


class MessageDownload:
    """
    An `securerecv.interfaces.Download` of the body of a message.

    Args:
        message: in memory as a whole.
    """

    def __init__(self, message: Message) -> None:
        self.id = message.id
        self.size = len(message.body)
        self.sha256 = hashlib.sha256(message.body).hexdigest()
        self.name = f"message-{message.id}"
        self._body = message.body

    def read(self, offset: int, size: int) -> "Deferred[bytes]":
        """See `securerecv.interfaces.Download`."""
        if not (0 <= offset < self.size and size > 0):
            raise MisuseError("a download gives a piece of what there is")
        return succeed(self._body[offset : offset + min(size, PIECE_BYTES)])

    def close(self) -> None:
        """See `securerecv.interfaces.Download`."""
