"""``--udp`` and ``send --sealed``, run as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.client.datagrams import NOBODY_RECEIVES
from securerecv.settings import Settings
from tests.command import PROGRAM, TIMEOUT_S, WRONG_USAGE, Ended, run_here
from tests.program import environment
from tests.support import add_accounts, logged_in, new_folder, start_receiver

FINGER_TOKEN = "0" * 32 + ":" + "1" * 64


class WrongUsageTests(SynchronousTestCase):
    """Options that do not go together."""

    def test_refused(self) -> None:
        """They are refused before anything is sent, and no secret is repeated."""
        send = ("send", "127.0.0.1:9", "--to", "alice", "hello")
        for more, words in [
            (("--ack",), "go with --sealed"),
            (("--token", FINGER_TOKEN), "go with --sealed"),
            (("--sealed", "--user", "bob"), "use --token"),
            (("--sealed", "--key", "12"), "64 hexadecimal digits"),
            (("--sealed", "--token", "secret"), "a token is 32 hexadecimal digits"),
            (("--sealed", "--token-file", "/nowhere"), "does not exist"),
        ]:
            ended = run_here(*send, *more)
            self.assertEqual((ended.code, ended.out), (WRONG_USAGE, b""), ended.err)
            self.assertIn(words, " ".join(ended.err.split()))
            self.assertNotIn("secret", ended.err)


class CommandTests(TestCase):
    """Commands against a receiver in this process, each a process of its own."""

    timeout = 60

    def setUp(self) -> None:
        """Start a receiver with two accounts, and make a home for the user."""
        self.settings = Settings(
            proto="both", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)
        self.server = f"127.0.0.1:{self.receiver.ports['udp'][1]}"
        self.pin = self.receiver.identity.pin
        self.key = self.receiver.identity.sealing_key.hex()
        self.home = new_folder(self)
        self.home.mkdir()
        self.known = self.home / "securerecv" / "known_servers"
        self.environment = environment() | {"XDG_CONFIG_HOME": str(self.home)}

    async def run_command(self, *words: str, **more: str) -> Ended:
        """Run a command where there is no terminal."""

        def run_it() -> Ended:
            done = subprocess.run(
                [*PROGRAM, *words],
                env=self.environment | more,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                start_new_session=True,
                check=False,
            )
            return Ended(done.returncode, done.stdout, done.stderr.decode())

        return await deferToThread(run_it)

    async def works(self, *words: str, **more: str) -> str:
        """Run a command that ends well, and give what it printed."""
        ended = await self.run_command(*words, **more)
        self.assertEqual((ended.code, ended.err), (0, ""))
        return ended.out.decode()

    async def fails(self, *words: str) -> str:
        """Run a command that says no, and give its one line of words."""
        ended = await self.run_command(*words)
        self.assertEqual((ended.code, ended.out), (1, b""), ended.err)
        self.assertEqual(ended.err.count("\n"), 1, ended.err)
        return ended.err

    async def last(self, *more: str) -> list[dict[str, str]]:
        """Give Alice's messages."""
        printed = await self.works(
            *("last", self.server, "--pin", self.pin, "--user", "alice", "--json"),
            *more,
            SECURERECV_PASSWORD="wonder land",
        )
        return [json.loads(line) for line in printed.splitlines()]

    def watching(self, *more: str) -> subprocess.Popen[bytes]:
        """Begin to watch."""
        return subprocess.Popen(
            [*PROGRAM, "watch", self.server, "--pin", self.pin, *more],
            env=self.environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    async def test_send_and_last(self) -> None:
        """A message is sent and shown over UDP; a large one without its body."""
        way = (self.server, "--pin", self.pin, "--udp")
        sent = await self.works("send", *way, "--to", "alice", "hello", "there")
        self.assertRegex(sent, r"^sent [0-9a-f]{16}\n$")
        words = await self.fails("send", *way, "--to", "alice", "x" * 1200)
        self.assertIn("use TCP (too-large)", words)
        await self.works(
            "send", self.server, "--pin", self.pin, "--to", "alice", "y" * 2000
        )
        first, second = await self.last("--udp")
        self.assertEqual((first["from"], first["text"]), ("anon", "hello there"))
        self.assertEqual(second["bytes"], 2000)
        self.assertNotIn("text", second)
        shown = await self.works(
            *("last", *way, "--user", "alice"), SECURERECV_PASSWORD="wonder land"
        )
        self.assertIn("    hello there\n", shown)
        self.assertIn("(2000 bytes: too large for a datagram; fetch it with get", shown)
        self.environment["SECURERECV_PASSWORD"] = "wonder land"
        words = await self.fails("last", *way, "--user", "alice", "--raw")
        self.assertIn("2000 bytes: too large for a datagram", words)

    async def test_watch(self) -> None:
        """A watcher shows what comes, and its command for others works."""
        watching = self.watching("--udp", "--json")
        out = watching.stdout
        assert out is not None
        self.addCleanup(out.close)
        self.addCleanup(watching.wait)
        self.addCleanup(watching.kill)
        first = json.loads(await deferToThread(out.readline))
        self.assertIn(" --udp ", first["command"])
        words = first["command"].replace("'your message'", "hello").split(" ")[1:]
        await self.works(*words)
        message = json.loads(await deferToThread(out.readline))
        self.assertEqual((message["from"], message["text"]), ("anon", "hello"))
        watching.send_signal(signal.SIGINT)
        code = await deferToThread(watching.wait, TIMEOUT_S)
        self.assertEqual(code, -signal.SIGINT)

    async def test_unknown_key(self) -> None:
        """Where there is no terminal, an unknown key is refused and named."""
        for how in ("--udp", "--sealed"):
            words = await self.fails("send", self.server, how, "--to", "alice", "x")
            self.assertIn(f"give --pin {self.pin}", words)
        self.assertEqual(await self.last(), [])

    async def test_nobody(self) -> None:
        """Where nobody receives, that is said in one line."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            server = "127.0.0.1:{1}".format(*free.getsockname())
        words = await self.fails("send", server, "--udp", "--to", "alice", "x")
        self.assertEqual(
            words, f"securerecv: cannot reach {server}: {NOBODY_RECEIVES}\n"
        )

    async def test_sealed(self) -> None:
        """A sealed datagram is fired; with --ack its answer is shown."""
        way = ("send", self.server, "--sealed", "--key", self.key, "--to", "alice")
        fired = await self.works(*way, "one")
        self.assertEqual(fired, "sent; nobody says whether it arrived\n")
        sent = await self.works(*way, "--ack", "two")
        messages = await self.last()
        self.assertEqual([m["text"] for m in messages], ["one", "two"])
        self.assertEqual(sent, f"sent {messages[1]['id']}\n")
        words = await self.fails(*way, "x" * 1200)
        self.assertIn("a sealed datagram to alice holds 1140 bytes", words)
        words = await self.fails(
            *(*way[:-1], "nobody", "--ack", "a text that leaves room for an answer")
        )
        self.assertIn("(no-mailbox)", words)

    async def test_token(self) -> None:
        """A token, however it is given, makes its owner the sender."""
        talker = await logged_in(self, self.receiver, "bob", "builder")
        _, token_id, secret = (await talker.ask("TOKEN NEW x"))[-1].split(" ")
        token = f"{token_id}:{secret}"
        file: Path = self.home / "token"
        await deferToThread(file.write_text, token + "\n")
        way = ("send", self.server, "--sealed", "--key", self.key, "--to", "alice")
        await self.works(*way, "--ack", "--token", token, "1")
        await self.works(*way, "--ack", "--token-file", str(file), "2")
        await self.works(*way, "--ack", "3", SECURERECV_TOKEN=token)
        self.assertEqual([m["from"] for m in await self.last()], ["bob"] * 3)

    async def test_key_is_remembered(self) -> None:
        """The sealing key is asked for once, of a server that is known."""
        self.known.parent.mkdir()
        await deferToThread(self.known.write_text, f"{self.server} {self.pin}\n")
        way = ("send", self.server, "--sealed", "--ack", "--to", "alice")
        await self.works(*way, "one")
        remembered = await deferToThread(self.known.read_text)
        self.assertEqual(remembered, f"{self.server} {self.pin} x25519//{self.key}\n")
        wrong = f"{self.server} {self.pin} x25519//{os.urandom(32).hex()}\n"
        await deferToThread(self.known.write_text, wrong)
        words = await self.fails(*way, "two")
        self.assertIn("nobody knows whether the message was stored", words)
        self.assertEqual([m["text"] for m in await self.last()], ["one"])
