"""The client's side of files, against a real server over TLS and a line that breaks."""

from __future__ import annotations

import fcntl
import hashlib
import io
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.client.client import Client
from securerecv.client.content import Stage
from securerecv.client.contentsender import PIECE_BYTES
from securerecv.client.errors import DisconnectedError
from securerecv.client.incoming import DamagedFileError, incoming_file
from securerecv.client.outgoing import SLICE_BYTES, ChangedFileError, outgoing
from securerecv.client.safenames import safe_file_name
from securerecv.errors import ErrorCode, MisuseError, PeerError, SecurerecvError
from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.session import Terms
from tests.clientends import failing
from tests.filehouse import FileHouse, Line
from tests.support import new_folder, pause

LARGE = Random(7).randbytes(8 * PIECE_BYTES + 12345)  # noqa: S311 - so that a failure can be repeated
SMALL = b"hello\n"


class FilesTestCase(TestCase):
    """What the cases here have in common."""

    def setUp(self) -> None:
        """Open a house, and a folder for files."""
        self.server = FileHouse(self)
        self.files = self.server.house.files
        self.folder = new_folder(self)
        self.folder.mkdir()

    async def enter(self, port: int | None = None) -> Client:
        """Log in as bob; it is ended with the test."""
        return await self.server.enter("bob", port)

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path


class PutTests(FilesTestCase):
    """Sending files."""

    async def test_path(self) -> None:
        """A file of any size arrives whole, under its own name or another."""
        client = await self.enter()
        for content in (b"", b"x", SMALL, LARGE, bytes(PIECE_BYTES)):
            path = self.write("größe 1.txt", content)
            receipt = await client.put("alice", path)
            kept = self.files.kept[receipt.id]
            self.assertIs(receipt.state, FileState.CLEAN)
            self.assertEqual(kept.content, content)
            self.assertEqual(kept.record.name, "größe 1.txt")
            again = await client.put("alice", str(path), "文件")
            self.assertEqual(self.files.kept[again.id].record.name, "文件")
        await client.quit()

    async def test_open_file(self) -> None:
        """An open file is sent from its beginning, and stays open."""
        client = await self.enter()
        file = io.BytesIO(SMALL)
        file.read(3)
        receipt = await client.put("alice", file, "x")
        self.assertEqual(self.files.kept[receipt.id].content, SMALL)
        self.assertFalse(file.closed)
        await failing(client.put("alice", file), MisuseError)
        await client.quit()

    async def test_progress(self) -> None:
        """One is told how far it is, while it is read and while it is sent."""
        client = await self.enter()
        told: list[tuple[Stage, int, int]] = []
        size = SLICE_BYTES + 5
        path = self.write("x", bytes(size))
        await client.put("alice", path, None, lambda *now: told.append(now))
        for stage in (Stage.CHECKING, Stage.SENDING):
            done = [count for where, count, _ in told if where is stage]
            self.assertEqual(done, sorted(done))
            self.assertEqual(done[-1], size)
            self.assertGreater(len(done), 1)
        self.assertEqual({total for _, _, total in told}, {size})
        await client.quit()

    async def test_refused(self) -> None:
        """A file that is refused is not sent, and what was asked behind it goes on."""
        client = await self.enter()
        path = self.write("x", LARGE)
        sent = client.put("nobody", path)
        behind = client.ping()
        error = await failing(sent, PeerError)
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)
        await behind
        await client.quit()

    async def test_too_large(self) -> None:
        """A file that the server does not take is not even announced."""
        server = FileHouse(self, Terms(1000, 5, 5, True, bytes(32)))
        client = await server.enter()
        error = await failing(client.put("alice", self.write("x", SMALL)), PeerError)
        self.assertIs(error.code, ErrorCode.TOO_LARGE)
        self.assertEqual(server.house.files.uploads, [])
        await client.quit()

    async def test_others_wait(self) -> None:
        """What is asked while a file is sent comes behind it, not into it."""
        client = await self.enter()
        ready = await outgoing(self.write("x", LARGE))
        first = client.put("alice", ready)
        ping = client.ping()
        second = client.put("alice", io.BytesIO(SMALL), "y")
        name = client.whoami()
        receipts = [await first, await second]
        await ping
        self.assertEqual(await name, "bob")
        contents = [self.files.kept[receipt.id].content for receipt in receipts]
        self.assertEqual(contents, [LARGE, SMALL])
        ready.close()
        await client.quit()

    async def test_slow_server(self) -> None:
        """A server that takes its time gets no more than it can hold."""
        self.files.is_slow = True
        client = await self.enter()
        ready = await outgoing(self.write("x", bytes(50_000_000)))
        done: list[int] = []
        ready.progress = lambda _stage, count, _total: done.append(count)
        sent = client.put("alice", ready)
        for _ in range(20):
            await pause(0.01)
        held = done[-1]
        self.assertLess(held, 30_000_000)
        for _ in range(20):
            await pause(0.01)
        self.assertEqual(done[-1], held)
        self.files.is_slow = False
        self.files.go_on()
        await sent
        ready.close()
        await client.quit()

    async def test_mismatch(self) -> None:
        """A file that changed while it was sent is refused; the talk goes on."""
        client = await self.enter()
        ready = await outgoing(self.write("x", SMALL))
        self.write("x", SMALL[::-1])
        error = await failing(client.put("alice", ready), PeerError)
        self.assertIs(error.code, ErrorCode.MISMATCH)
        ready.close()
        await client.ping()
        await client.quit()

    async def test_shortened(self) -> None:
        """A file that became shorter cannot be sent, and that is the end."""
        client = await self.enter()
        ready = await outgoing(self.write("x", LARGE))
        self.write("x", SMALL)
        await failing(client.put("alice", ready), ChangedFileError)
        await failing(client.closed(), ChangedFileError)
        ready.close()

    async def test_no_file(self) -> None:
        """What is no file is said so, and the talk goes on."""
        client = await self.enter()
        await failing(client.put("alice", self.folder / "none"), FileNotFoundError)
        error = await failing(client.put("alice", self.folder), OSError)
        self.assertIn("no regular file", str(error))
        await failing(client.put("alice", "/dev/null"), OSError)
        await client.ping()
        await client.quit()

    async def test_broken_line(self) -> None:
        """Wherever the line breaks, the next attempt goes on; it all arrives."""
        line = Line(self, self.server.port)
        path = self.write("x", LARGE)
        ready = await outgoing(path)
        offsets: list[int] = []
        for up in (1, 100, 3000, 100_000, 300_000, 500_000, 500_001):
            client = await self.enter(line.port)
            line.break_after(up=up)
            await failing(client.put("alice", ready), DisconnectedError)
            while not all(upload.is_over for upload in self.files.uploads):
                await pause(0.01)
            offsets += [upload.offset for upload in self.files.uploads[-1:]]
        client = await self.enter(line.port)
        receipt = await client.put("alice", ready)
        self.assertEqual(self.files.kept[receipt.id].content, LARGE)
        self.assertEqual(offsets, sorted(offsets))
        self.assertGreater(self.files.uploads[-1].offset, 1_000_000)
        self.assertEqual(len(self.files.kept), 1)
        ready.close()
        await client.quit()

    async def test_answer_is_lost(self) -> None:
        """When only the last answer is lost, sending again sends nothing."""
        line = Line(self, self.server.port)
        client = await self.enter(line.port)
        ready = await outgoing(self.write("x", SMALL))
        self.files.is_slow = True
        sent = client.put("alice", ready)
        while self.files.writing is None:
            await pause(0.01)
        self.files.is_slow = False
        line.break_after(up=0, down=0)
        self.files.go_on()
        await failing(sent, DisconnectedError)
        client = await self.enter()
        receipt = await client.put("alice", ready)
        self.assertIs(receipt.state, FileState.CLEAN)
        self.assertEqual(self.files.uploads[-1].offset, len(SMALL))
        ready.close()
        await client.quit()


class GetTests(FilesTestCase):
    """Fetching files."""

    async def test_folder(self) -> None:
        """A file of any size comes whole, under its name, and nothing else is left."""
        client = await self.enter()
        for number, content in enumerate((b"", SMALL, LARGE)):
            file_id = self.files.add("bob", content, f"größe {number}")
            found = await client.get(file_id, self.folder)
            self.assertEqual(found.size, len(content))
            path = self.folder / f"größe {number}"
            self.assertEqual(path.read_bytes(), content)
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(len(list(self.folder.iterdir())), 3)
        await client.quit()

    async def test_path_and_open_file(self) -> None:
        """A file goes where it is to go."""
        client = await self.enter()
        file_id = self.files.add("bob", LARGE, "x")
        await client.get(file_id, self.folder / "mine")
        self.assertEqual((self.folder / "mine").read_bytes(), LARGE)
        file = io.BytesIO()
        await client.get(file_id, file)
        self.assertEqual(file.getvalue(), LARGE)
        await client.quit()

    async def test_progress(self) -> None:
        """One is told how much has come."""
        client = await self.enter()
        told: list[tuple[Stage, int, int]] = []
        file_id = self.files.add("bob", LARGE, "x")
        await client.get(file_id, self.folder, lambda *now: told.append(now))
        self.assertEqual(told[0], (Stage.RECEIVING, 0, len(LARGE)))
        self.assertEqual(told[-1], (Stage.RECEIVING, len(LARGE), len(LARGE)))
        await client.quit()

    async def test_never_over_another(self) -> None:
        """A file that is there stays as it is, unless it was said otherwise."""
        client = await self.enter()
        file_id = self.files.add("bob", SMALL, "x")
        path = self.write("x", b"mine")
        await failing(client.get(file_id, path), FileExistsError)
        await client.ping()
        # Here the name is known only when the server has answered.
        await failing(client.get(file_id, self.folder), FileExistsError)
        await failing(client.closed(), FileExistsError)
        self.assertEqual(path.read_bytes(), b"mine")
        self.assertEqual(list(self.folder.iterdir()), [path])
        client = await self.enter()
        await client.get(file_id, self.folder, force=True)
        self.assertEqual(path.read_bytes(), SMALL)
        self.assertEqual(list(self.folder.iterdir()), [path])
        await client.quit()

    async def test_taken_meanwhile(self) -> None:
        """Nor does a file take the place of one that appeared while it came."""
        client = await self.enter()
        file_id = self.files.add("bob", SMALL, "x")
        target = await incoming_file(file_id, self.folder)
        begin = target.begin

        def begin_late(found: object) -> None:
            begin(found)  # type: ignore[arg-type]  # handed on as given
            self.write("x", b"mine")

        self.patch(target, "begin", begin_late)
        await failing(client.get(file_id, target), FileExistsError)
        target.close()
        self.assertEqual((self.folder / "x").read_bytes(), b"mine")
        await client.get(file_id, self.folder / "y")
        self.assertEqual((self.folder / "y").read_bytes(), SMALL)
        await client.quit()

    async def test_others_wait(self) -> None:
        """Answers behind a file are told from its content."""
        client = await self.enter()
        file_id = self.files.add("bob", b"+OK pong\n", "x")
        file = io.BytesIO()
        fetched = client.get(file_id, file)
        ping, listed = client.ping(), client.files()
        await fetched
        await ping
        self.assertEqual([record.id for record in await listed], [file_id])
        self.assertEqual(file.getvalue(), b"+OK pong\n")
        await client.quit()

    async def test_broken_line(self) -> None:
        """Wherever the line breaks, the next attempt goes on from there."""
        line = Line(self, self.server.port)
        file_id = self.files.add("bob", LARGE, "x")
        for down in (1, 50, 150, 4000, 100_000, 300_000, 400_000):
            client = await self.enter(line.port)
            line.break_after(down=down)
            await failing(client.get(file_id, self.folder), DisconnectedError)
        client = await self.enter(line.port)
        await client.get(file_id, self.folder)
        [path] = self.folder.iterdir()
        self.assertEqual(path.read_bytes(), LARGE)
        first = self.files.downloads[-1].reads[0][0]
        self.assertGreater(first, 600_000)
        await client.quit()

    async def test_damaged(self) -> None:
        """What is not what it should be is not kept, and can be fetched again."""
        client = await self.enter()
        file_id = self.files.add("bob", LARGE, "x")
        part = self.write(f"{file_id}.part", b"something else")
        await failing(client.get(file_id, self.folder), DamagedFileError)
        self.assertFalse(part.exists())
        await client.get(file_id, self.folder)
        self.assertEqual((self.folder / "x").read_bytes(), LARGE)
        await client.quit()

    async def test_two_at_once(self) -> None:
        """Two attempts for one file do not write into each other's."""
        client = await self.enter()
        file_id = self.files.add("bob", SMALL, "x")
        part = self.folder / f"{file_id}.part"
        with part.open("wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            error = await failing(client.get(file_id, self.folder), SecurerecvError)
            self.assertIn("being fetched already", str(error))
            self.assertTrue(part.exists())
        await client.get(file_id, self.folder)
        await client.quit()

    async def test_led_elsewhere(self) -> None:
        """A part that leads elsewhere is not followed."""
        client = await self.enter()
        file_id = self.files.add("bob", SMALL, "x")
        elsewhere = self.write("elsewhere", b"mine")
        (self.folder / f"{file_id}.part").symlink_to(elsewhere)
        await failing(client.get(file_id, self.folder), OSError)
        self.assertEqual(elsewhere.read_bytes(), b"mine")
        await client.quit()

    async def test_refused(self) -> None:
        """What cannot be had leaves nothing behind, and the talk goes on."""
        client = await self.enter()
        for file_id in ("00ff", "../../x"):
            error = await failing(client.get(file_id, self.folder), PeerError)
            self.assertIs(error.code, ErrorCode.NO_SUCH_ID)
        self.assertEqual(list(self.folder.iterdir()), [])
        await client.quit()

    async def test_full_disk(self) -> None:
        """What cannot be written ends the conversation, and says why."""
        client = await self.enter()
        file_id = self.files.add("bob", LARGE, "x")
        full = io.FileIO("/dev/full", "w")
        error = await failing(client.get(file_id, full), OSError)
        full.close()
        self.assertIn("No space left", str(error))
        await failing(client.closed(), OSError)


class OtherTests(FilesTestCase):
    """What else is said about files."""

    async def test_list(self) -> None:
        """Files are listed with all that is known of them."""
        client = await self.enter()
        first = self.files.add("bob", SMALL, "a b")
        second = self.files.add("bob", b"", "c")
        self.files.find(second, FileState.INFECTED)
        records = await client.files()
        self.assertEqual(records, [self.files.kept[n].record for n in (first, second)])
        self.assertEqual(records[1].why, "Some-Signature")
        await client.drop(first)
        self.assertEqual([record.id for record in await client.files()], [second])
        await client.quit()

    async def test_watch(self) -> None:
        """Who watches is told of files, and once more why one is not to be had."""
        client = await self.enter()
        told: list[FileRecord] = []
        enough: Deferred[None] = Deferred()

        def on_file(record: FileRecord) -> None:
            told.append(record)
            if len(told) == 3:
                enough.callback(None)

        await client.watch(lambda _: None, on_file)
        digest = hashlib.sha256(b"").hexdigest()
        clean = FileRecord("01", FileState.CLEAN, 0, digest, "anon", 1000, "x")
        held = FileRecord(
            "02", FileState.HELD, 0, digest, "anon", 2000, "y", "no clamd"
        )
        self.server.house.announcer.announce("bob", clean)
        self.server.house.announcer.announce("bob", held)
        await enough
        self.assertEqual([told[0], told[2]], [clean, held])
        self.assertEqual((told[1].id, told[1].why), ("02", ""))
        await client.quit()


class SafeNameTests(SynchronousTestCase):
    """Names of files that came from elsewhere."""

    def test_names(self) -> None:
        """A name leads nowhere, hides nothing, and is taken for no option."""
        for written, name in [
            ("Grüße 世界.txt", "Grüße 世界.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y", "y"),
            (".bashrc", "_bashrc"),
            ("-rf", "_rf"),
            ("~root", "_root"),
            ("a\u202egpj.exe", "a_gpj.exe"),
            *(
                (bad, "else")
                for bad in ("", ".", "..", "a/", "a\nb", "\x1b[2J", "é" * 200)
            ),
        ]:
            self.assertEqual(safe_file_name(written, otherwise="else"), name)
