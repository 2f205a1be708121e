"""
Blobs: the sealed content of files, each in a file of its own under a random id.

They lie in one folder.  Nothing here knows a key, a name or a person; what is
written was sealed before (`securerecv.vault.segments`).
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securerecv.errors import OperatorError, StorageError, StorageFullError
from securerecv.names import id_of
from securerecv.vault.keyring import check_folder, prepare_folder, write_private
from securerecv.vault.segments import (
    FILE_ID_BYTES,
    SEALED_SEGMENT_BYTES,
    SEALING_BYTES,
    Layout,
    Readable,
)

PLACE_BYTES = 16

_PLACE = "place"
_FILE_MODE = 0o600
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_WRITE_OUT_SEGMENTS = 8
"""So often the disk is told to begin writing, without being waited for."""

_SYNC_SEGMENTS = 64
"""So often it is waited for, so that it is never far behind."""


class Blob:
    """
    The content of one file, opened; for one thread at a time.

    Args:
        descriptor: closed by `close`.
        layout: how the file is cut.
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        self._descriptor = descriptor
        self._layout = layout
        self._closed = False

    def whole_segments(self) -> int:
        """Cut off a segment that was not written whole; count the others."""
        with _translated():
            size = os.fstat(self._descriptor).st_size
            whole = self._layout.whole_segments(size)
            if size != self._end(whole):
                os.ftruncate(self._descriptor, self._end(whole))
        return whole

    def cut(self, segments: int) -> None:
        """Keep only the first segments."""
        with _translated():
            os.ftruncate(self._descriptor, self._end(segments))

    def write(self, number: int, sealed: Readable) -> None:
        """
        Write a whole segment, behind those before it.

        Raises:
            StorageFullError: there is no room; the segment counts as not there.
            StorageError: the disk fails.
        """
        offset = number * SEALED_SEGMENT_BYTES
        with _translated(), memoryview(sealed) as rest:
            at = 0
            while at < len(rest):
                at += os.pwrite(self._descriptor, rest[at:], offset + at)
            self._spread(number + 1)

    def _spread(self, written: int) -> None:
        # What is given to the disk all along need not be waited for at the end.
        if written % _SYNC_SEGMENTS == 0:
            os.fdatasync(self._descriptor)
        elif written % _WRITE_OUT_SEGMENTS == 0:
            # On Linux this begins to write what is not written yet.
            size = _WRITE_OUT_SEGMENTS * SEALED_SEGMENT_BYTES
            start = written * SEALED_SEGMENT_BYTES - size
            advice = os.POSIX_FADV_DONTNEED
            os.posix_fadvise(self._descriptor, start, size, advice)

    def read(self, number: int, place: bytearray) -> memoryview:
        """
        Read a segment.

        Args:
            number: which.
            place: at least `SEALED_SEGMENT_BYTES`, or as many as are sealed in it.

        Returns:
            What was read, in ``place``; it may be too short, if the file was
            damaged.
        """
        view = memoryview(place)[: self._layout.length(number) + SEALING_BYTES]
        offset = number * SEALED_SEGMENT_BYTES
        at = 0
        with _translated():
            while at < len(view):
                count = os.preadv(self._descriptor, [view[at:]], offset + at)
                if not count:
                    break
                at += count
        return view[:at]

    def sync(self) -> None:
        """Have all of it on disk."""
        with _translated():
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close it; once is enough."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)

    def _end(self, segments: int) -> int:
        """Give where the first segments end."""
        return min(segments * SEALED_SEGMENT_BYTES, self._layout.sealed_size)


class Blobs:
    """
    The folder of blobs.  Its methods wait for the disk.

    Args:
        folder: made by `open_blobs`.
        place: 16 bytes that stand for this folder, where several servers share
            a store but not their disks.
    """

    def __init__(self, folder: Path, place: bytes) -> None:
        self._folder = folder
        self.place = place

    def open(self, file_id: bytes, layout: Layout, *, make: bool = False) -> Blob:
        """
        Open a blob.

        Args:
            file_id: which.
            layout: how it is cut.
            make: whether it is written; it is then made if it is not there.

        Raises:
            StorageError: it is not there, or cannot be opened.
        """
        flags = os.O_RDWR | os.O_CREAT if make else os.O_RDONLY
        with _translated():
            return Blob(os.open(self._path(file_id), flags, _FILE_MODE), layout)

    def size(self, file_id: bytes) -> int:
        """Give the bytes of a blob, 0 if there is none."""
        try:
            return self._path(file_id).stat().st_size
        except FileNotFoundError:
            return 0

    def delete(self, file_id: bytes) -> None:
        """
        Delete a blob, if it is there.

        What it held is sealed: with its key the content is gone.
        """
        with _translated():
            self._path(file_id).unlink(missing_ok=True)

    def ids(self) -> set[bytes]:
        """Give the ids of all blobs."""
        with _translated():
            found = [id_of(p.name, FILE_ID_BYTES) for p in self._folder.iterdir()]
        return {file_id for file_id in found if file_id is not None}

    def sync(self) -> None:
        """Have on disk which blobs there are."""
        with _translated():
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self) -> int:
        """Tell how much room the disk has for this process."""
        with _translated():
            status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def _path(self, file_id: bytes) -> Path:
        return self._folder / file_id.hex()


def open_blobs(data: Path) -> Blobs:
    """
    Open the folder of blobs in a data folder; make it if there is none.

    Raises:
        OperatorError: it is readable by others, damaged, or cannot be made.
    """
    folder = data / "files"
    place = folder / _PLACE
    try:
        prepare_folder(folder)
        check_folder(folder)
        if not place.exists():
            line = secrets.token_hex(PLACE_BYTES) + "\n"
            write_private(place, line.encode())
        written = place.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise OperatorError(f"{error.filename or folder}: {error.strerror}") from None
    number = id_of(written.strip(), PLACE_BYTES)
    if number is None:
        raise OperatorError(f"{place} is damaged: restore it from a backup")
    return Blobs(folder, number)


@contextmanager
def _translated() -> Iterator[None]:
    """Make the errors of the file system ours; no path is in their words."""
    try:
        yield
    except OSError as error:
        words = f"a file cannot be stored or read: {error.strerror}"
        if error.errno in _NO_ROOM:
            raise StorageFullError(words) from error
        raise StorageError(words) from error
