"""Writing the content of one file: hashed, sealed, and handed to the disk."""

import hashlib
import threading
from typing import NamedTuple, Protocol

from securerecv.errors import StorageError
from securerecv.vault.blobs import Blob, Blobs
from securerecv.vault.segments import (
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    Layout,
    Readable,
    SegmentCipher,
)

_scratch = threading.local()


class Digest(Protocol):
    """SHA-256 of what has come so far, as `hashlib` has it."""

    def update(self, data: Readable, /) -> None:
        """Add to it."""

    def digest(self) -> bytes:
        """Give the 32 bytes."""


class Progress(NamedTuple):
    """How far a file has come: its whole segments, and their SHA-256."""

    segments: int
    digest: Digest


class FileWriter:
    """
    Takes the segments of a file, one after the other.

    Its methods wait for the disk, and are called by one thread at a time.

    Args:
        blobs: where it is written.
        file_id: 8 bytes.
        key: of this file alone.
        size: of the whole content.
    """

    def __init__(self, blobs: Blobs, file_id: bytes, key: bytes, size: int) -> None:
        self._blobs = blobs
        self._file_id = file_id
        self._layout = Layout(size)
        self._cipher = SegmentCipher(key, file_id, self._layout)
        self._blob: Blob | None = None
        self._progress = Progress(0, hashlib.sha256())

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        return self._progress

    @property
    def offset(self) -> int:
        """How many bytes of the content are there."""
        return min(self._progress.segments * SEGMENT_BYTES, self._layout.size)

    def open(self, before: Progress | None = None) -> None:
        """
        Begin, or go on behind the last whole segment.

        Args:
            before: how far it had come; if that is not known, what is there is
                read again.

        Raises:
            StorageError: the disk fails.
        """
        blob = self._blob = self._blobs.open(self._file_id, self._layout, make=True)
        try:
            whole = blob.whole_segments()
            if before is None or before.segments != whole:
                before = self._read_again(blob, whole)
        except BaseException:
            self.close()
            raise
        self._progress = before

    def write(self, plaintext: Readable) -> None:
        """
        Take the next segment.

        Args:
            plaintext: as many bytes as it has.

        Raises:
            StorageFullError: there is no room; it counts as not there.
            StorageError: the disk fails.
        """
        number, digest = self._progress
        sealed = _sealed_segment()
        length = self._cipher.seal_into(number, plaintext, sealed)
        self._opened().write(number, memoryview(sealed)[:length])
        # Not before: what could not be written must not be counted.
        digest.update(plaintext)
        self._progress = Progress(number + 1, digest)

    def finish(self, sha256: bytes) -> bool:
        """
        Have the file on disk, with its name in the folder.

        Returns:
            Whether it is whole, and the one that was announced.

        Raises:
            StorageError: the disk fails.
        """
        blob = self._opened()
        if self._layout.size == 0 and self._progress.segments == 0:
            self.write(b"")
        number, digest = self._progress
        if number != self._layout.segments or digest.digest() != sha256:
            return False
        blob.sync()
        self._blobs.sync()
        return True

    def close(self) -> None:
        """Let go of it; what was written stays."""
        if self._blob is not None:
            self._blob.close()
            self._blob = None

    def _opened(self) -> Blob:
        if self._blob is None:
            raise StorageError("the file is closed")
        return self._blob

    def _read_again(self, blob: Blob, whole: int) -> Progress:
        """Hash what is there, as far as it is what was written."""
        digest = hashlib.sha256()
        plaintext = bytearray(min(SEGMENT_BYTES, self._layout.size))
        for number in range(whole):
            sealed = blob.read(number, _sealed_segment())
            try:
                length = self._cipher.open_into(number, sealed, plaintext)
            except StorageError:
                # The power failed before it was on disk.
                blob.cut(number)
                return Progress(number, digest)
            digest.update(memoryview(plaintext)[:length])
        return Progress(whole, digest)


def _sealed_segment() -> bytearray:
    """Give this thread's room for one sealed segment."""
    room = getattr(_scratch, "room", None)
    if not isinstance(room, bytearray):
        room = _scratch.room = bytearray(SEALED_SEGMENT_BYTES)
    return room
