"""The doctor: what it finds, and that it leaves everything as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from securerecv.checkup import Finding, checkup
from securerecv.errors import OperatorError, StorageError
from securerecv.intake.accountbook import open_account_book
from securerecv.net import counters
from securerecv.net.counters import Counters
from securerecv.settings import Settings
from securerecv.vault.database import database_url, open_database
from tests.support import QUICK, add_accounts
from tests.vaults import contents_of


class CheckupTests(SynchronousTestCase):
    """Checks of a data folder."""

    def setUp(self) -> None:
        """Make one that has an account."""
        self.data = Path(self.mktemp()).absolute()
        self.settings = Settings(data=self.data, scanner="none")
        add_accounts(self.settings, alice="wonder land")

    def ill(self) -> list[tuple[str, str]]:
        """Check, and give what is to be mended."""
        return [(f.what, f.words) for f in checkup(self.settings) if not f.is_well]

    def state(self) -> dict[str, tuple[int, int]]:
        """Give when each file and folder was last changed, and its size."""
        paths = [self.data, *self.data.rglob("*")]
        stats = {str(path): path.stat() for path in paths}
        return {name: (s.st_mtime_ns, s.st_size) for name, s in stats.items()}

    def test_well(self) -> None:
        """Of a good folder each check says so."""
        findings = list(checkup(self.settings))
        self.assertTrue(all(finding.is_well for finding in findings), findings)
        self.assertIn(Finding("accounts", True, "1"), findings)

    def test_datagrams(self) -> None:
        """What the server counted is shown; what the kernel lost is to be mended."""
        found = Counters()
        self.assertIn(Finding("datagrams", True, "none were received"), self.found())
        found.taken["sealed"] = 3
        counters.write(self.data, found)
        self.assertIn(Finding("datagrams", True, found.words()), self.found())
        found.socket.received = 5000
        found.socket.kernel_drops = 2000
        counters.write(self.data, found)
        (words,) = self.ill()
        self.assertIn("net.core.rmem_max", str(words))
        (self.data / "counters.json").write_text("{}")
        (words,) = self.ill()
        self.assertIn("damaged", str(words))

    def found(self) -> list[Finding]:
        """Give all findings."""
        return list(checkup(self.settings))

    def test_nothing_is_changed(self) -> None:
        """Files stay as they are: of a store at rest, in use, and left by a crash."""
        before = self.state()
        self.assertEqual(self.ill(), [])
        self.assertEqual(self.state(), before)

        book = open_account_book(self.settings, QUICK)
        self.addCleanup(book.close)
        book.add("bob", "builder")
        before = self.state()
        self.assertIn(str(self.data / "store.sqlite3-wal"), before)
        self.assertIn(Finding("accounts", True, "2"), list(checkup(self.settings)))
        self.assertEqual(self.state(), before)

        crashed = self.data.with_name(self.data.name + "-crashed")
        subprocess.run(["cp", "-a", self.data, crashed], check=True)
        (crashed / "store.sqlite3-shm").unlink()
        before_crash = contents_of(crashed)
        findings = list(checkup(evolve(self.settings, data=crashed)))
        self.assertIn(Finding("accounts", True, "2"), findings)
        after = contents_of(crashed)
        after.pop("store.sqlite3-shm", None)
        before_crash.pop("store.sqlite3-shm", None)
        self.assertEqual(after, before_crash)

    def test_new_store_is_left_alone(self) -> None:
        """Neither tables nor a claim are made where there are none."""
        store = self.data / "store.sqlite3"
        store.unlink()
        store.touch(0o600)
        self.assertEqual(
            self.ill(), [("store", "the store is empty; start the server once")]
        )
        self.assertEqual(store.stat().st_size, 0)
        open_database(database_url("", self.data)).dispose()
        before = store.read_bytes()
        ((what, words),) = self.ill()
        self.assertEqual(what, "accounts")
        self.assertIn("there are none", words)
        self.assertEqual(store.read_bytes(), before)

    def test_cannot_be_written(self) -> None:
        """What is opened to be looked at takes no change."""
        book = open_account_book(self.settings, QUICK, make=False, write=False)
        self.addCleanup(book.close)
        error = self.assertRaises(StorageError, book.remove, "alice")
        self.assertIn("readonly", str(error))

    def test_all_lax_files(self) -> None:
        """Each lax file is listed with its command, once."""
        lax = [
            self.data / "keys",
            self.data / "keys" / "server-secret",
            self.data / "store.sqlite3",
        ]
        for path in lax:
            path.chmod(0o755)
        ill = self.ill()
        self.assertEqual([what for what, _ in ill], ["permissions"] * 3)
        for path, (_, words) in zip(lax, ill, strict=True):
            self.assertIn(f"{path} has mode 0755", words)
            subprocess.run(words.rpartition("type: ")[2].split(), check=True)
        self.assertEqual(self.ill(), [])

    def test_command(self) -> None:
        """The command for a first account is for this folder and this store."""
        open_account_book(self.settings).remove("alice")
        store = f"sqlite:///{self.data}/store.sqlite3"
        for settings, words in (
            (self.settings, f" account add alice --data {self.data}"),
            (
                evolve(self.settings, store=store),
                f" account add alice --data {self.data} --store {store}",
            ),
        ):
            ill = [f.words for f in checkup(settings) if not f.is_well]
            self.assertEqual(len(ill), 1)
            self.assertTrue(ill[0].endswith(words), ill)

    def test_missing(self) -> None:
        """What is not there is named, and is not made."""
        store = self.data / "store.sqlite3"
        store.unlink()
        self.assertEqual(
            self.ill(), [("store", f"{store} is not there; start the server once")]
        )
        self.assertFalse(store.exists())
        shutil.rmtree(self.data)
        ((what, words),) = self.ill()
        self.assertEqual(what, "data folder")
        self.assertIn("start the server once", words)
        self.assertFalse(self.data.exists())

    def test_damaged(self) -> None:
        """A damaged store is found in any of its pages."""
        store = self.data / "store.sqlite3"
        whole = store.read_bytes()
        for at in range(4096, len(whole), 4096):
            store.write_bytes(whole[:at] + bytes([0xA5]) * 4096 + whole[at + 4096 :])
            self.assertEqual([what for what, _ in self.ill()], ["store"])
        store.write_bytes(whole)
        self.assertEqual(self.ill(), [])

    def test_other_commands_make_nothing(self) -> None:
        """Neither does a book that is opened without making it."""
        missing = self.data.with_name("typo")
        self.assertRaises(
            OperatorError,
            lambda: open_account_book(Settings(data=missing), make=False),
        )
        self.assertFalse(missing.exists())
