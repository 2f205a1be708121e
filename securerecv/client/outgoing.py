"""A file that is to be sent: what it is called, how long it is, its SHA-256."""

import hashlib
import os
import stat
from errno import EINVAL
from pathlib import Path
from typing import BinaryIO, Self

from twisted.internet.threads import deferToThread

from securerecv.client.content import Progress, Stage
from securerecv.errors import MisuseError, PeerError, SecurerecvError
from securerecv.names import file_name

SLICE_BYTES = 1 << 24
"""Hashed in a thread in one go; then it is told how far it came."""

_READ_BYTES = 1 << 18


class ChangedFileError(SecurerecvError):
    """A file became shorter while it was sent."""


def ignore(_stage: Stage, _done: int, _total: int) -> None:
    """Take no notice."""


class Outgoing:
    """
    See `securerecv.client.content.Source`; made by `outgoing`.

    It may be sent several times, one after the other, and is read only once to
    know its SHA-256.

    Attributes:
        size: bytes.
        sha256: of all of it, 64 hexadecimal digits.
        name: what it is to be called.
        progress: is told how much is sent.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        size: int,
        *,
        progress: Progress,
        is_own: bool,
    ) -> None:
        self.size = size
        self.sha256 = ""
        self.name = name
        self.progress = progress
        self._file = file
        self._is_own = is_own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._is_own:
            self._file.close()

    def read(self, offset: int, size: int) -> bytes:
        """See `securerecv.client.content.Source`."""
        self._file.seek(offset)
        data = self._file.read(min(size, self.size - offset))
        if not data:
            raise ChangedFileError(f"{self.name} became shorter while it was sent")
        return data

    def sent(self, count: int) -> None:
        """See `securerecv.client.content.Source`."""
        self.progress(Stage.SENDING, count, self.size)

    async def hash(self) -> None:
        """Read all of it once; in threads, since that may take long."""
        digest = hashlib.sha256()
        at = 0

        def take_slice() -> int:
            end = min(at + SLICE_BYTES, self.size)
            done = at
            while done < end:
                piece = self.read(done, min(_READ_BYTES, end - done))
                digest.update(piece)
                done += len(piece)
            return done

        while at < self.size:
            if self.size > SLICE_BYTES:
                at = await deferToThread(take_slice)
                self.progress(Stage.CHECKING, at, self.size)
            else:
                at = take_slice()
        self.sha256 = digest.hexdigest()


def _open(path: Path) -> BinaryIO:
    # A pipe that nobody writes into would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(EINVAL, "this is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


async def outgoing(
    what: str | os.PathLike[str] | BinaryIO,
    name: str | None = None,
    progress: Progress | None = None,
) -> Outgoing:
    """
    Make a file ready to be sent.

    Args:
        what: a path; or an open file, binary and seekable, all of which is sent
            and which stays the caller's.
        name: what it is to be called; else as the path, which an open file must
            have then.
        progress: is told how much is read, and later how much is sent.

    Raises:
        OSError: it cannot be read, or is no regular file.
        MisuseError: its name will not do, or it has none.
    """
    if isinstance(what, str | os.PathLike):
        path = Path(what)
        file = _open(path)
        name = path.name if name is None else name
    else:
        file = what
        own = getattr(file, "name", None)
        if name is None and isinstance(own, str):
            name = Path(own).name
    try:
        name = file_name(name or "")
    except PeerError as error:
        if file is not what:
            file.close()
        raise MisuseError(f"{error.words}; give it another") from None
    size = file.seek(0, os.SEEK_END)
    made = Outgoing(
        file, name, size, progress=progress or ignore, is_own=file is not what
    )
    try:
        await made.hash()
    except BaseException:
        made.close()
        raise
    return made
