"""A file that is being received: first beside its place, then in it."""

import fcntl
import hashlib
import os
import stat
from errno import EEXIST, EINVAL, ENOENT
from pathlib import Path
from typing import BinaryIO

from twisted.internet.threads import deferToThread

from securerecv.client.content import Progress, Stage
from securerecv.client.outgoing import ignore
from securerecv.client.safenames import safe_file_name
from securerecv.errors import SecurerecvError
from securerecv.wire.filereplies import Found

_READ_BYTES = 1 << 20
_WRITE_BYTES = 1 << 18
_NEW_FILE_MODE = 0o600


class DamagedFileError(SecurerecvError):
    """What came is not what the server said would come; nothing of it is kept."""


class Incoming:
    """
    See `securerecv.client.content.Sink`: bytes that go into an open file.

    Attributes:
        offset: how many bytes have come.
        found: what is being received, once the server has said so.
        path: where it will be; None if that is not known.
        progress: is told how much has come.
    """

    def __init__(self, file: BinaryIO, progress: Progress | None = None) -> None:
        self.offset = 0
        self.found: Found | None = None
        self.path: Path | None = None
        self.progress = progress or ignore
        self._file = file
        self._digest = hashlib.sha256()

    def begin(self, found: Found) -> None:
        """See `securerecv.client.content.Sink`."""
        self.found = found
        self.progress(Stage.RECEIVING, self.offset, found.size)

    def write(self, data: bytes | memoryview) -> None:
        """See `securerecv.client.content.Sink`."""
        self._file.write(data)
        self._digest.update(data)
        self.offset += len(data)
        if self.found is not None:
            self.progress(Stage.RECEIVING, self.offset, self.found.size)

    def finish(self) -> None:
        """
        See whether it is what was announced.

        Raises:
            DamagedFileError: it is not.
        """
        self._file.flush()
        if self.found is None or self._digest.hexdigest() != self.found.sha256:
            self.discard()
            raise DamagedFileError(
                "what came is not what was sent: its SHA-256 differs; fetch it again"
            )

    def discard(self) -> None:
        """Begin anew: what is there is of no use."""
        self._digest = hashlib.sha256()
        self.offset = 0

    def close(self) -> None:
        """Let go of the file, which stays open: it is the caller's."""


class IncomingFile(Incoming):
    """
    A file in a folder; made by `incoming_file`.

    What has come is in ``<id>.part`` until it is complete, and the next attempt
    goes on behind it.  Ids are never used twice, so it is the same file's.

    Attributes:
        path: where it is when it is complete; known when the server has
            answered, if it is to be called what the server says.
    """

    def __init__(
        self, part: Path, path: Path | None, *, force: bool, progress: Progress | None
    ) -> None:
        # Nobody else may read it; and what is called so, but leads elsewhere,
        # is not followed.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(part, flags, _NEW_FILE_MODE)
        self._own: BinaryIO = os.fdopen(descriptor, "r+b", buffering=_WRITE_BYTES)
        super().__init__(self._own, progress)
        self.path = path
        self._part = part
        self._force = force

    async def resume(self) -> None:
        """
        Look at what an earlier attempt has left.

        Raises:
            SecurerecvError: another attempt is still under way.
            OSError: what is there is no regular file.
        """
        try:
            fcntl.flock(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = f"{self._part} is in use: it is being fetched already"
            raise SecurerecvError(words) from None
        status = os.fstat(self._own.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(EINVAL, "this is no regular file", str(self._part))
        if status.st_size:
            await deferToThread(self._take_what_is_there)

    def _take_what_is_there(self) -> None:
        while data := self._own.read(_READ_BYTES):
            self._digest.update(data)
            self.offset += len(data)

    def begin(self, found: Found) -> None:
        """
        See `securerecv.client.content.Sink`.

        Raises:
            FileExistsError: there is a file in its place already.
        """
        if self.path is None:
            name = safe_file_name(found.name, otherwise=self._part.stem)
            self.path = self._part.with_name(name)
        _look(self.path, force=self._force)
        super().begin(found)

    def finish(self) -> None:
        """
        See whether it is what was announced, and put it in its place.

        Raises:
            DamagedFileError: it is not.
            FileExistsError: there is a file in its place now.
        """
        super().finish()
        if self.path is None:
            return
        os.fsync(self._own.fileno())
        if self._force:
            self._part.replace(self.path)
        else:
            # Unlike renaming, this fails where there is something already.
            try:
                self.path.hardlink_to(self._part)
            except FileExistsError:
                _look(self.path, force=False)
            except OSError:
                # Some file systems have no links.
                _look(self.path, force=False)
                self._part.rename(self.path)
                return
            self._part.unlink()

    def discard(self) -> None:
        """Begin anew: what is there is of no use."""
        super().discard()
        self._own.seek(0)
        self._own.truncate()

    def close(self) -> None:
        """Let go of it; what has come stays for the next time, if it is anything."""
        if not self.offset:
            self._part.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of it, and leave what is there as it is."""
        self._own.close()


async def incoming_file(
    file_id: str,
    place: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> IncomingFile:
    """
    Get ready to receive a file.

    Args:
        file_id: its id.
        place: the path that it is to have, or the folder that it is to be in
            under the name that the server says, made harmless.
        force: whether it may take the place of another.
        progress: is told how much has come.

    Raises:
        FileExistsError: there is a file in its place already.
        OSError: it cannot be written there.
        SecurerecvError: another attempt is still under way.
    """
    made = _begin(file_id, os.fspath(place), force=force, progress=progress)
    try:
        await made.resume()
    except BaseException:
        made.release()
        raise
    return made


def _look(path: Path, *, force: bool) -> None:
    """
    See whether a file's place is free, or may be taken.

    Raises:
        FileExistsError: there is a file already.
        OSError: there is something else, a device say, which is never replaced.
    """
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "this is no regular file", str(path))
    if not force and os.path.lexists(path):
        raise FileExistsError(EEXIST, "there is such a file already", str(path))


def _begin(
    file_id: str, written: str, *, force: bool, progress: Progress | None
) -> IncomingFile:
    number = safe_file_name(file_id, otherwise="file")
    place = Path(written)
    if place.is_dir():
        part = place / f"{number}.part"
        return IncomingFile(part, None, force=force, progress=progress)
    if written.endswith(os.sep):
        raise FileNotFoundError(ENOENT, "there is no such folder", written)
    _look(place, force=force)
    part = place.with_name(f"{number}.part")
    return IncomingFile(part, place, force=force, progress=progress)
