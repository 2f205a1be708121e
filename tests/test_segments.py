"""Files are sealed in segments, and open only as they were sealed."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import MisuseError, StorageError
from securerecv.vault.segments import (
    SALT_BYTES,
    SEALED_SEGMENT_BYTES,
    SEALING_BYTES,
    SEGMENT_BYTES,
    Layout,
    SegmentCipher,
    new_file_key,
)

FILE_ID = bytes(range(8))
SIZES = (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES)


def seal(key: bytes, content: bytes, file_id: bytes = FILE_ID) -> list[bytes]:
    """Seal a content as a file of its own."""
    layout = Layout(len(content))
    cipher = SegmentCipher(key, file_id, layout)
    sealed = []
    for number in range(layout.segments):
        place = bytearray(SEALED_SEGMENT_BYTES)
        plaintext = content[number * SEGMENT_BYTES :][: layout.length(number)]
        sealed.append(bytes(place[: cipher.seal_into(number, plaintext, place)]))
    return sealed


def open_all(
    key: bytes, segments: list[bytes], size: int, file_id: bytes = FILE_ID
) -> bytes:
    """Open segments as a file of a size."""
    cipher = SegmentCipher(key, file_id, Layout(size))
    place = bytearray(SEGMENT_BYTES)
    content = b""
    for number, sealed in enumerate(segments):
        content += place[: cipher.open_into(number, sealed, place)]
    return content


class LayoutTests(SynchronousTestCase):
    """How files are cut."""

    def test_edges(self) -> None:
        """A file of whole segments has no empty one behind them."""
        expected = {
            0: [0],
            1: [1],
            SEGMENT_BYTES - 1: [SEGMENT_BYTES - 1],
            SEGMENT_BYTES: [SEGMENT_BYTES],
            SEGMENT_BYTES + 1: [SEGMENT_BYTES, 1],
            3 * SEGMENT_BYTES: [SEGMENT_BYTES] * 3,
        }
        for size, lengths in expected.items():
            layout = Layout(size)
            numbers = range(layout.segments)
            self.assertEqual([layout.length(n) for n in numbers], lengths)
            last = [False] * (len(lengths) - 1) + [True]
            self.assertEqual([layout.is_last(n) for n in numbers], last)
            self.assertEqual(layout.sealed_size, size + SEALING_BYTES * len(lengths))

    def test_no_such_segment(self) -> None:
        """There is nothing before the first and behind the last."""
        layout = Layout(SEGMENT_BYTES)
        for number in (-1, 1):
            self.assertRaises(MisuseError, layout.length, number)

    def test_whole_segments(self) -> None:
        """What is cut off does not count, however little of it is missing."""
        layout = Layout(2 * SEGMENT_BYTES + 5)
        whole = SEALED_SEGMENT_BYTES
        for sealed_bytes, segments in (
            (0, 0),
            (whole - 1, 0),
            (whole, 1),
            (2 * whole, 2),
            (2 * whole + 5 + SEALING_BYTES - 1, 2),
            (2 * whole + 5 + SEALING_BYTES, 3),
            (9 * whole, 3),
        ):
            self.assertEqual(layout.whole_segments(sealed_bytes), segments)
        self.assertEqual(Layout(0).whole_segments(SEALING_BYTES - 1), 0)
        self.assertEqual(Layout(0).whole_segments(SEALING_BYTES), 1)

    @given(st.integers(0, 5 * SEGMENT_BYTES))
    def test_any_size(self, size: int) -> None:
        """The segments make up the file, whatever its size."""
        layout = Layout(size)
        lengths = [layout.length(number) for number in range(layout.segments)]
        assert sum(lengths) == size
        assert layout.whole_segments(layout.sealed_size) == layout.segments


class SegmentTests(SynchronousTestCase):
    """Sealing and opening."""

    def setUp(self) -> None:
        """Make a key."""
        self.key = new_file_key()

    def test_round_trip(self) -> None:
        """What was sealed is opened, at sizes around those of segments."""
        for size in SIZES:
            content = secrets.token_bytes(size)
            sealed = seal(self.key, content)
            self.assertEqual(len(b"".join(sealed)), Layout(size).sealed_size)
            self.assertEqual(open_all(self.key, sealed, size), content)

    def test_form(self) -> None:
        """It is AES-256-GCM with the nonce and the id that the protocol says."""
        content = secrets.token_bytes(SEGMENT_BYTES + 3)
        cipher = AESGCM(self.key)
        first, second = seal(self.key, content)
        for sealed, rest_of_nonce, plaintext in (
            (first, bytes(5), content[:SEGMENT_BYTES]),
            (second, b"\0\0\0\x01\x01", content[SEGMENT_BYTES:]),
        ):
            salt = sealed[:SALT_BYTES]
            ciphertext = cipher.encrypt(salt + rest_of_nonce, plaintext, FILE_ID)
            self.assertEqual(sealed, salt + ciphertext)

    def test_sealed_again(self) -> None:
        """One segment sealed from other bytes has another nonce: nothing is shared."""
        key = self.key
        (first,), (second,) = seal(key, b"the heron"), seal(key, b"the egret")
        self.assertNotEqual(first[:SALT_BYTES], second[:SALT_BYTES])
        # Under one nonce the plaintexts' common beginning would show.
        common = slice(SALT_BYTES, SALT_BYTES + 4)
        self.assertNotEqual(first[common], second[common])
        self.assertEqual(open_all(key, [second], 9), b"the egret")

    def assert_damaged(
        self, segments: list[bytes], size: int, file_id: bytes = FILE_ID
    ) -> None:
        """See that these do not open."""
        self.assertRaises(
            StorageError, open_all, self.key, segments, size, file_id=file_id
        )

    def test_cut_short(self) -> None:
        """A file that ends early at a segment does not open as a shorter one."""
        sealed = seal(self.key, bytes(3 * SEGMENT_BYTES))
        self.assert_damaged(sealed[:2], 2 * SEGMENT_BYTES)

    def test_made_longer(self) -> None:
        """Nothing can be put behind the last segment."""
        sealed = seal(self.key, bytes(SEGMENT_BYTES))
        self.assert_damaged(sealed * 2, 2 * SEGMENT_BYTES)

    def test_order(self) -> None:
        """Segments do not open in each other's places."""
        first, second, last = seal(self.key, bytes(3 * SEGMENT_BYTES))
        self.assert_damaged([second, first, last], 3 * SEGMENT_BYTES)
        self.assert_damaged([first, first, last], 3 * SEGMENT_BYTES)

    def test_changed(self) -> None:
        """A changed bit is seen, in ciphertext and tag."""
        (sealed,) = seal(self.key, b"heron")
        for at in range(len(sealed)):
            changed = bytearray(sealed)
            changed[at] ^= 1
            self.assert_damaged([bytes(changed)], 5)

    def test_length(self) -> None:
        """A segment that is longer or shorter than it should be does not open."""
        (sealed,) = seal(self.key, b"heron")
        for other in (sealed[:-1], sealed + b"x", b""):
            self.assert_damaged([other], 5)

    def test_other_file(self) -> None:
        """Id and key are of one file alone."""
        sealed = seal(self.key, b"heron")
        self.assert_damaged(sealed, 5, file_id=FILE_ID[::-1])
        self.assertRaises(StorageError, open_all, new_file_key(), sealed, 5)

    def test_misuse(self) -> None:
        """Only whole segments are sealed."""
        cipher = SegmentCipher(self.key, FILE_ID, Layout(SEGMENT_BYTES + 1))
        place = bytearray(SEALED_SEGMENT_BYTES)
        for number, plaintext in ((0, b"x"), (1, b"xx"), (1, b""), (2, b"")):
            self.assertRaises(MisuseError, cipher.seal_into, number, plaintext, place)
