"""The ``securerecv`` program around its commands."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv import __version__
from securerecv.cli import main as cli_main
from securerecv.cli.loop import run
from tests.command import PROGRAM, TIMEOUT_S
from tests.program import ROOT


class MainTests(SynchronousTestCase):
    """The program around the commands."""

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command line without a server."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def test_help(self) -> None:
        """The help names every command, and each has its own."""
        code, out, _ = self.run_main("--help")
        self.assertEqual(code, 0)
        for name in cli_main.COMMANDS:
            self.assertRegex(out, rf"\n  {name} ")
        for name in ("send", "last", "watch"):
            code, out, _ = self.run_main(name, "-h")
            self.assertEqual(code, 0)
            self.assertIn(f"Usage: securerecv {name} [OPTIONS] SERVER", out)
            self.assertEqual("anonymous" in out, name != "last")

    def test_every_command(self) -> None:
        """Every command of the table is there, under its name."""
        context = click.Context(cli_main.cli)
        for name in cli_main.cli.list_commands(context):
            command = cli_main.cli.get_command(context, name)
            assert command is not None
            self.assertEqual(command.name, name)

    def test_version(self) -> None:
        """The version is told."""
        self.assertEqual(
            self.run_main("--version"), (0, f"securerecv, version {__version__}\n", "")
        )

    def test_wrong_usage(self) -> None:
        """No command, and one that is none, are exit 2."""
        self.assertEqual(self.run_main()[0], 2)
        code, _, err = self.run_main("sned")
        self.assertEqual(code, 2)
        self.assertIn("No such command 'sned'", err)

    def test_light(self) -> None:
        """The help is shown without loading Twisted."""
        program = (
            "import sys; from securerecv.cli import main; main._run(['--help']);"
            " sys.exit('twisted' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True
        )
        self.assertEqual(done.returncode, 0)

    def run_instead(self, command: str) -> tuple[int, str]:
        """Run the program with another `watch`; give the exit code and stderr."""
        program = (
            "from securerecv.cli import main\n"
            f"main.COMMANDS['watch'] = {command!r}, ''\n"
            "main.main(['watch'])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    def test_own_fault(self) -> None:
        """A fault of the program is one line that says where it is."""
        code, err = self.run_instead("securerecv.cli.nowhere:watch")
        self.assertEqual(code, 1)
        self.assertRegex(
            err,
            r"^securerecv: please report this: ModuleNotFoundError: .*, line \d+\)\n$",
        )

    def test_interrupted(self) -> None:
        """After Ctrl-C a command's work ends, and does not deal with lost peers."""
        self.assertEqual(
            self.run_instead("tests.test_cli_main:interrupted"),
            (-signal.SIGINT, "it ends: CancelledError\n\n"),
        )

    def test_closed_streams(self) -> None:
        """A stream that is closed from the start is no reason for a traceback."""
        for closed, words, code in (
            ("<&-", "send 127.0.0.1:1 --to alice", 2),
            (">&-", "--version", 0),
            ("2>&-", "send 127.0.0.1:1 --to alice hi --pin x", 2),
            ("<&- >&- 2>&-", "send 127.0.0.1:1 --to alice hi", 1),
        ):
            done = subprocess.run(
                ["/bin/sh", "-c", f"{shlex.join(PROGRAM)} {words} {closed}"],
                check=False,
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=TIMEOUT_S,
            )
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertNotIn("Traceback", done.stderr)
            self.assertNotIn("report this", done.stderr)

    def test_complaints(self) -> None:
        """What a command complains of is one line, and fit for a terminal."""
        self.assertEqual(
            self.run_instead("tests.test_cli_main:complaining"),
            (1, "securerecv: two^Jlines^[[2J\n"),
        )


@click.command()
def interrupted() -> None:
    """Press Ctrl-C while something is waited for."""

    async def work(reactor: Any) -> None:
        reactor.callLater(0, os.kill, os.getpid(), signal.SIGINT)
        try:
            await Deferred[None]()
        except BaseException as error:
            click.echo(f"it ends: {type(error).__name__}", err=True)
            raise

    run(work)


@click.command()
def complaining() -> None:
    """Complain."""
    raise click.ClickException("two\nlines\x1b[2J")
