"""The scanner of a server: which clamd it takes, and a clamd of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import SkipTest

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.errors import ScannerError
from securerecv.interfaces import Scanner, VerdictKind
from securerecv.limits import MAX_SCANNED_BYTES
from securerecv.scanning import choice, home, process, proofs, scanner
from securerecv.scanning.home import Home, most_unpacked
from securerecv.scanning.process import forget_home, remembered_home
from securerecv.scanning.proofs import EICAR
from securerecv.scanning.scanner import ClamdScanner
from securerecv.settings import Settings
from tests.clamd import Clamd, add_signature, clamd, descriptor_of, make_signatures
from tests.program import environment
from tests.support import pause, reactor, written_log
from tests.test_scanning import zip_of

PATIENCE_S = 30.0


async def until(is_so: Callable[[], object]) -> None:
    """Wait for something that is about to be so."""
    deadline = reactor.seconds() + PATIENCE_S
    while not is_so():
        if reactor.seconds() > deadline:
            raise AssertionError("it did not come to that")
        await pause(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether a process has not ended."""
    return Path(f"/proc/{pid}").exists()


def size_of(folder: Path) -> int:
    """Give the bytes in all files of a folder, some of which may just vanish."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):  # a folder in memory has a size too
                total += status.st_size
    return total


def user_of(pid: int) -> int:
    """Give the user that a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


def eicar_behind(size: int) -> bytes:
    """Make a ZIP file of a size that has the test string at its end."""
    with proofs.eicar_behind(size) as descriptor:
        return os.pread(descriptor, size, 0)


class ScannerTestCase(TestCase):
    """Tests that start scanners."""

    def setUp(self) -> None:
        """Make a data folder, and look more often than a server would."""
        self.patch(scanner, "LOOK_EVERY_S", 0.1)
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir()
        self.settings = Settings(data=self.data)

    def start(self, which: str, usual: tuple[str, ...] = ()) -> ClamdScanner:
        """Start one; it is stopped when the test ends."""
        settings = evolve(self.settings, scanner=which)
        started = ClamdScanner(settings, reactor, usual)
        self.back = 0

        def came_back() -> None:
            self.back += 1

        started.when_back(came_back)
        started.start()
        self.addCleanup(lambda: None if started._stopped else started.stop())
        return started

    def was_back(self, times: int) -> bool:
        """Tell whether a scanner has been there so many times."""
        return self.back == times

    async def kind(self, started: Scanner, content: bytes) -> VerdictKind:
        """Have bytes looked at."""
        descriptor = descriptor_of(content)
        try:
            return (await started.scan(descriptor, len(content))).kind
        finally:
            os.close(descriptor)


class ChoiceTests(ScannerTestCase):
    """Which clamd it is."""

    async def test_no_program(self) -> None:
        """Without a clamd to run, files are refused, and the operator told why."""
        self.patch(choice, "find_program", lambda: None)
        started = self.start("spawn")
        self.assertIn("no scanner", started.refusal)
        lack = choice.choose(started._settings)
        self.assertIn("apt-get install clamav-daemon", str(lack))

    async def test_none(self) -> None:
        """Without a scanner files are refused, and whatever comes is held."""
        started = self.start("none")
        self.assertIn("no scanner", started.refusal)
        self.assertTrue(started.words.startswith("none: "))
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        self.assertIsNone(await started.database_version())

    async def test_given(self) -> None:
        """The clamd that was named is used, and what it says of itself is shown."""
        started = self.start(str(clamd().place))
        self.assertEqual(started.refusal, "")
        # Nothing bad is said of one that had no time to answer: the banner is early.
        self.assertEqual(started.words, f"{clamd().place}, which is being asked")
        await until(lambda: self.back)
        self.assertIn(f"{clamd().place}, ClamAV ", started.words)
        kinds = await gatherResults(
            [
                Deferred.fromCoroutine(self.kind(started, content))
                for content in (b"hello", EICAR, b"there", EICAR)
            ]
        )
        self.assertEqual(kinds, [VerdictKind.CLEAN, VerdictKind.INFECTED] * 2)
        # It has no signatures with a version, so it cannot say which it has.
        self.assertIsNone(await started.database_version())

    async def test_not_there(self) -> None:
        """One that is away is waited for, is told of, and is welcome back."""
        own = Clamd()
        self.addCleanup(own.remove)
        own.stop()
        started = self.start(str(own.place))
        self.assertEqual(started.refusal, "")
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        self.assertIn(f"{own.place} does not answer", started.words)
        for times in (1, 2):
            own.start()
            await until(partial(self.was_back, times))
            self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)
            own.stop()
            self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)

    async def test_usual(self) -> None:
        """A clamd on one of the usual sockets is found."""
        missing = str(self.data / "clamd.ctl")
        started = self.start("auto", (missing, clamd().place.path))
        self.assertEqual(started.words, f"{clamd().place}, which is being asked")
        await until(lambda: self.back)
        self.assertIn(clamd().place.path, started.words)
        self.assertIs(await self.kind(started, EICAR), VerdictKind.INFECTED)

    async def test_usual_but_unreliable(self) -> None:
        """One that keeps quiet about what it did not look into is passed by."""
        lax = Clamd("AlertExceedsMax no")
        self.addCleanup(lax.remove)
        self.settings = evolve(self.settings, signatures=self.data)
        started = self.start("auto", (lax.place.path,))
        self.assertIn("signatures", started.refusal)
        given = self.start(str(lax.place))
        await until(lambda: self.back)
        self.assertIn("AlertExceedsMax yes", given.words)

    async def test_strangers(self) -> None:
        """One that belongs to any other user of the machine is passed by."""
        self.patch(os, "geteuid", lambda: 12345)
        self.patch(choice, "_TRUSTED_USERS", ())
        self.settings = evolve(self.settings, signatures=self.data)
        started = self.start("auto", (clamd().place.path,))
        self.assertIn("signatures", started.refusal)

    async def test_installed_later(self) -> None:
        """Where there was nothing to scan with, there is once it is installed."""
        signatures = self.data / "signatures"
        self.settings = evolve(self.settings, signatures=signatures)
        started = self.start("auto")
        self.assertIn("no signatures", started.refusal)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        make_signatures(signatures)
        await until(lambda: self.back)
        self.assertEqual(started.refusal, "")
        self.assertIs(await self.kind(started, EICAR), VerdictKind.INFECTED)


def large_member(says: int) -> bytes:
    """Make an archive that says it holds a large file; it is the EICAR test string."""
    content = bytearray(zip_of(EICAR))
    # Its size stands in the local header and in the directory (APPNOTE 4.3.7, 4.3.12).
    for at in (22, content.index(b"PK\1\2") + 24):
        content[at : at + 4] = says.to_bytes(4, "little")
    return bytes(content)


def lone_member(packed: int) -> bytes:
    """Make what begins, amid random bytes, like a member of nearly 4 GiB."""
    sizes = (packed, 0xFFFFFF00)
    header = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 1, *sizes, 1, 0)
    return os.urandom(5000) + header + b"x" + os.urandom(50_000)


class PointerTests(SynchronousTestCase):
    """What the data folder remembers of a clamd, after the server was killed."""

    def test_cut_short(self) -> None:
        """Where a full disk or a power cut left less of it, nothing is deleted."""
        data, other = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        data.mkdir()
        (other / "sub").mkdir(parents=True)
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(other)
        for left in ("", ".", "/", str(other), f"{other}/", f"{other}/sub"):
            (data / "clamd-folder").write_text(left)
            self.assertIsNone(remembered_home(data), left)
        # Nor does what is no text keep another clamd from being started.
        (data / "clamd-folder").write_bytes(b"\xff")
        forget_home(data)
        self.assertEqual(list(data.iterdir()), [])
        self.assertEqual(list(other.iterdir()), [other / "sub"])


class OwnTests(ScannerTestCase):
    """A clamd of the server's own."""

    def setUp(self) -> None:
        """Make signatures."""
        super().setUp()
        self.signatures = make_signatures(self.data / "signatures")
        self.settings = evolve(self.settings, signatures=self.signatures)

    async def running(self) -> ClamdScanner:
        """Start one and wait until it answers."""
        started = self.start("spawn")
        self.assertEqual(started.refusal, "")
        self.assertIn("starting", started.words)
        await until(lambda: self.back)
        return started

    def home(self) -> Home:
        """Give the folder of the one that runs."""
        found = remembered_home(self.data)
        assert found is not None
        return found

    def pids(self) -> list[int]:
        """Give the numbers of watcher and clamd."""
        folder = bytes(self.home().folder)
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if folder in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return sorted(found)

    def memory(self) -> Path:
        """Have clamd's folder made in one that is empty."""
        folder = Path(tempfile.mkdtemp(dir=home.memory_folder()))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # clamd may run as somebody else
        self.patch(home, "memory_folder", lambda: str(folder))
        return folder

    async def test_verdicts(self) -> None:
        """It is set up so that everything is looked at, or held."""
        started = await self.running()
        self.assertIn("a clamd of its own, ClamAV ", started.words)
        self.assertNotIn("needs", started.words)
        for content, kind in (
            (b"hello", VerdictKind.CLEAN),
            (zip_of(os.urandom(1000), EICAR), VerdictKind.INFECTED),
            # A member that is larger than the largest file taken, and one that is
            # larger than what clamd can look at.
            (zip_of(bytes(150 << 20)), VerdictKind.CLEAN),
            (zip_of(eicar_behind(120 << 20)), VerdictKind.INFECTED),
            (zip_of(bytes(500 << 20)), VerdictKind.HELD),
            (large_member(0x7FFFFF00), VerdictKind.INFECTED),
            (large_member(MAX_SCANNED_BYTES + 1), VerdictKind.HELD),
            (large_member(2**32 - 1), VerdictKind.HELD),
            # The same in ZIP64's way, and what only looks like it amid other bytes.
            (lone_member(2**32 - 1), VerdictKind.HELD),
            (lone_member(0xF0000000), VerdictKind.CLEAN),
        ):
            self.assertIs(await self.kind(started, content), kind, content[:100])

    async def test_unpacks_to_a_lot(self) -> None:
        """What a small archive unpacks to takes bounded memory while it is tried."""
        started = await self.running()
        unpacked = self.home().temporary
        scanning = Deferred.fromCoroutine(self.kind(started, zip_of(bytes(900 << 20))))
        most = 0
        while not scanning.called:
            most = max(most, size_of(unpacked))
            await pause(0.01)
        self.assertIs(await scanning, VerdictKind.HELD)
        self.assertGreater(most, 0)
        self.assertLessEqual(most, most_unpacked(self.settings.max_file))

    async def test_before_it_is_there(self) -> None:
        """Files are held while it starts."""
        started = self.start("spawn")
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        await until(lambda: self.back)

    async def test_stop(self) -> None:
        """It ends with the server, and nothing is left of it."""
        started = await self.running()
        pids = self.pids()
        self.assertEqual(len(pids), 2)
        folder = self.home()
        await started.stop()
        self.assertFalse(any(map(is_alive, pids)))
        self.assertIsNone(remembered_home(self.data))
        self.assertFalse(folder.folder.exists())
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)

    async def test_stop_during_scan(self) -> None:
        """The server's end does not wait for scans."""
        started = await self.running()
        scanning = Deferred.fromCoroutine(
            self.kind(started, os.urandom(self.settings.max_file))
        )
        await pause(0.1)
        await started.stop()
        self.assertIs(await scanning, VerdictKind.HELD)

    async def test_killed(self) -> None:
        """One that ends is started again, each time after a longer wait."""
        self.patch(process, "FIRST_WAIT_S", 0.1)
        started = await self.running()
        for times in (2, 3):
            os.kill(self.pids()[-1], signal.SIGKILL)
            await until(partial(self.was_back, times))
            self.assertIs(await self.kind(started, EICAR), VerdictKind.INFECTED)
        self.assertEqual(len(self.pids()), 2)
        own = started._own
        assert own is not None
        self.assertAlmostEqual(own._wait_s, 0.4)

    async def test_cannot_start(self) -> None:
        """Signatures that clamd cannot read are tried again and again."""
        self.patch(process, "FIRST_WAIT_S", 0.1)
        (self.signatures / "bad.ndb").write_text("nonsense\n")
        started = self.start("spawn")
        await until(lambda: started._own and started._own._wait_s > 0.2)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        (self.signatures / "bad.ndb").unlink()
        await until(lambda: self.back)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)

    async def test_refused_by_the_system(self) -> None:
        """What the system refuses at the start is tried again, and nothing is left."""
        self.patch(process, "FIRST_WAIT_S", 0.1)
        memory = self.memory()
        memory.rmdir()
        log = written_log(self)
        started = self.start("spawn")

        async def refused(why: str) -> None:
            await until(lambda: why in log.getvalue())
            self.assertNotIn("Traceback", log.getvalue())
            self.assertEqual(list(memory.glob("*")), [])

        await refused("No such file or directory")
        pointer = self.data / "clamd-folder"
        pointer.mkdir()
        memory.mkdir(0o711)
        await refused("Is a directory")
        spawn = reactor.spawnProcess

        def no_more(*_: object, **__: object) -> None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        reactor.spawnProcess = no_more
        pointer.rmdir()
        try:
            await refused("temporarily unavailable")
        finally:
            reactor.spawnProcess = spawn
        await until(lambda: self.back)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)

    async def test_no_room_for_all(self) -> None:
        """A folder for clamd that cannot be filled is deleted."""
        memory = self.memory()

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(Home, "link", full)
        self.assertRaises(ScannerError, home.make_home, self.signatures, 1000)
        self.assertEqual(list(memory.iterdir()), [])

    async def test_hangs(self) -> None:
        """One that does not answer any more is ended, and another one started."""
        self.patch(scanner, "HANGS_AFTER_S", 0.1)
        self.patch(process, "FIRST_WAIT_S", 0.1)
        started = await self.running()
        assert started._contact is not None
        started._contact._look_timeout_s = 0.3
        os.kill(self.pids()[-1], signal.SIGSTOP)
        await until(lambda: self.back == 2)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)

    async def test_new_signatures(self) -> None:
        """Changed signatures are loaded, and the version tells so, not before."""
        self.patch(scanner, "SIGNATURES_EVERY_S", 0.1)
        started = await self.running()
        before = await started.database_version()
        self.assertIsNotNone(before)
        self.assertIs(await self.kind(started, b"a new worm"), VerdictKind.CLEAN)
        add_signature(self.signatures, "Worm", b"a new worm")
        (self.signatures / "more.ndb").write_text(f"More:0:0:{b'and more'.hex()}\n")
        for _ in range(500):
            if await started.database_version() != before:
                break
            await pause(0.02)
        self.assertNotEqual(await started.database_version(), before)
        for content in (b"a new worm", b"and more"):
            self.assertIs(await self.kind(started, content), VerdictKind.INFECTED)

    async def test_nothing_on_disk(self) -> None:
        """Its folder, with what it unpacks, is in memory and its user's only."""
        await self.running()
        folder = self.home()
        self.assertTrue(home.is_memory(folder.folder))
        self.assertFalse(home.is_memory(Path("/proc")))
        self.assertEqual(folder.folder.stat().st_mode & 0o777, 0o700)
        self.assertIn(
            f"TemporaryDirectory {folder.folder}/", folder.configuration.read_text()
        )
        self.assertEqual((self.data / "clamd-folder").stat().st_mode & 0o777, 0o600)

    async def test_privileges(self) -> None:
        """Under root it runs as clamd's own user, unless that cannot read."""
        if os.geteuid() != 0:
            raise SkipTest("only root can become somebody else")
        await self.running()
        readable = home._somebody_else(self.signatures)
        wanted = 0 if readable is None else readable.pw_uid
        self.assertEqual(user_of(self.pids()[-1]), wanted)
        with tempfile.TemporaryDirectory() as private:
            self.assertIsNone(home._somebody_else(make_signatures(Path(private))))

    async def test_server_killed(self) -> None:
        """Where the server is killed, clamd ends all the same, and leaves nothing."""
        words = [sys.executable, "-c", _SERVER, str(self.data), str(self.signatures)]
        # The reactor has nothing to do meanwhile.
        with subprocess.Popen(  # noqa: ASYNC220 - see above
            words, stdout=subprocess.PIPE, env=environment()
        ) as server:
            assert server.stdout is not None
            self.assertEqual(server.stdout.readline(), b"there\n")
            pids = self.pids()
            self.assertEqual(len(pids), 2)
            left = self.home()
            server.kill()
        await until(lambda: not any(map(is_alive, pids)))
        self.assertFalse(left.folder.exists())

    async def test_watcher_killed(self) -> None:
        """What is left when the watcher is killed too, the next start removes."""
        first = await self.running()
        left = self.home()
        watcher, own = self.pids()
        os.kill(watcher, signal.SIGKILL)
        await until(lambda: not is_alive(own))
        await first.stop()
        self.assertFalse(left.folder.exists())


_SERVER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from securerecv.scanning.scanner import ClamdScanner
from securerecv.settings import Settings

data, signatures = map(Path, sys.argv[1:])
scanner = ClamdScanner(
    Settings(data=data, signatures=signatures, scanner="spawn"), reactor
)
scanner.when_back(lambda: print("there", flush=True))
reactor.callWhenRunning(scanner.start)
reactor.run()
"""
