"""The sealed content of files on the disk, with all that can happen to it there."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import OperatorError, StorageError, StorageFullError
from securerecv.vault.blobs import PLACE_BYTES, Blob, Blobs, open_blobs
from securerecv.vault.filereader import FileReader
from securerecv.vault.filewriter import FileWriter, Progress
from securerecv.vault.segments import (
    SEALED_SEGMENT_BYTES,
    SEALING_BYTES,
    SEGMENT_BYTES,
    new_file_key,
)
from tests.vaults import contents_of

FILE_ID = bytes(range(8))
SIZES = (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1)
LARGE = 3 * SEGMENT_BYTES + 7


class ContentTests(SynchronousTestCase):
    """Writing and reading one file."""

    def setUp(self) -> None:
        """Make a folder, and a content."""
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir(mode=0o700)
        self.blobs = open_blobs(self.data)
        self.key = new_file_key()
        self.content = secrets.token_bytes(LARGE)
        self.path = self.data / "files" / FILE_ID.hex()

    def writer(self, size: int = LARGE, before: Progress | None = None) -> FileWriter:
        """Begin to write, or go on."""
        writer = FileWriter(self.blobs, FILE_ID, self.key, size)
        writer.open(before)
        self.addCleanup(writer.close)
        return writer

    def write(self, writer: FileWriter, content: bytes, segments: int) -> None:
        """Write the next few segments."""
        for _ in range(segments):
            writer.write(content[writer.offset :][:SEGMENT_BYTES])

    def write_all(self, content: bytes) -> bool:
        """Write a file and finish it."""
        writer = self.writer(len(content))
        while writer.offset < len(content):
            self.write(writer, content, 1)
        return writer.finish(hashlib.sha256(content).digest())

    def reader(self, size: int = LARGE) -> FileReader:
        """Begin to read."""
        reader = FileReader(self.blobs, FILE_ID, self.key, size)
        self.addCleanup(reader.close)
        return reader

    def read_all(self, size: int) -> bytes:
        """Read a file from a memfd."""
        descriptor = self.reader(size).copy_to_memory()
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            return file.read()

    def test_round_trip(self) -> None:
        """What was written is read, at sizes around those of segments."""
        for size in (*SIZES, LARGE):
            content = self.content[:size]
            self.assertTrue(self.write_all(content))
            self.assertEqual(self.read_all(size), content)
            self.assertEqual(
                self.path.stat().st_size,
                size + SEALING_BYTES * max(1, -(-size // SEGMENT_BYTES)),
            )
            self.blobs.delete(FILE_ID)

    def test_not_opened(self) -> None:
        """Where the disk fails while it is read again, nothing is left open."""
        writer = self.writer()
        self.write(writer, self.content, 2)
        writer.close()

        def fail(*_: object) -> memoryview:
            raise StorageError

        self.patch(Blob, "read", fail)
        self.assertRaises(StorageError, self.writer)
        links = [
            link.readlink()
            for link in Path("/proc/self/fd").iterdir()
            if link.is_symlink()
        ]
        self.assertNotIn(self.path, links)

    def test_modes(self) -> None:
        """Nobody else may read what is written, whatever the umask is."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.write_all(b"heron")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)

    def test_nothing_in_clear(self) -> None:
        """No part of the content is on the disk, at any step."""
        writer = self.writer()
        for _ in range(3):
            self.write(writer, self.content, 1)
            stored = contents_of(self.data)[f"files/{FILE_ID.hex()}"]
            for at in range(0, len(stored), 65_536):
                self.assertNotIn(self.content[at : at + 16], stored)

    def test_pieces(self) -> None:
        """Any piece can be read; it ends where the segment does."""
        self.write_all(self.content)
        reader = self.reader()
        for offset, size, expected in (
            (0, 1, 1),
            (5, 100, 100),
            (SEGMENT_BYTES - 10, 100, 10),
            (SEGMENT_BYTES, SEGMENT_BYTES, SEGMENT_BYTES),
            (LARGE - 3, 100, 3),
            (17, 3, 3),
        ):
            piece = reader.read(offset, size)
            self.assertEqual(piece, self.content[offset : offset + expected])

    def test_deleted_while_read(self) -> None:
        """Who reads a file that is deleted reads it to its end."""
        self.write_all(self.content)
        reader = self.reader()
        reader.read(0, 10)
        self.blobs.delete(FILE_ID)
        self.assertEqual(reader.read(LARGE - 3, 3), self.content[-3:])
        self.assertRaises(StorageError, self.reader)

    def test_memory_cannot_be_changed(self) -> None:
        """What is handed to a scanner is what was received, to the end."""
        self.write_all(self.content)
        descriptor = self.reader().copy_to_memory()
        self.addCleanup(os.close, descriptor)
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 1),
            lambda: os.pwrite(descriptor, b"x", LARGE),
        ):
            self.assertRaises(PermissionError, change)

    def test_mismatch(self) -> None:
        """A file that is not whole, or another, is seen at its end."""
        digest = hashlib.sha256(self.content).digest()
        writer = self.writer()
        self.write(writer, self.content, 3)
        self.assertFalse(writer.finish(digest))
        writer.write(b"another")
        self.assertFalse(writer.finish(digest))

    def test_go_on(self) -> None:
        """A file goes on behind its last whole segment, known or not."""
        for knows in (True, False):
            writer = self.writer()
            self.write(writer, self.content, 2)
            writer.close()
            writer = self.writer(before=writer.progress if knows else None)
            self.assertEqual(writer.offset, 2 * SEGMENT_BYTES)
            self.write(writer, self.content, 2)
            self.assertTrue(writer.finish(hashlib.sha256(self.content).digest()))
            self.assertEqual(self.read_all(LARGE), self.content)
            self.blobs.delete(FILE_ID)

    def test_torn(self) -> None:
        """A segment that a crash cut off is cut away, the others stay."""
        for extra in (1, 1000, SEALED_SEGMENT_BYTES - 1):
            writer = self.writer()
            self.write(writer, self.content, 2)
            writer.close()
            os.truncate(self.path, SEALED_SEGMENT_BYTES + extra)
            writer = self.writer()
            self.assertEqual(writer.offset, SEGMENT_BYTES)
            self.assertEqual(self.path.stat().st_size, SEALED_SEGMENT_BYTES)
            self.write(writer, self.content, 3)
            self.assertTrue(writer.finish(hashlib.sha256(self.content).digest()))
            self.blobs.delete(FILE_ID)

    def test_lost_in_a_power_cut(self) -> None:
        """What the disk lost in the middle of a file is sent again from there on."""
        writer = self.writer()
        self.write(writer, self.content, 3)
        writer.close()
        with self.path.open("r+b") as file:
            file.seek(SEALED_SEGMENT_BYTES + 5)
            file.write(bytes(4096))
        writer = self.writer()
        self.assertEqual(writer.offset, SEGMENT_BYTES)
        self.write(writer, self.content, 3)
        self.assertTrue(writer.finish(hashlib.sha256(self.content).digest()))

    def test_known_but_lost(self) -> None:
        """What is remembered of a file counts only if the disk agrees."""
        writer = self.writer()
        self.write(writer, self.content, 2)
        writer.close()
        os.truncate(self.path, SEALED_SEGMENT_BYTES)
        writer = self.writer(before=writer.progress)
        self.assertEqual(writer.offset, SEGMENT_BYTES)
        self.write(writer, self.content, 3)
        self.assertTrue(writer.finish(hashlib.sha256(self.content).digest()))

    def test_damaged(self) -> None:
        """Damage is seen when a file is read, piece by piece or as a whole."""
        self.write_all(self.content)
        with self.path.open("r+b") as file:
            file.seek(SEALED_SEGMENT_BYTES)
            file.write(b"?")
        reader = self.reader()
        self.assertEqual(reader.read(0, 5), self.content[:5])
        self.assertRaises(StorageError, reader.read, SEGMENT_BYTES, 5)
        self.assertRaises(StorageError, reader.copy_to_memory)
        self.assertEqual(reader.read(0, 5), self.content[:5])
        os.truncate(self.path, 2 * SEALED_SEGMENT_BYTES)
        self.assertRaises(StorageError, reader.read, LARGE - 1, 1)

    def test_no_room(self) -> None:
        """A full disk is told from a broken one, and what was written counts."""
        writer = self.writer()
        self.write(writer, self.content, 1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = SEALED_SEGMENT_BYTES + 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            self.assertRaises(StorageFullError, self.write, writer, self.content, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(writer.offset, SEGMENT_BYTES)
        writer.close()
        writer = self.writer(before=writer.progress)
        self.write(writer, self.content, 3)
        self.assertTrue(writer.finish(hashlib.sha256(self.content).digest()))

    def test_closed(self) -> None:
        """Nothing is written to a file that is closed."""
        writer = self.writer()
        writer.close()
        writer.close()
        self.assertRaises(StorageError, writer.write, self.content[:SEGMENT_BYTES])


class FolderTests(SynchronousTestCase):
    """The folder of blobs."""

    def setUp(self) -> None:
        """Make a data folder."""
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir(mode=0o700)
        self.folder = self.data / "files"

    def write(self, blobs: Blobs, *file_ids: bytes) -> None:
        """Make small files."""
        for file_id in file_ids:
            writer = FileWriter(blobs, file_id, new_file_key(), 1)
            writer.open()
            writer.write(b"x")
            writer.close()

    def test_place(self) -> None:
        """A folder keeps the number that it was given, and no two have the same."""
        place = open_blobs(self.data).place
        self.assertEqual(len(place), PLACE_BYTES)
        self.assertEqual(open_blobs(self.data).place, place)
        other = self.data / "other"
        self.assertNotEqual(open_blobs(other).place, place)

    def test_damaged_place(self) -> None:
        """A damaged number is not replaced: files would be given up for it."""
        open_blobs(self.data)
        for content in (b"", b"xyz\n", b"\xff" * 33, b"ab" * 15):
            (self.folder / "place").write_bytes(content)
            self.assertRaises(OperatorError, open_blobs, self.data)

    def test_lax_folder(self) -> None:
        """A folder that others may enter is refused, with what mends it."""
        open_blobs(self.data)
        self.folder.chmod(0o755)
        error = self.assertRaises(OperatorError, open_blobs, self.data)
        self.assertIn("chmod 0700", str(error))

    def test_cannot_be_made(self) -> None:
        """A file in the place of the folder is an operator's to mend."""
        self.folder.write_bytes(b"")
        self.assertRaises(OperatorError, open_blobs, self.data)

    def test_ids(self) -> None:
        """Blobs are listed, and nothing else that lies there is taken for one."""
        blobs = open_blobs(self.data)
        self.assertEqual(blobs.ids(), set())
        self.write(blobs, FILE_ID, FILE_ID[::-1])
        (self.folder / "note.txt").write_bytes(b"")
        (self.folder / "place.new").write_bytes(b"")
        self.assertEqual(blobs.ids(), {FILE_ID, FILE_ID[::-1]})
        self.assertEqual(blobs.size(FILE_ID), 1 + SEALING_BYTES)
        blobs.delete(FILE_ID)
        blobs.delete(FILE_ID)
        self.assertEqual(blobs.ids(), {FILE_ID[::-1]})
        self.assertEqual(blobs.size(FILE_ID), 0)

    def test_free_bytes(self) -> None:
        """It tells what the disk has left for somebody who is not root."""
        status = os.statvfs(self.data)
        free = open_blobs(self.data).free_bytes()
        self.assertLess(abs(free - status.f_bavail * status.f_frsize), 1 << 32)
