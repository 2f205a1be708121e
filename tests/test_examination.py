"""The doctor and the scanner: what is tried, and what is said to mend."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from securerecv.checkup import Finding, checkup
from securerecv.errors import OperatorError
from securerecv.scanning import choice, examination
from securerecv.scanning.examination import Findings, examine
from securerecv.scanning.home import Home, is_memory, make_home
from securerecv.scanning.place import Place
from securerecv.scanning.process import remembered_home
from securerecv.settings import Settings
from tests.clamd import Clamd, clamd, free_port, make_signatures
from tests.program import PATIENCE_S, run, server
from tests.support import add_accounts

MIB = 1 << 20


class ExaminationTests(SynchronousTestCase):
    """Trying scanners out."""

    def setUp(self) -> None:
        """Make a data folder that a server has never run in."""
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir(0o700)
        self.settings = Settings(data=self.data, max_file=4 * MIB)

    def examine(self, place: Place) -> Findings:
        """Try out a clamd that was named."""
        return examine(evolve(self.settings, scanner=str(place)))

    def start(self, *options: str) -> Clamd:
        """Start a clamd of the test's own."""
        own = Clamd(*options)
        self.addCleanup(own.remove)
        return own

    def mended(self, *options: str) -> list[str]:
        """Try out a clamd with more lines in its configuration; what is to mend."""
        return self.examine(self.start(*options).place).mend

    def test_well(self) -> None:
        """Of a good one its version is told, and what could be better."""
        findings = self.examine(clamd().place)
        self.assertEqual(findings.mend, [])
        self.assertEqual(findings.notes, [])
        self.assertIn(f"{clamd().place}, ClamAV ", findings.words)

    def test_members(self) -> None:
        """That it looks at the beginning only of what archives hold is told."""
        findings = self.examine(self.start("MaxFileSize 5M").place)
        self.assertEqual(findings.mend, [])
        (note,) = findings.notes
        self.assertIn("'MaxFileSize 2000M'", note)

    def test_keeps_quiet(self) -> None:
        """What it calls clean without having looked is named, with the line."""
        lines = self.mended("AlertExceedsMax no", "AlertEncrypted no")
        self.assertEqual(len(lines), 2)
        self.assertIn("'AlertExceedsMax yes'", lines[0])
        self.assertIn("'AlertEncrypted yes'", lines[1])

    def test_limits(self) -> None:
        """A limit that is too small is named, with the line, reported or not."""
        size = self.settings.max_file
        for option, line in (
            ("MaxFileSize 1M", f"MaxFileSize {size}"),
            ("MaxScanSize 5M", "MaxScanSize 4"),
        ):
            (words,) = self.mended(option)
            self.assertIn(f"'{line}", words)
            quiet = self.mended(option, "AlertExceedsMax no")
            self.assertIn(f"'{line}", quiet[1])

    def test_stream(self) -> None:
        """Over TCP, its limit there; and that files are copied, and in clear."""
        port = free_port()
        own = self.start(f"TCPSocket {port}", "TCPAddr 127.0.0.1", "StreamMaxLength 1M")
        findings = self.examine(Place(host="127.0.0.1", port=port))
        (words,) = findings.mend
        self.assertIn(f"'StreamMaxLength {self.settings.max_file}'", words)
        self.assertIn("copy", findings.notes[-1])
        self.assertNotIn("unencrypted", str(findings.notes))
        for host, is_here in (
            ("127.0.0.1", True),
            ("::1", True),
            ("localhost", True),
            ("192.0.2.1", False),
            ("scanner.example", False),
        ):
            self.assertEqual(examination._is_here(host), is_here)
        own.stop()

    def test_no_signatures(self) -> None:
        """One that does not know the test string needs signatures."""
        own = self.start()
        (own.signatures / "test.ndb").write_text(f"Other:0:0:{b'other'.hex()}\n")
        own.reload()
        (words,) = self.examine(own.place).mend
        self.assertIn("freshclam", words)

    def test_unpacks_to_a_disk(self) -> None:
        """Where a clamd unpacks to a disk, that is told."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        if is_memory(folder):
            self.fail("the tests' folder is in memory")
        own = self.start(f"TemporaryDirectory {folder}")
        (note,) = self.examine(own.place).notes
        self.assertIn(f"{folder}, which is on a disk", note)

    def test_not_there(self) -> None:
        """One that does not answer is to be started."""
        own = self.start()
        own.stop()
        error = self.assertRaises(OperatorError, self.examine, own.place)
        self.assertIn("is it running?", str(error))

    def test_none(self) -> None:
        """Without a scanner by decision all is well; by accident it is not."""
        findings = examine(evolve(self.settings, scanner="none"))
        self.assertEqual(findings.mend, [])
        self.assertIn("refused", findings.words)
        empty = evolve(self.settings, scanner="auto", signatures=self.data)
        error = self.assertRaises(OperatorError, examine, empty, ())
        self.assertIn("freshclam", str(error))
        self.patch(choice, "find_program", lambda: None)
        error = self.assertRaises(OperatorError, examine, empty, ())
        self.assertIn("apt-get install", str(error))

    def test_own(self) -> None:
        """A clamd of the server's own is run for the moment, and leaves nothing."""
        signatures = make_signatures(self.data / "signatures")
        made: list[Home] = []

        def make(*arguments: Any) -> Home:
            made.append(make_home(*arguments))
            return made[-1]

        self.patch(examination, "make_home", make)
        settings = evolve(self.settings, scanner="spawn", signatures=signatures)
        findings = examine(settings)
        self.assertEqual(findings.mend, [])
        self.assertIn("a clamd of its own, ClamAV", findings.words)
        self.assertIsNone(remembered_home(self.data))
        (home,) = made
        self.assertFalse(home.folder.exists())

    def test_own_cannot_start(self) -> None:
        """What keeps clamd from starting is told in its words."""
        signatures = make_signatures(self.data / "signatures")
        (signatures / "bad.ndb").write_text("nonsense\n")
        settings = evolve(self.settings, scanner="spawn", signatures=signatures)
        error = self.assertRaises(OperatorError, examine, settings)
        self.assertIn("bad.ndb", str(error))

    def test_checkup(self) -> None:
        """It is part of the doctor's round."""
        settings = evolve(self.settings, scanner=str(clamd().place))
        add_accounts(settings, alice="wonder land")
        *_, last = checkup(settings)
        self.assertEqual((last.what, last.is_well), ("scanner", True))
        own = self.start("AlertExceedsMax no")
        *_, last = checkup(evolve(settings, scanner=str(own.place)))
        self.assertIsInstance(last, Finding)
        self.assertFalse(last.is_well)
        self.assertIn("AlertExceedsMax yes", last.words)


def running() -> str:
    """Give the command lines of all processes."""
    listed = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    )
    return listed.stdout


class ProcessTests(SynchronousTestCase):
    """A server as a process of its own, with a clamd of its own."""

    def test_spawn(self) -> None:
        """Banner and doctor tell of it, and kill -9 leaves nothing of it."""
        data = Path(self.mktemp()).absolute()
        signatures = make_signatures(data.with_name("signatures"))
        add_accounts(Settings(data=data), alice="wonder land")
        words = ("--scanner", "spawn", "--signatures", str(signatures))
        with server(data, *words) as process:
            process.wait_for(" scanner +a clamd of its own")
            process.wait_for("scanner: a clamd of its own, ClamAV")
            home = remembered_home(data)
            assert home is not None
            self.assertTrue(home.socket.exists())
            well = run("doctor", "--data", str(data), *words)
            self.assertEqual(well.returncode, 0, well.stdout + well.stderr)
            self.assertIn("scanner: a clamd of its own, ClamAV", well.stdout)
            process.end(signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE_S
            while home.folder.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.assertFalse(home.folder.exists())
        # Its watcher deletes the folder, and ends only then.
        while str(home.folder) in running() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertNotIn(str(home.folder), running())

    def test_refused(self) -> None:
        """Without signatures the server starts, and says that it takes no files."""
        data = Path(self.mktemp()).absolute()
        add_accounts(Settings(data=data), alice="wonder land")
        words = ("--scanner", "spawn", "--signatures", os.devnull)
        with server(data, *words) as process:
            process.wait_for(" scanner +none, no files are taken: /dev/null cannot")
            ill = run("doctor", "--data", str(data), *words)
        self.assertEqual(ill.returncode, 1)
        self.assertIn("mend scanner: files are refused:", ill.stdout)
