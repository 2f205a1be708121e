"""The commands `send`, `last` and `watch`, run as a user runs them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from securerecv.service import Receiver
from tests.command import (
    PROGRAM,
    TIMEOUT_S,
    WRONG_USAGE,
    CommandTests,
    Ended,
    press_ctrl_c,
)
from tests.support import start_receiver


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
        ]:
            self.refuses(words, *arguments, stdin=stdin)
        await self.fails(WRONG_USAGE, "no terminal to ask", *user, "hi")
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
        self.refuses("an anonymous session has no box", *last)
        self.refuses("do not go together", *user, "--raw", "--json")
        self.refuses("Invalid value for '-n'", *user, "-n", "0")

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
