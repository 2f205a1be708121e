"""
File encryption: segments of 1 MiB that can be opened one by one.

The STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, "Online
authenticated-encryption and its nonce-reuse misuse-resistance", CRYPTO 2015), as
age uses it: the nonce of a segment is its number and whether it is the last.  So
segments cannot be changed, left out, doubled or put in another order, and a file
cannot be cut short, without its opening failing.
"""

import secrets

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securerecv.errors import MisuseError, StorageError

SEGMENT_BYTES = 1024 * 1024
"""Plaintext of every segment but the last, which may have less."""

TAG_BYTES = 16
SEALED_SEGMENT_BYTES = SEGMENT_BYTES + TAG_BYTES
FILE_KEY_BYTES = 32
FILE_ID_BYTES = 8

_NUMBER_BYTES = 11

Writable = bytearray | memoryview
Readable = bytes | bytearray | memoryview


def new_file_key() -> bytes:
    """Make the key of one new file: 32 random bytes."""
    return secrets.token_bytes(FILE_KEY_BYTES)


@frozen
class Layout:
    """
    How a file of a known size is cut.

    Attributes:
        size: bytes of the plaintext; an empty file is one empty segment.
    """

    size: int

    @property
    def segments(self) -> int:
        """How many there are, at least one."""
        return max(1, -(-self.size // SEGMENT_BYTES))

    @property
    def sealed_size(self) -> int:
        """Bytes of all sealed segments."""
        return self.size + self.segments * TAG_BYTES

    def length(self, number: int) -> int:
        """
        Give the bytes of plaintext in a segment.

        Raises:
            MisuseError: there is no such segment.
        """
        if not 0 <= number < self.segments:
            raise MisuseError(f"there is no segment {number}")
        return min(SEGMENT_BYTES, self.size - number * SEGMENT_BYTES)

    def is_last(self, number: int) -> bool:
        """Tell whether a segment ends the file."""
        return number == self.segments - 1

    def whole_segments(self, sealed_bytes: int) -> int:
        """Give how many segments are whole in the first bytes of a sealed file."""
        if sealed_bytes >= self.sealed_size:
            return self.segments
        return min(self.segments - 1, sealed_bytes // SEALED_SEGMENT_BYTES)


class SegmentCipher:
    """
    Seals and opens the segments of one file.

    Args:
        key: 32 bytes from `new_file_key`, of this file alone.
        file_id: 8 bytes; bound into every segment.
        layout: says which segment is the last.
    """

    def __init__(self, key: bytes, file_id: bytes, layout: Layout) -> None:
        self._cipher = AESGCM(key)
        self._file_id = file_id
        self._layout = layout

    def seal_into(self, number: int, plaintext: Readable, sealed: Writable) -> int:
        """
        Encrypt a segment.

        Args:
            number: of the segment, from 0.
            plaintext: as many bytes as the segment has.
            sealed: where ciphertext and tag are put, from its beginning on.

        Returns:
            How many bytes were put there: 16 more than the plaintext has.

        Raises:
            MisuseError: there is no such segment, or it has another length.
        """
        size = self._check_length(number, len(plaintext)) + TAG_BYTES
        with memoryview(sealed)[:size] as place:
            # The key is of this file alone, and a segment is sealed once.  Only
            # where a crash cut it off on disk is it sealed once more when the
            # sender goes on: from the same bytes, so into the same ciphertext.  A
            # sender who lies about them gains nothing: both plaintexts are the
            # sender's own, and unless the second is what was announced, file and
            # key are destroyed.
            return self._cipher.encrypt_into(
                self._nonce(number), plaintext, self._file_id, place
            )

    def open_into(self, number: int, sealed: Readable, plaintext: Writable) -> int:
        """
        Decrypt a segment.

        Args:
            number: of the segment, from 0.
            sealed: ciphertext and tag.
            plaintext: where the plaintext is put, from its beginning on.

        Returns:
            How many bytes were put there.

        Raises:
            StorageError: it was changed, moved, or cut short on disk.
        """
        size = self._layout.length(number)
        if len(sealed) != size + TAG_BYTES:
            raise _damaged()
        with memoryview(plaintext)[:size] as place:
            try:
                return self._cipher.decrypt_into(
                    self._nonce(number), sealed, self._file_id, place
                )
            except InvalidTag:
                raise _damaged() from None

    def _check_length(self, number: int, size: int) -> int:
        if size != self._layout.length(number):
            raise MisuseError(f"segment {number} does not have {size} bytes")
        return size

    def _nonce(self, number: int) -> bytes:
        last = self._layout.is_last(number)
        return number.to_bytes(_NUMBER_BYTES) + bytes([last])


def _damaged() -> StorageError:
    return StorageError("a file on disk is damaged")
