"""The ``securerecv`` command, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pexpect
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from securerecv.cli.main import main
from securerecv.settings import Settings
from tests.program import ROOT
from tests.support import add_accounts, new_folder, start_receiver

PROGRAM = (sys.executable, "-m", "securerecv.cli.main")
TIMEOUT_S = 30
FINGER_S = 0.2
WRONG_USAGE = 2


@frozen
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: bytes
    err: str


def show_at_terminal(
    words: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[int, str]:
    """
    Run a command at a terminal of 120 columns, which nothing is typed into.

    Returns:
        Its exit code, and what was shown.
    """
    program, *rest = words
    process: Any = pexpect.spawn(
        program,
        rest,
        env={**environment, "TERM": "xterm", "COLUMNS": "120"},
        cwd=str(folder),
        encoding="utf-8",
        timeout=TIMEOUT_S,
        dimensions=(24, 120),
    )
    shown = process.read()
    process.close()
    return process.exitstatus, shown


def run_here(
    *words: str, given: bytes = b"", environment: Mapping[str, str] | None = None
) -> Ended:
    """
    Run a command line in this process: one that ends before the network.

    Starting Python takes much longer than refusing a command line does.

    Args:
        words: of the command line, without the program.
        given: on standard input.
        environment: instead of this process's.
    """
    streams: dict[str, Any] = {
        "stdin": TextIOWrapper(BytesIO(given), "utf-8"),
        "stdout": TextIOWrapper(out := BytesIO(), "utf-8"),
        "stderr": TextIOWrapper(err := BytesIO(), "utf-8"),
    }
    code = 0
    with (
        patch.multiple(sys, **streams),
        patch.dict(os.environ, environment or os.environ, clear=True),
    ):
        try:
            main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            for stream in streams.values():
                stream.flush()
    return Ended(code, out.getvalue(), err.getvalue().decode())


def press_ctrl_c(process: Any) -> None:
    """
    Press Ctrl-C, a moment after what was on the screen.

    In the very instant in which Python begins to read, it would see the signal
    only when the read has ended; nobody's finger is that quick.
    """
    time.sleep(FINGER_S)
    process.sendintr()


class CommandTests(TestCase):
    """Commands against a receiver in this process, each a process of its own."""

    def setUp(self) -> None:
        """Start a receiver with two accounts, and make a home for the user."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)
        self.port = self.receiver.ports["tcp"][1]
        self.server = f"127.0.0.1:{self.port}"
        self.pin = self.receiver.identity.pin
        self.home = new_folder(self)
        self.home.mkdir()
        self.known = self.home / "securerecv" / "known_servers"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SECURERECV_")
        }
        self.environment |= {
            "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "TZ": "Asia/Kolkata",
        }

    def run_command(
        self, *arguments: str, stdin: bytes = b"", **environment: str
    ) -> Deferred[Ended]:
        """Run a command where there is no terminal."""

        def run() -> Ended:
            done = subprocess.run(
                [*PROGRAM, *arguments],
                cwd=self.home,
                env=self.environment | environment,
                input=stdin,
                capture_output=True,
                timeout=TIMEOUT_S,
                start_new_session=True,
                check=False,
            )
            return Ended(done.returncode, done.stdout, done.stderr.decode())

        return deferToThread(run)

    async def works(self, *arguments: str, stdin: bytes = b"", **more: str) -> str:
        """Run a command that ends well, and give what it printed."""
        ended = await self.run_command(*arguments, stdin=stdin, **more)
        self.assertEqual((ended.code, ended.err), (0, ""))
        return ended.out.decode()

    async def fails(
        self, code: int, words: str, *arguments: str, stdin: bytes = b"", **more: str
    ) -> None:
        """Run a command that fails, and see how and with which words."""
        ended = await self.run_command(*arguments, stdin=stdin, **more)
        self.assertEqual((ended.code, ended.out), (code, b""), ended.err)
        self.assertIn(words, ended.err)
        self.assertNotIn("Traceback", ended.err)
        if code == 1:
            self.assertTrue(ended.err.startswith("securerecv: "), ended.err)
            self.assertEqual(ended.err.count("\n"), 1, ended.err)

    def refuses(self, words: str, *arguments: str, stdin: bytes = b"") -> None:
        """See that a command line is wrong usage, and with which words it is told."""
        ended = run_here(*arguments, given=stdin, environment=self.environment)
        self.assertEqual((ended.code, ended.out), (WRONG_USAGE, b""), ended.err)
        self.assertIn(words, ended.err)

    def at_terminal(
        self, *arguments: str, then: Callable[[Any], None], **environment: str
    ) -> Deferred[int]:
        """
        Run a command at a terminal.

        Args:
            arguments: of the program.
            then: is given the pexpect process.
            environment: more variables.

        Returns:
            Fires with the exit code, as a shell gives it.
        """

        def run() -> int:
            process = pexpect.spawn(
                PROGRAM[0],
                [*PROGRAM[1:], *arguments],
                cwd=str(self.home),
                env=self.environment | environment,
                encoding="utf-8",
                timeout=TIMEOUT_S,
            )
            try:
                then(process)
                process.expect(pexpect.EOF)
            finally:
                process.close()
            self.assertNotIn("Traceback", process.before)
            if process.signalstatus is not None:
                return 128 + int(process.signalstatus)
            return int(process.exitstatus)

        return deferToThread(run)

    def last_json(self, *arguments: str) -> Deferred[list[dict[str, Any]]]:
        """Give what is in alice's box, as JSON says it."""
        words = ("last", self.server, "--pin", self.pin, "--user", "alice", "--json")
        listed = self.run_command(*words, *arguments, SECURERECV_PASSWORD="wonder land")
        return listed.addCallback(
            lambda ended: [json.loads(line) for line in ended.out.splitlines()]
        )
