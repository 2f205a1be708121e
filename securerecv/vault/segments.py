"""
File encryption: segments of 1 MiB that can be opened one by one.

The STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, "Online
authenticated-encryption and its nonce-reuse misuse-resistance", CRYPTO 2015), as
Tink uses it: in the nonce of a segment are its number and whether it is the last.
So segments cannot be changed, left out, doubled or put in another order, and a file
cannot be cut short, without its opening failing.

The rest of the nonce is random, and stored in front of the segment: one that was cut
off on disk is sealed once more when the sender goes on, maybe from other bytes.
"""

import secrets

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securerecv.errors import MisuseError, StorageError

SEGMENT_BYTES = 1024 * 1024
"""Plaintext of every segment but the last, which may have less."""

SALT_BYTES = 7
TAG_BYTES = 16
SEALING_BYTES = SALT_BYTES + TAG_BYTES
"""By which a sealed segment is longer than its plaintext."""

SEALED_SEGMENT_BYTES = SEGMENT_BYTES + SEALING_BYTES
FILE_KEY_BYTES = 32
FILE_ID_BYTES = 8

_NUMBER_BYTES = 4

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
        return self.size + self.segments * SEALING_BYTES

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
            sealed: where salt, ciphertext and tag are put, from its beginning on.

        Returns:
            How many bytes were put there: `SEALING_BYTES` more than the plaintext
            has.

        Raises:
            MisuseError: there is no such segment, or it has another length.
        """
        size = self._check_length(number, len(plaintext)) + SEALING_BYTES
        # The key is of this file alone, so nonces with different numbers never
        # meet.  Where a crash or a full disk has cut a segment off, the same number
        # is sealed once more, and the sender may say something else this time: only
        # then does it count that the salt is new, and that it is the same as
        # before has a probability of 2**-56.
        salt = secrets.token_bytes(SALT_BYTES)
        sealed[:SALT_BYTES] = salt
        with memoryview(sealed)[SALT_BYTES:size] as place:
            return SALT_BYTES + self._cipher.encrypt_into(
                self._nonce(salt, number), plaintext, self._file_id, place
            )

    def open_into(self, number: int, sealed: Readable, plaintext: Writable) -> int:
        """
        Decrypt a segment.

        Args:
            number: of the segment, from 0.
            sealed: salt, ciphertext and tag.
            plaintext: where the plaintext is put, from its beginning on.

        Returns:
            How many bytes were put there.

        Raises:
            StorageError: it was changed, moved, or cut short on disk.
        """
        size = self._layout.length(number)
        if len(sealed) != size + SEALING_BYTES:
            raise _damaged()
        salt = bytes(sealed[:SALT_BYTES])
        with (
            memoryview(plaintext)[:size] as place,
            memoryview(sealed)[SALT_BYTES:] as ciphertext,
        ):
            try:
                return self._cipher.decrypt_into(
                    self._nonce(salt, number), ciphertext, self._file_id, place
                )
            except InvalidTag:
                raise _damaged() from None

    def _check_length(self, number: int, size: int) -> int:
        if size != self._layout.length(number):
            raise MisuseError(f"segment {number} does not have {size} bytes")
        return size

    def _nonce(self, salt: bytes, number: int) -> bytes:
        last = self._layout.is_last(number)
        return salt + number.to_bytes(_NUMBER_BYTES) + bytes([last])


def _damaged() -> StorageError:
    return StorageError("a file on disk is damaged")
