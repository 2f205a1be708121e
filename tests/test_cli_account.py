"""``securerecv account``, run as an operator runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import StorageError
from securerecv.intake.accountbook import AccountBook, open_account_book
from securerecv.settings import Settings
from tests.command import PROGRAM, Ended, run_here
from tests.program import PATIENCE_S, environment
from tests.support import QUICK


class AccountCommandTests(SynchronousTestCase):
    """Commands on a data folder that has alice in it, with a quick password."""

    def setUp(self) -> None:
        """Make the folder."""
        self.data = Path(self.mktemp()).absolute()
        self.book = self.open_book()
        self.code = self.book.add("alice", "wonder land")
        self.place = ("--data", str(self.data))

    def open_book(self) -> AccountBook:
        """Open the accounts beside the program."""
        book = open_account_book(Settings(data=self.data), QUICK)
        self.addCleanup(book.close)
        return book

    def run_there(self, *words: str, given: bytes = b"", **variables: str) -> Ended:
        """Run the program where there is no terminal."""
        done = subprocess.run(
            [*PROGRAM, *words],
            input=given,
            env=environment() | variables,
            capture_output=True,
            start_new_session=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    def assert_refused(
        self, code: int, part: str, *words: str, given: bytes = b""
    ) -> None:
        """See that a command line is refused, with some words in its last line."""
        ended = run_here(*words, given=given, environment=environment())
        self.assert_no(ended, code, part)

    def assert_no(self, ended: Ended, code: int, part: str) -> None:
        """See that a command said no, with some words in its last line."""
        self.assertEqual((ended.code, ended.out), (code, b""), ended)
        *usage, line = ended.err.splitlines()
        if usage:
            self.assertTrue(usage[0].startswith("Usage: "), ended)
        self.assertIn(part, line)
        self.assertNotIn("report", line)

    def at_terminal(self, *words: str, then: Callable[[Any], None]) -> tuple[int, str]:
        """Run ``account`` at a terminal; give how it ended and what it said last."""
        process = pexpect.spawn(
            PROGRAM[0],
            [*PROGRAM[1:], "account", *words, *self.place],
            env=environment(),
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        try:
            then(process)
            process.expect(pexpect.EOF)
        finally:
            process.close()
        return int(process.exitstatus), process.before

    def test_no_secret(self) -> None:
        """What is no secret is refused in plain words, with exit 2."""
        add = ("account", "add", "bob", "--password-stdin", *self.place)
        for given, part in (
            (b"\xff\n", "the new password is not UTF-8"),
            (b"", "standard input has no new password"),
            (b"\r\n", "standard input has no new password"),
            (b"x" * 9000, "it is too long"),
            (b"x" * 1025, "Error: a password has at most 1024 characters"),
            (b" \n", "Error: a password has at least one character"),
            (b"a\0b\n", "Error: a password is one line, without NUL"),
        ):
            self.assert_refused(2, part, *add, given=given)
        recover = ("account", "recover", "alice", "--password-stdin", *self.place)
        self.assert_refused(2, "no recovery code", *recover)
        self.assert_refused(2, "no new password", *recover, given=b"code\n")
        self.assertEqual(self.book.count(), 1)

    def test_no_terminal(self) -> None:
        """Where nobody can be asked, it is said what to use instead."""
        for words, what in (
            (("add", "bob"), "new password"),
            (("passwd", "alice"), "present password"),
            (("recover", "alice"), "recovery code"),
        ):
            part = f"no terminal to ask for the {what}: use --password-stdin"
            ended = self.run_there("account", *words, *self.place)
            self.assert_no(ended, 2, part)

    def test_name_first(self) -> None:
        """A name that will not do is refused before anything is asked for."""
        for words, part in (
            (("add", "Alice"), "(not-allowed)"),
            (("passwd", "bob"), "there is no such account (no-mailbox)"),
            (("recover", "bob"), "(no-mailbox)"),
            (("remove", "bob"), "(no-mailbox)"),
        ):
            self.assert_refused(1, part, "account", *words, *self.place)
        for name, part in (
            ("a b", "Error: a user name is made of letters"),
            ("b\udcff", "Error: a user name is made of letters"),
            ("x" * 65, "Error: a user name has at most 64 characters"),
            ("anon", "and anon itself are reserved"),
        ):
            for verb in ("add", "passwd", "recover", "remove"):
                self.assert_refused(2, part, "account", verb, *self.place, name)

    def test_asked(self) -> None:
        """At a terminal a new password is asked for twice, and never shown."""

        def add(process: Any) -> None:
            for answer in ("", "builder", "bilder", "builder", "builder"):
                process.expect("(New password|The same again): $")
                self.assertNotIn("bilder", process.before)
                process.sendline(answer)
            process.expect("Recovery code: ")

        code, _ = self.at_terminal("add", "bob", then=add)
        self.assertEqual(code, 0)
        self.book.change_password("bob", "builder", "new")

    def test_remove_asks(self) -> None:
        """Before a box is removed it is asked; Enter is a no, and is told so."""

        def answer(word: str) -> tuple[int, str]:
            def then(process: Any) -> None:
                process.expect_exact("Delete alice and all messages in the box?")
                process.sendline(word)

            return self.at_terminal("remove", "alice", then=then)

        for word in ("", "n"):
            code, said = answer(word)
            self.assertEqual(code, 1)
            self.assertIn("securerecv: nothing was removed", said)
        self.assertEqual(self.book.count(), 1)
        self.assertEqual(answer("yes")[0], 0)
        self.assertEqual(self.book.count(), 0)

    def test_only_add_makes(self) -> None:
        """A folder that is not there is refused, and not made, but by ``add``."""
        typo = self.data.with_name("typo")
        for words in (
            ("account", "remove", "alice"),
            ("account", "passwd", "alice"),
            ("account", "recover", "alice"),
        ):
            part = f"{typo} is not there"
            self.assert_refused(1, part, *words, "--data", str(typo))
        self.assertFalse(typo.exists())

    def test_wrong_settings(self) -> None:
        """Settings that are wrong are wrong usage, whatever the command is."""
        nowhere = str(self.data.with_name("nowhere.toml"))
        for command in (
            ("account", "remove", "alice"),
            ("doctor",),
            ("serve", "--port", "0"),
        ):
            words = (*command, *self.place)
            part = f"securerecv: {nowhere}: No such file or directory"
            self.assert_no(self.run_there(*words, "--config", nowhere), 2, part)
            part = "securerecv: SECURERECV_KEPE: there is no such option"
            self.assert_no(self.run_there(*words, SECURERECV_KEPE="1"), 2, part)

    def test_code_is_shown_first(self) -> None:
        """A recovery code that cannot be shown does not replace the old one."""
        words = ("account", "recover", "alice", "--password-stdin", *self.place)
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            failed = subprocess.run(
                [*PROGRAM, *words],
                input=f"{self.code}\nrabbit\n",
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                timeout=PATIENCE_S,
                check=False,
            )
        self.assertEqual(failed.returncode, 1, failed.stderr)
        given = f"{self.code}\nhare\n".encode()
        ended = self.run_there(*words, given=given)
        self.assertEqual((ended.code, ended.out.count(b"\n")), (0, 1), ended.err)

    def test_two_at_once(self) -> None:
        """Two accounts that are made at once on a new folder are both there."""
        self.data = self.data.with_name("new")
        processes = [
            subprocess.Popen(
                [
                    *(*PROGRAM, "account", "add", name),
                    *("--password-stdin", "--data", str(self.data)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
            for name in ("alice", "bob")
        ]
        for process in processes:
            out, _ = process.communicate(b"word\n", PATIENCE_S)
            self.assertIn(b"Recovery code: ", out)
            self.assertEqual(process.returncode, 0)
        self.assertEqual(self.open_book().count(), 2)

    def test_looked_at_only(self) -> None:
        """A book that is opened only to look finds names, and changes nothing."""
        book = open_account_book(
            Settings(data=self.data), QUICK, make=False, write=False
        )
        self.addCleanup(book.close)
        book.check_there("ALICE")
        book.check_free("bob")
        self.assertRaises(StorageError, book.add, "bob", "builder")
        self.assertEqual(self.book.count(), 1)
