"""``put --udp`` and ``get --udp``, run as a user runs them, with a real clamd."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from securerecv.scanning.proofs import EICAR
from securerecv.settings import Settings
from tests.clamd import clamd
from tests.command import PROGRAM, TIMEOUT_S, Ended, show_at_terminal
from tests.program import environment
from tests.relay import Relay
from tests.support import add_accounts, new_folder, pause, start_receiver

MIB = 1 << 20
LARGE = secrets.token_bytes(8 * MIB + 5)
SMALL = b"the heron lands at dawn"
LANE = b"\xc3"
PASSWORDS = {"alice": "wonder land", "bob": "builder"}


@frozen
class Command:
    """
    A command that was begun.

    Attributes:
        words: its command line.
        environment: its environment.
        folder: where it works.
    """

    words: list[str]
    environment: dict[str, str]
    folder: Path

    def begin(self) -> subprocess.Popen[bytes]:
        """Begin it where there is no terminal."""
        return subprocess.Popen(
            self.words,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def at_terminal(self) -> tuple[int, str]:
        """Run it at a terminal; give its exit code, and what was shown."""
        return show_at_terminal(self.words, self.environment, self.folder)


class FilesTests(TestCase):
    """Files over UDP between processes, through a receiver in this one."""

    timeout = 90

    def setUp(self) -> None:
        """Start a receiver with two accounts, and a way to it that can be cut."""
        settings = Settings(
            proto="udp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            scanner=f"unix:{clamd().place.path}",
            keep_free=0,
        )
        add_accounts(settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, settings)
        self.relay = Relay(self, self.receiver.ports["udp"][1])
        self.folder = new_folder(self)
        self.folder.mkdir()

    def command(self, verb: str, *words: str, user: str = "alice") -> Command:
        """Give a command that uses UDP; with an empty user, an anonymous one."""
        way = [f"127.0.0.1:{self.relay.port}", "--pin", self.receiver.identity.pin]
        login = ["--user", user] if user else []
        return Command(
            [*PROGRAM, verb, *way, "--udp", *login, *words],
            environment() | {"SECURERECV_PASSWORD": PASSWORDS.get(user, "")},
            self.folder,
        )

    async def ends(self, process: subprocess.Popen[bytes]) -> Ended:
        """Wait for the end of a command."""
        out, err = await deferToThread(process.communicate, timeout=TIMEOUT_S)
        return Ended(process.returncode, out, err.decode())

    async def run_command(self, verb: str, *words: str, user: str = "alice") -> Ended:
        """Run a command to its end."""
        return await self.ends(self.command(verb, *words, user=user).begin())

    async def works(self, verb: str, *words: str, user: str = "alice") -> bytes:
        """Run a command that ends well, and give what it printed."""
        ended = await self.run_command(verb, *words, user=user)
        self.assertEqual((ended.code, ended.err), (0, ""))
        return ended.out

    async def put(self, path: Path, *words: str, user: str = "bob") -> str:
        """Send alice a file that is clean; give its id."""
        said = await self.works("put", "--to", "alice", str(path), *words, user=user)
        self.assertRegex(said, rb"\Asent [0-9a-f]{16}: clean\n\Z")
        return said.decode()[5:21]

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def cut_after(self, count: int, *, from_server: bool) -> None:
        """Lose all lane packets of one direction after so many bytes of them."""
        left = count

        def lose(is_from_server: bool, data: bytes) -> bool:
            nonlocal left
            if is_from_server is not from_server or not data.startswith(LANE):
                return False
            left -= len(data)
            return left < 0

        self.relay.lose = lose

    async def interrupted(self, command: Command, when: Callable[[], bool]) -> None:
        """Begin a command, and end it by Ctrl-C when something holds."""
        process = command.begin()
        self.addCleanup(process.kill)
        while not when():
            await pause(0.01)
        process.send_signal(signal.SIGINT)
        ended = await self.ends(process)
        self.assertEqual(ended.code, -signal.SIGINT)
        self.assertNotIn("Traceback", ended.err)
        self.relay.lose = lambda _from_server, _data: False

    def carried(self) -> int:
        """Count the bytes of lane packets that the server was sent."""
        packets = [data for data in self.relay.passed if data.startswith(LANE)]
        self.relay.passed.clear()
        return sum(map(len, packets))

    # -- what holds -------------------------------------------------------------

    async def test_there_and_back(self) -> None:
        """What a user or nobody sends is scanned, listed and fetched as it was."""
        for content, user in ((LARGE, "bob"), (SMALL, ""), (b"", "bob")):
            path = self.write("größe.bin", content)
            file_id = await self.put(path, user=user)
            listed = await self.works("files")
            self.assertIn(file_id.encode(), listed)
            self.assertIn("größe.bin".encode(), listed)
            path.unlink()
            said = await self.works("get", file_id)
            expected = f"wrote größe.bin ({len(content)} bytes, SHA-256 is right)\n"
            self.assertEqual(said.decode(), expected)
            self.assertEqual(path.read_bytes(), content)
            out = await self.works("get", file_id, "-o", "-")
            self.assertEqual(out, content)
        self.assertGreater(self.carried(), len(LARGE))

    async def test_infected(self) -> None:
        """An infected file is a no to who sends it, and to who wants it."""
        path = self.write("x", EICAR)
        ended = await self.run_command("put", "--to", "alice", str(path), user="bob")
        self.assertEqual(ended.code, 1)
        self.assertRegex(ended.out, rb"\Asent [0-9a-f]{16}: infected\n\Z")
        said = "securerecv: x was found infected: nobody can fetch it\n"
        self.assertEqual(ended.err, said)
        ended = await self.run_command("get", ended.out.decode()[5:21])
        self.assertEqual((ended.code, ended.out), (1, b""))
        self.assertIn("(infected)", ended.err)
        self.assertEqual(ended.err.count("\n"), 1)
        self.assertEqual(list(self.folder.iterdir()), [path])

    async def test_refused(self) -> None:
        """What the server refuses is said in one line, as over TCP."""
        path = self.write("x", SMALL)
        for verb, words, said in [
            ("put", ("--to", "carol", str(path)), "(no-mailbox)"),
            ("put", ("--to", "anon-abcdefgh23456789", str(path)), "(not-allowed)"),
            ("get", ("0123456789abcdef",), "(no-such-id)"),
        ]:
            ended = await self.run_command(verb, *words)
            self.assertEqual((ended.code, ended.out), (1, b""))
            self.assertIn(said, ended.err)
            self.assertEqual(ended.err.count("\n"), 1)

    async def test_put_goes_on(self) -> None:
        """A file that was broken off goes on behind what had come."""
        path = self.write("x", LARGE)
        files = self.receiver.office.files
        self.cut_after(3 * MIB, from_server=False)
        command = self.command("put", "--to", "alice", str(path), user="bob")
        await self.interrupted(
            command, lambda: any(f.done >= 2 * MIB for f in files.arriving())
        )
        self.carried()
        file_id = await self.put(path)
        self.assertLess(self.carried(), len(LARGE) - MIB)
        self.assertEqual(await self.works("get", file_id, "-o", "-"), LARGE)

    async def test_get_goes_on(self) -> None:
        """A file that was fetched in part is fetched from there on."""
        file_id = await self.put(self.write("x", LARGE))
        self.cut_after(3 * MIB, from_server=True)
        part = self.folder / f"{file_id}.part"
        await self.interrupted(
            self.command("get", file_id, "-o", "y"),
            lambda: part.exists() and part.stat().st_size >= MIB,
        )
        before = part.stat().st_size
        self.cut_after(len(LARGE) - before + MIB, from_server=True)
        await self.works("get", file_id, "-o", "y")
        self.assertEqual((self.folder / "y").read_bytes(), LARGE)
        self.assertFalse(part.exists())

    async def test_bars(self) -> None:
        """At a terminal a bar shows how far it is."""
        path = self.write("x", LARGE)
        put = self.command("put", "--to", "alice", str(path), user="bob")
        code, shown = await deferToThread(put.at_terminal)
        self.assertEqual(code, 0, shown)
        self.assertIn("sending x", shown)
        said = re.search(r"sent ([0-9a-f]{16}): clean\r\n\Z", shown)
        file_id = said[1] if said else ""
        get = self.command("get", file_id, "-o", "y")
        code, shown = await deferToThread(get.at_terminal)
        self.assertEqual(code, 0, shown)
        self.assertIn(f"receiving {file_id}", shown)
        self.assertEqual((self.folder / "y").read_bytes(), LARGE)
