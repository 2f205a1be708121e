"""The signatures of a clamd of our own: of every kind, changed, broken and gone."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import evolve
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, OperatorError, PeerError
from securerecv.interfaces import VerdictKind
from securerecv.scanning import home, scanner
from securerecv.scanning.choice import choose
from securerecv.scanning.examination import examine
from securerecv.scanning.home import fingerprint, lack_of_signatures
from securerecv.scanning.scanner import ClamdScanner
from securerecv.wire.filelines import FileState
from tests.clamd import add_signature, make_signatures
from tests.clientends import failing
from tests.support import pause, written_log
from tests.test_file_service import ServiceTests
from tests.test_scanner import ScannerTestCase, until
from tests.test_scanning import zip_of

WORM = b"a new worm"


def write_kinds(folder: Path) -> dict[str, bytes]:
    """Write a file of each kind; give what each finds, by its name."""
    by_md5, by_sha256, harmless = b"found by MD5", b"found by SHA-256", b"forgiven"
    container = zip_of(b"hello", b"forbidden by its name")
    md5, forgiven = (hashlib.md5(c, usedforsecurity=False) for c in (by_md5, harmless))
    sha256 = hashlib.sha256(by_sha256).hexdigest()
    many = "".join(
        f"Many-{n}:0:*:{hashlib.sha256(b'%d' % n).hexdigest()}\n" for n in range(5000)
    )
    for name, content in {
        "a.ndb": f"{many}Ndb:0:*:{b'heron'.hex()}\n",
        "b.hdb": f"{md5.hexdigest()}:{len(by_md5)}:Hdb\n",
        "c.HSB": f"{sha256}:{len(by_sha256)}:Hsb\n",
        "d.ldb": f"Ldb;Engine:51-255,Target:0;0&1;{b'dusk'.hex()};{b'dawn'.hex()}\n",
        "e.cdb": "Cdb:CL_TYPE_ZIP:*:member-1:*:*:*:*:*:*\n",
        "f.db": f"Db={b'an old worm'.hex()}\n",
        "g.yara": 'rule owl { strings: $a = "owl of the night" condition: $a }\n',
        "h.fp": f"{forgiven.hexdigest()}:{len(harmless)}:Forgiven\n",
        "readme.txt": "no signature\n",
    }.items():
        (folder / name).write_text(content)
    return {
        "Ndb": b"the heron lands",
        "Hdb": by_md5,
        "Hsb": by_sha256,
        "Ldb": b"from dawn to dusk",
        "Cdb": container,
        "Db": b"this is an old worm",
        "owl": b"the owl of the night",
    }


class SignatureTests(ScannerTestCase):
    """A folder of signatures, through its good and bad days."""

    timeout = 120

    def setUp(self) -> None:
        """Make a folder with the test string, and look at it often."""
        super().setUp()
        self.patch(scanner, "SIGNATURES_EVERY_S", 0.1)
        self.signatures = make_signatures(self.data / "signatures")
        self.settings = evolve(self.settings, signatures=self.signatures)
        self.log = written_log(self)

    def warnings(self, part: str) -> list[str]:
        """Give what the operator was told of something."""
        return [line for line in self.log.getvalue().splitlines() if part in line]

    async def running(self) -> ClamdScanner:
        """Start a clamd, and wait until it answers."""
        started = self.start("spawn")
        await until(lambda: self.back)
        return started

    async def loaded(self, started: ClamdScanner, change: Callable[[], object]) -> None:
        """Change the folder, and wait until that is loaded."""
        before = await started.database_version()
        change()
        while await started.database_version() == before:
            await pause(0.05)

    async def doctor(self, which: str = "spawn") -> list[str]:
        """Give what the doctor wants mended."""
        settings = evolve(self.settings, scanner=which)
        try:
            return (await deferToThread(examine, settings)).mend
        except OperatorError as error:
            return [str(error)]

    async def test_kinds(self) -> None:
        """Signatures of every kind are loaded, and exceptions heeded."""
        infected = write_kinds(self.signatures)
        started = await self.running()
        for name, content in infected.items():
            self.assertIs(await self.kind(started, content), VerdictKind.INFECTED, name)
        for content in (b"hello", b"forgiven", zip_of(b"hello")):
            self.assertIs(await self.kind(started, content), VerdictKind.CLEAN)
        self.assertEqual(await self.doctor(), [])

    async def test_broken_later(self) -> None:
        """A broken file is named once; what was loaded goes on until it is mended."""
        started = await self.running()
        broken = self.signatures / "z.ndb"
        broken.write_text("nonsense\n")
        await until(lambda: self.warnings("goes on with old"))
        await pause(1.0)
        (words,) = self.warnings("goes on with old")
        self.assertIn(f"Can't load {broken}: Malformed database", words)
        self.assertEqual(started.refusal, "")
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)
        (words,) = await self.doctor()
        self.assertIn(f"has not loaded {self.signatures} as it is now", words)
        worm = f"Worm:0:0:{WORM.hex()}\n"
        await self.loaded(started, lambda: broken.write_text(worm))
        self.assertIs(await self.kind(started, WORM), VerdictKind.INFECTED)
        self.assertEqual(await self.doctor(), [])

    async def test_broken_from_the_start(self) -> None:
        """With a broken file nothing is scanned, and what is wrong is said."""
        for name, content in (("z.ndb", "nonsense\n"), ("z.cvd", "no database\n")):
            (self.signatures / name).write_text(content)
            (words,) = await self.doctor()
            self.assertIn(f"{self.signatures}/{name}", words)
            self.assertIn("delete the file that is named", words)
            self.assertNotIn("securerecv-clamd-", words)
            (self.signatures / name).unlink()
        broken = self.signatures / "z.ndb"
        broken.write_text("nonsense\n")
        started = self.start("spawn")
        await until(lambda: self.warnings("is started again"))
        self.assertTrue(self.warnings(f"Can't load {broken}"))
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        broken.unlink()
        await until(lambda: self.back)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.CLEAN)
        # It keeps to a limit that we have set.
        self.assertEqual(self.warnings("System limit for file size"), [])

    async def test_emptied(self) -> None:
        """Where signatures vanish, nothing is called clean for want of them."""
        add_signature(self.signatures, "Worm", WORM)
        started = await self.running()
        version = await started.database_version()
        away = self.data / "away"
        self.signatures.rename(away)
        await until(lambda: self.warnings("is not there; --signatures says"))
        self.signatures.mkdir()
        self.assertEqual(await started.database_version(), version)
        self.assertIs(await self.kind(started, WORM), VerdictKind.INFECTED)
        if started._own is not None:
            started._own.restart()
        await until(lambda: self.warnings("cannot be started"))
        (words, *_) = self.warnings("cannot be started")
        self.assertIn("has no virus signatures; type: freshclam", words)
        self.assertIs(await self.kind(started, WORM), VerdictKind.HELD)
        self.assertIs(await self.kind(started, b"hello"), VerdictKind.HELD)
        shutil.copytree(away, self.signatures, dirs_exist_ok=True)
        await until(lambda: self.was_back(2))
        self.assertIs(await self.kind(started, WORM), VerdictKind.INFECTED)

    async def test_none(self) -> None:
        """Why there is nothing to load is said as it is."""
        file = self.data / "file"
        file.touch()
        empty = self.data / "empty"
        empty.mkdir()
        for name in ("readme.txt", "daily.ndb"):
            (empty / name).touch()
        for name in ("known.fp", "local.ign2", "daily.cfg"):
            (empty / name).write_text("finds nothing\n")
        for folder, words in (
            (
                self.data / "nowhere",
                "is not there; --signatures says where the signatures are",
            ),
            (file, "cannot be read: Not a directory"),
            (empty, "has no virus signatures; type: freshclam"),
        ):
            self.assertEqual(
                lack_of_signatures(folder).removeprefix(f"{folder} "), words
            )
            self.settings = evolve(self.settings, signatures=folder)
            self.assertIn(words, str(choose(evolve(self.settings, scanner="spawn"))))
            (mend,) = await self.doctor()
            self.assertIn(f"files are refused: {folder} {words}", mend)


class FingerprintTests(SynchronousTestCase):
    """Noticing that signatures have changed."""

    def test_replaced_meanwhile(self) -> None:
        """A file that vanishes while it is looked at is as one that is not there."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "main.ndb").write_text("x")
        alone = fingerprint(folder)
        daily = folder / "daily.ndb"
        daily.write_text("x")
        self.assertNotEqual(fingerprint(folder), alone)
        there = [daily, folder / "main.ndb"]
        daily.unlink()
        self.patch(home, "signature_files", lambda _: there)
        self.assertEqual(fingerprint(folder), alone)


class DownloadTests(ServiceTests):
    """What a receiver does with new signatures."""

    def setUp(self) -> None:
        """Start a receiver that looks more often than others."""
        for name in ("SIGNATURES_EVERY_S", "LOOK_EVERY_S"):
            self.patch(scanner, name, 0.1)
        super().setUp()
        self.log = written_log(self)

    async def test_found_later(self) -> None:
        """A file that was clean is refused when new signatures find it."""
        bob, alice = await self.enter("bob"), await self.enter("alice")
        ids = []
        for content in (WORM, b"hello"):
            while True:
                receipt = await bob.put("alice", io.BytesIO(content), "x")
                if receipt.state is FileState.CLEAN:
                    break
                await pause(0.1)
            ids.append(receipt.id)
        await alice.get(ids[0], self.folder / "before")
        add_signature(self.settings.signatures, "Worm", WORM)
        await until(lambda: "loaded the changed signatures" in self.log.getvalue())
        await pause(1.0)
        error = await failing(alice.get(ids[0], self.folder / "after"), PeerError)
        self.assertIs(error.code, ErrorCode.INFECTED)
        self.assertIn("Worm", error.words)
        await alice.get(ids[1], self.folder / "hello")
        states = {record.id: record.state for record in await alice.files()}
        expected = {ids[0]: FileState.INFECTED, ids[1]: FileState.CLEAN}
        self.assertEqual(states, expected)
        for client in (alice, bob):
            await client.quit()
