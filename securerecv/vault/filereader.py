"""Reading the content of one file: segment by segment, or all of it into memory."""

import fcntl
import os

from securerecv.errors import StorageError
from securerecv.vault.blobs import Blobs
from securerecv.vault.segments import (
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    Layout,
    SegmentCipher,
)

_SEALS = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
)


class FileReader:
    """
    Opens the segments of a file, in any order.

    Its methods wait for the disk, and are called by one thread at a time.  It can be
    read to its end when it is deleted meanwhile.

    Args:
        blobs: where it lies.
        file_id: 8 bytes.
        key: of this file alone.
        size: of the whole content.

    Raises:
        StorageError: it is not there.
    """

    def __init__(self, blobs: Blobs, file_id: bytes, key: bytes, size: int) -> None:
        self._layout = Layout(size)
        self._cipher = SegmentCipher(key, file_id, self._layout)
        self._blob = blobs.open(file_id, self._layout)
        room = min(SEALED_SEGMENT_BYTES, self._layout.sealed_size)
        self._sealed = bytearray(room)
        self._plaintext = bytearray(min(SEGMENT_BYTES, size))
        self._opened: int | None = None

    def read(self, offset: int, size: int) -> bytes:
        """
        Read a piece.

        Args:
            offset: of its first byte, less than the size of the whole.
            size: the most bytes wanted.

        Returns:
            As many, or fewer if the segment ends before.

        Raises:
            StorageError: it is damaged.
        """
        number, start = divmod(offset, SEGMENT_BYTES)
        with memoryview(self._plaintext) as view:
            length = self._open_segment(number)
            return bytes(view[start : min(start + size, length)])

    def copy_to_memory(self) -> int:
        """
        Copy all of it into a memfd, which cannot be changed any more.

        Returns:
            Its descriptor; the caller closes it.

        Raises:
            StorageError: it is damaged, or memory is full.
        """
        descriptor = os.memfd_create("file", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for number in range(self._layout.segments):
                length = self._open_segment(number)
                with memoryview(self._plaintext) as view:
                    _write(descriptor, view[:length])
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            os.close(descriptor)
            words = f"a file cannot be held in memory: {error.strerror}"
            raise StorageError(words) from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Let go of it."""
        self._blob.close()

    def _open_segment(self, number: int) -> int:
        """Decrypt a segment, unless it was the last one; give its length."""
        if self._opened != number:
            self._opened = None
            sealed = self._blob.read(number, self._sealed)
            self._cipher.open_into(number, sealed, self._plaintext)
            self._opened = number
        return self._layout.length(number)


def _write(descriptor: int, data: memoryview) -> None:
    at = 0
    while at < len(data):
        at += os.write(descriptor, data[at:])
