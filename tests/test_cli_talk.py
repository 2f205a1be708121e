"""The commands `send`, `last` and `watch`, run as a user runs them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
import pexpect
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv import __version__
from securerecv.cli import main as cli_main
from securerecv.cli.loop import run
from securerecv.cli.terminal import (
    MAX_DUMPED_BYTES,
    visible,
    visible_body,
    visible_line,
)
from securerecv.service import Receiver
from securerecv.settings import Settings
from tests.support import add_accounts, new_folder, start_receiver

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (sys.executable, "-m", "securerecv.cli.main")
TIMEOUT_S = 30
FINGER_S = 0.2
ONE_PIN = "sha256//" + "A" * 43 + "="


class TerminalTests(SynchronousTestCase):
    """Text from elsewhere, made fit for a terminal."""

    def test_shown(self) -> None:
        """Control and format characters are shown; other text is left alone."""
        for text, shown in [
            ("Grüße, 世界 🎉\n\tend", "Grüße, 世界 🎉\n\tend"),
            ("\x1b[2J\r\0\x7f", "^[[2J^M^@^?"),
            ("\x9b2J\x85\xad", "\\x9b2J\\x85\\xad"),
            ("\u202egpj.exe\u2066\ufeff\u2028", "\\u202egpj.exe\\u2066\\ufeff\\u2028"),
            ("\U000e0041", "\\U000e0041"),
            ("\udc80", "\\udc80"),
        ]:
            self.assertEqual(visible(text), shown)
        self.assertEqual(visible_line("a\nb\tc\x1b"), "a^Jb^Ic^[")

    @settings(deadline=None)
    @given(st.text())
    def test_nothing_to_obey(self, text: str) -> None:
        """No text leaves anything in it that a terminal would obey."""
        for shown in (
            visible(text).replace("\n", "").replace("\t", ""),
            visible_line(text),
        ):
            assert not {unicodedata.category(c) for c in shown} & {
                "Cc",
                "Cf",
                "Cs",
                "Zl",
                "Zp",
            }

    @settings(deadline=None)
    @given(st.binary(max_size=600))
    def test_any_body(self, body: bytes) -> None:
        """Any body can be shown, and in no more room than it deserves."""
        shown = visible_body(body)
        assert len(shown) < 6 * len(body) + 1000
        assert "\x1b" not in shown

    def test_bodies(self) -> None:
        """Text is text, old text is nearly text, and the rest is a dump."""
        self.assertEqual(visible_body(b"one\r\ntwo\r\n"), "one^M\ntwo")
        self.assertEqual(
            visible_body("Viele Grüße".encode("latin-1")), "Viele Gr\\xfc\\xdfe"
        )
        self.assertEqual(visible_body(b""), "")
        heading, row = visible_body(b"\x89PNG\r\n\x1a\n\0").split("\n")
        self.assertEqual(heading, "(9 bytes that are no text)")
        self.assertEqual(row.split("  ")[1], "89 50 4e 47 0d 0a 1a 0a 00")
        self.assertTrue(row.endswith(" .PNG....."))
        lines = visible_body(b"\xff" * (MAX_DUMPED_BYTES + 1)).split("\n")
        self.assertEqual((len(lines), lines[-1]), (18, "…"))


def press_ctrl_c(process: Any) -> None:
    """
    Press Ctrl-C, a moment after what was on the screen.

    In the very instant in which Python begins to read, it would see the signal
    only when the read has ended; nobody's finger is that quick.
    """
    time.sleep(FINGER_S)
    process.sendintr()


@attrs.frozen
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: bytes
    err: str


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


class SendTests(CommandTests):
    """`securerecv send`."""

    async def test_texts(self) -> None:
        """Text comes from the arguments or from standard input, as it is."""
        send = ("send", self.server, "--pin", self.pin, "--to", "alice")
        sent = [
            await self.works(*send, "two", "words"),
            await self.works(*send, "-", stdin=b"line\n\xff\n"),
            await self.works(*send, stdin="Grüße\n".encode()),
            await self.works(
                *(*send, "--user", "bob", "--password-stdin"),
                stdin=b"builder\r\nbody\n",
            ),
            await self.works(
                *(*send, "--user", "bob", "--", "--text"),
                SECURERECV_PASSWORD="builder",
            ),
        ]
        box = await self.last_json()
        self.assertEqual(sent, [f"sent {message['id']}\n" for message in box])
        self.assertEqual(
            [(m["from"], m.get("text") or base64.b64decode(m["base64"])) for m in box],
            [
                ("anon", "two words"),
                ("anon", b"line\n\xff\n"),
                ("anon", "Grüße\n"),
                ("bob", "body\n"),
                ("bob", "--text"),
            ],
        )

    async def test_refusals(self) -> None:
        """What the server refuses is said in one line, with exit 1."""
        send = ("send", self.server, "--pin", self.pin, "--to")
        words = "securerecv: there is no such user (no-mailbox)"
        await self.fails(1, words, *send, "nobody", "hi")
        await self.fails(1, " (too-large)\n", *send, "alice", stdin=bytes(1048577))
        login = ("--user", "bob", "--password-stdin")
        await self.fails(1, " (auth)", *send, "alice", *login, "hi", stdin=b"wrong\n")
        words = "most 4096 bytes"
        await self.fails(1, words, *send, "alice", *login, "hi", stdin=b"x" * 5000)

    async def test_wrong_usage(self) -> None:
        """Wrong usage is exit 2, and nothing is sent."""
        send = ("send", self.server, "--pin", self.pin)
        to = (*send, "--to", "alice")
        user = (*to, "--user", "bob")
        for words, arguments, stdin in [
            ("Missing option '--to'", send, b""),
            ("nothing to send", to, b""),
            ("no blanks", (*send, "--to", "a b", "hi"), b""),
            ("no blanks", (*send, "--to", "", "hi"), b""),
            ("is not HOST", ("send", "a b", "--to", "alice", "hi"), b""),
            ("not a port", ("send", "a:0", "--to", "alice", "hi"), b""),
            ("44 characters", (*to, "--pin", "sha256//x", "hi"), b""),
            ("goes with --user", (*to, "--password-stdin", "hi"), b"x\n"),
            ("no password", (*user, "--password-stdin", "hi"), b"\nx"),
            ("not UTF-8", (*user, "--password-stdin", "hi"), b"\xff\n"),
            ("no password", (*user, "--password-stdin", "hi"), b"x" * 9000),
            ("no terminal to ask", (*user, "hi"), b""),
        ]:
            await self.fails(2, words, *arguments, stdin=stdin, SECURERECV_PASSWORD="")
        self.assertEqual(await self.last_json(), [])

    async def test_unreachable(self) -> None:
        """A server that is not there is named in one line."""
        await self.receiver.stopService()
        words = f"cannot reach {self.server}: nothing listens there"
        await self.fails(1, words, "send", self.server, "--to", "alice", "hi")


class LastTests(CommandTests):
    """`securerecv last`."""

    def send(self, body: bytes) -> Deferred[str]:
        """Send alice a message, and give its id."""
        words = ("send", self.server, "--pin", self.pin, "--to", "alice")
        sent = self.run_command(*words, stdin=body)
        return sent.addCallback(lambda ended: ended.out.decode().split()[1])

    async def test_shown(self) -> None:
        """Messages stand below headings; they cannot steer or imitate."""
        last = ("last", self.server, "--pin", self.pin, "--user", "alice")
        self.environment["SECURERECV_PASSWORD"] = "wonder land"
        nothing = await self.run_command(*last)
        self.assertEqual(nothing, Ended(0, b"", "no messages\n"))
        self.assertEqual(await self.works(*last, "--json"), "")

        first = await self.send(b"\x1b]0;title\x07\n\nbob  2026-01-01 00:00:00  00ff\n")
        second = await self.send(b"\xff\x00")
        lines = (await self.works(*last)).splitlines()
        moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        self.assertRegex(lines[0], f"^anon  {moment}  {first}$")
        self.assertEqual(
            lines[1:4],
            ["    ^[]0;title^G", "", "    bob  2026-01-01 00:00:00  00ff"],
        )
        self.assertRegex(lines[4], f"^anon  {moment}  {second}$")
        self.assertEqual(lines[5], "    (2 bytes that are no text)")
        self.assertEqual(len(lines), 7)

        (newest,) = await self.last_json("-n", "1")
        self.assertEqual(
            {**newest, "when": ""},
            {"id": second, "from": "anon", "when": "", "bytes": 2, "base64": "/wA="},
        )
        # The heading is in local time, here 5 h 30 min before UTC.
        minutes = int(newest["when"][14:16])
        self.assertEqual(int(lines[4][20:22]), (minutes + 30) % 60)

        raw = await self.run_command(*last, "--raw", "-n", "1")
        self.assertEqual(raw, Ended(0, b"\xff\x00", ""))

    async def test_wrong_usage(self) -> None:
        """What cannot be asked for is exit 2, with the reason."""
        last = ("last", self.server, "--pin", self.pin)
        user = (*last, "--user", "alice")
        await self.fails(2, "an anonymous session has no box", *last)
        await self.fails(2, "do not go together", *user, "--raw", "--json")
        await self.fails(2, "Invalid value for '-n'", *user, "-n", "0")

        def refuse(process: Any) -> None:
            process.expect("--raw is not for a terminal")

        self.assertEqual(await self.at_terminal(*user, "--raw", then=refuse), 2)

    async def test_nobody_reads(self) -> None:
        """Output that nobody takes is no reason for a traceback."""
        await self.send(b"x" * 500_000)
        last = (*PROGRAM, "last", self.server, "--pin", self.pin, "--user", "alice")
        environment = self.environment | {"SECURERECV_PASSWORD": "wonder land"}

        def run(out: int) -> tuple[int, bytes]:
            done = subprocess.run(
                last,
                stdout=out,
                stderr=subprocess.PIPE,
                env=environment,
                timeout=TIMEOUT_S,
                check=False,
            )
            return done.returncode, done.stderr

        reader, writer = os.pipe()
        os.close(reader)
        full = os.open("/dev/full", os.O_WRONLY)
        for out, words in ((writer, b""), (full, b"securerecv: No space left")):
            with contextlib.closing(os.fdopen(out, "wb")):
                code, err = await deferToThread(run, out)
            self.assertEqual(code, 1)
            self.assertTrue(err.startswith(words), err)
            self.assertEqual(err.count(b"\n"), int(bool(words)), err)


class TrustTests(CommandTests):
    """Servers' keys, remembered on first use."""

    def last(self) -> tuple[str, ...]:
        """Give the command that these tests run."""
        return ("last", self.server, "--user", "alice")

    async def test_no_terminal(self) -> None:
        """Where nobody can be asked, an unknown key is refused and not stored."""
        words = f"give --pin {self.pin}"
        await self.fails(1, words, "send", self.server, "--to", "alice", "hi")
        self.assertFalse(self.known.exists())
        self.assertEqual(await self.last_json(), [])

    async def test_wrong_pin(self) -> None:
        """A server with another key than the given one hears nothing."""
        send = ("send", self.server, "--to", "alice", "hi", "--pin")
        await self.fails(1, f"key is {self.pin} and not", *send, ONE_PIN)
        self.assertEqual(await self.last_json(), [])
        await self.works(*send, f"{ONE_PIN};{self.pin}")

    async def test_yes(self) -> None:
        """An accepted key is stored, and not asked about again."""

        def accept(process: Any) -> None:
            process.expect_exact(self.pin)
            process.expect_exact("(yes/no)")
            process.sendline("maybe")
            process.expect_exact("(yes/no)")
            process.sendline("yes")
            process.expect(f"Remembered in {self.known}")
            process.expect("Password of alice on")
            process.sendline("wonder land")
            process.expect("no messages")

        self.assertEqual(await self.at_terminal(*self.last(), then=accept), 0)
        self.assertEqual(self.known.read_text(), f"{self.server} {self.pin}\n")
        self.assertEqual(self.known.stat().st_mode & 0o777, 0o600)

        def enter(process: Any) -> None:
            process.expect("Password")
            self.assertNotIn("yes/no", process.before)
            process.sendline("wonder land")
            process.expect("no messages")
            self.assertNotIn("wonder", process.before)

        self.assertEqual(await self.at_terminal(*self.last(), then=enter), 0)
        await self.works("send", self.server, "--to", "alice", "hi")

    async def test_no(self) -> None:
        """A key that is turned down is not stored; nor is one at Ctrl-D."""
        for answer in ("no\n", "\x04"):

            def refuse(process: Any, answer: str = answer) -> None:
                process.expect_exact("(yes/no)")
                process.send(answer)
                process.expect("was not accepted; nothing was sent")

            self.assertEqual(await self.at_terminal(*self.last(), then=refuse), 1)
            self.assertFalse(self.known.exists())

    async def test_changed_key(self) -> None:
        """A changed key is refused, and the way out of it works."""
        self.known.parent.mkdir()
        self.known.write_text(f"# mine\n{self.server} {self.pin}\n")
        await self.receiver.stopService()
        impostor = start_receiver(
            self, attrs.evolve(self.settings, port=self.port, data=new_folder(self))
        )
        send = ("send", self.server, "--to", "alice", "hi")
        words = f"now is {impostor.identity.pin}"
        await self.fails(1, words, *send)
        words = f"remove line 2 from {self.known}"
        await self.fails(1, words, *send)

        def refuse(process: Any) -> None:
            process.expect("has changed")
            process.expect("nothing was sent")

        self.assertEqual(await self.at_terminal(*send, then=refuse), 1)
        self.known.write_text("# mine\n")

        def accept(process: Any) -> None:
            process.expect_exact("(yes/no)")
            process.sendline("y")
            process.expect("no such user")

        self.assertEqual(await self.at_terminal(*send, then=accept), 1)

    async def test_damaged_file(self) -> None:
        """A file that is no list of servers is named; nobody is trusted."""
        self.known.parent.mkdir()
        self.known.write_text("garbage\n")
        words = f"{self.known}, line 1: HOST:PORT"
        await self.fails(1, words, "send", self.server, "--to", "alice", "hi")


class TypingTests(CommandTests):
    """What is typed at a terminal."""

    async def test_interrupted(self) -> None:
        """Ctrl-C at any question ends the command quietly, as the signal does."""
        known = ("last", self.server, "--user", "alice", "--pin", self.pin)
        unknown = ("last", self.server, "--user", "alice")
        typing = ("send", self.server, "--to", "alice")
        for arguments, prompt in (
            (known, "Password"),
            (unknown, "yes/no"),
            (typing, "Type the message"),
        ):

            def interrupt(process: Any, prompt: str = prompt) -> None:
                process.expect(prompt)
                press_ctrl_c(process)

            code = await self.at_terminal(*arguments, then=interrupt)
            self.assertEqual(code, 130, prompt)

    async def test_no_password(self) -> None:
        """Ctrl-D at the password is no password, and is said to be none."""

        def nothing(process: Any) -> None:
            process.expect("Password")
            process.sendeof()
            process.expect_exact("\r\nsecurerecv: no password was given\r\n")

        arguments = ("last", self.server, "--user", "alice", "--pin", self.pin)
        self.assertEqual(await self.at_terminal(*arguments, then=nothing), 1)

    async def test_interrupted_loop(self) -> None:
        """Ctrl-C ends a shell's loop around commands as well."""
        words = shlex.join([*PROGRAM, "watch", self.server, "--pin", self.pin])
        loop = f"for turn in 1 2 3; do {words}; done; echo over"

        def run() -> tuple[str, int | None]:
            process: Any = pexpect.spawn(
                "bash", ["-c", loop], env=self.environment, encoding="utf-8"
            )
            process.timeout = TIMEOUT_S
            process.expect("Your address is")
            press_ctrl_c(process)
            process.expect(pexpect.EOF)
            process.close()
            return process.before, process.signalstatus

        shown, ended_by = await deferToThread(run)
        self.assertEqual(ended_by, signal.SIGINT)
        self.assertNotIn("over", shown)
        self.assertNotIn("Your address is", shown)

    async def test_message(self) -> None:
        """A message is typed, and ended with Ctrl-D."""

        def write(process: Any) -> None:
            process.expect("Ctrl-D")
            process.sendline("one")
            process.sendline("two")
            process.sendeof()
            process.expect("sent [0-9a-f]{16}")

        send = ("send", self.server, "--to", "alice", "--pin", self.pin)
        self.assertEqual(await self.at_terminal(*send, then=write), 0)
        (message,) = await self.last_json()
        self.assertEqual(message["text"], "one\ntwo\n")


class WatchTests(CommandTests):
    """`securerecv watch`."""

    async def test_anonymous(self) -> None:
        """The command that is shown reaches the watcher; Ctrl-C ends it."""

        def talk(process: Any) -> None:
            process.expect(r"Your address is (anon-[a-z0-9]{16})")
            process.expect(r"    securerecv (send [^\r\n]+) 'your message'")
            command = process.match[1].split(" ")
            subprocess.run(
                [*PROGRAM, *command, "\x1b[31mhello"],
                env=self.environment,
                check=True,
                capture_output=True,
                timeout=TIMEOUT_S,
            )
            process.expect(r"anon  .*[0-9a-f]{16}")
            process.expect_exact("    ^[[31mhello\r\n")
            press_ctrl_c(process)

        code = await self.at_terminal(
            "watch", self.server, "--pin", self.pin, then=talk
        )
        self.assertEqual(code, 130)

    def watching(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start to watch where there is no terminal."""
        process = subprocess.Popen(
            [*PROGRAM, "watch", self.server, "--pin", self.pin, "--json", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    async def test_server_stops(self) -> None:
        """A watcher whose server stops ends with 1 and the reason."""
        process = self.watching()
        assert process.stdout is not None
        first = json.loads(await deferToThread(process.stdout.readline))
        self.assertRegex(first["address"], "^anon-[a-z0-9]{16}$")
        self.assertIn(f"--to {first['address']}", first["command"])
        await self.receiver.stopService()
        out, err = await deferToThread(process.communicate, timeout=TIMEOUT_S)
        self.assertEqual(
            (process.returncode, out, err),
            (1, b"", b"securerecv: the server hung up: the server is stopping\n"),
        )

    async def test_nobody_reads(self) -> None:
        """A watcher whose output nobody takes any more ends quietly."""
        process = self.watching()
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(await deferToThread(process.stdout.readline))
        process.stdout.close()
        send = ("send", self.server, "--pin", self.pin, "--to", first["address"], "hi")
        await self.works(*send)
        err = await deferToThread(process.stderr.read)
        process.stderr.close()
        code = await deferToThread(process.wait, TIMEOUT_S)
        self.assertEqual((code, err), (1, b""))

    async def test_user(self) -> None:
        """A user is shown what comes into the box, at once, even into a pipe."""
        self.environment["SECURERECV_PASSWORD"] = "wonder land"
        process = self.watching("--user", "alice")
        assert process.stdout is not None
        line = deferToThread(process.stdout.readline)
        send = ("send", self.server, "--pin", self.pin, "--to", "alice", "hi")
        while not line.called:
            await self.works(*send)
        message = json.loads(await line)
        self.assertEqual((message["from"], message["text"]), ("anon", "hi"))
        process.send_signal(signal.SIGINT)
        await deferToThread(process.communicate, timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, -signal.SIGINT)

    async def test_user_at_terminal(self) -> None:
        """At a terminal a user is told that it has begun, and how to end it."""

        def interrupt(process: Any) -> None:
            process.expect("Watching; Ctrl-C ends it")
            press_ctrl_c(process)

        code = await self.at_terminal(
            *("watch", self.server, "--pin", self.pin, "--user", "alice"),
            then=interrupt,
            SECURERECV_PASSWORD="wonder land",
        )
        self.assertEqual(code, 130)

    async def test_no_anonymous(self) -> None:
        """A server that wants logins says so."""
        await self.receiver.stopService()
        settings = attrs.evolve(self.settings, port=self.port, anonymous=False)
        receiver: Receiver = start_receiver(self, settings)
        words = "(not-allowed)"
        await self.fails(1, words, "watch", self.server, "--pin", receiver.identity.pin)


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
            self.run_instead("tests.test_cli_talk:interrupted"),
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
            self.run_instead("tests.test_cli_talk:complaining"),
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
