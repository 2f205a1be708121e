"""Files through a whole server: over TLS, on the disk, and past a real clamd."""

from __future__ import annotations

import hashlib
import re
import secrets
import signal
import zipfile
from io import BytesIO

from attrs import evolve
from twisted.trial.unittest import TestCase

from securerecv.scanning.proofs import EICAR
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.vault.segments import SEGMENT_BYTES
from tests.clamd import Clamd, add_signature
from tests.program import ServerProcess
from tests.support import (
    QUICK,
    Talker,
    add_accounts,
    anonymous,
    dial,
    logged_in,
    new_folder,
    pause,
    start_receiver,
)
from tests.test_at_rest import found
from tests.vaults import contents_of

PASSWORDS = {"alice": "correct horse", "bob": "battery staple"}
NAME = "ledger-of-the-north-tower-qx77.pdf"
CONTENT = b"the heron lands at dawn; " * 100_000 + secrets.token_bytes(SEGMENT_BYTES)
PATIENCE_S = 20.0


def put_line(content: bytes, name: str = NAME, to: str = "alice") -> str:
    """Write the announcement of a file."""
    return f"PUT {to} {len(content)} {hashlib.sha256(content).hexdigest()} {name}"


async def put(talker: Talker, content: bytes, name: str = NAME) -> tuple[str, str]:
    """Send a whole file; its id and state are returned."""
    answer = await talker.ask(put_line(content, name))
    match = re.fullmatch(r"\+OK go ([0-9a-f]{16}) ([0-9]+)", answer[-1])
    assert match is not None, answer
    talker.say(content[int(match[2]) :])
    (received,) = await talker.answer()
    _, _, file_id, state = received.split(" ")
    assert file_id == match[1]
    return file_id, state


async def get(talker: Talker, file_id: str, offset: int = 0) -> bytes:
    """Fetch a file from an offset on."""
    talker.say(f"GET {file_id} {offset}")
    words = (await talker.line()).split(" ", 3)
    assert words[0] == "+OK", words
    return await talker.take(int(words[1]) - offset)


class FileServerTests(TestCase):
    """A server with a clamd."""

    def setUp(self) -> None:
        """Start both."""
        self.clamd = Clamd()
        self.addCleanup(self.clamd.remove)
        self.settings = Settings(
            proto="tcp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            scanner=f"unix:{self.clamd.place.path}",
        )
        add_accounts(self.settings, QUICK, **PASSWORDS)

    def start(self) -> Receiver:
        """Start the server."""
        return start_receiver(self, self.settings)

    async def login(self, receiver: Receiver, name: str = "alice") -> Talker:
        """Log somebody in."""
        return await logged_in(self, receiver, name, PASSWORDS[name])

    async def until_state(self, talker: Talker, file_id: str, state: str) -> list[str]:
        """Wait until a file has a state; its lines are returned."""
        lines: list[str] = []
        for _ in range(int(PATIENCE_S / 0.1)):
            lines = [line for line in await talker.ask("FILES") if file_id in line]
            if lines and lines[0].startswith(f"* FILE {file_id} {state} "):
                break
            await pause(0.1)
        else:
            self.fail(f"it is not {state}: {lines}")
        return lines

    async def test_clean(self) -> None:
        """A clean file is received, announced, listed, fetched and dropped."""
        receiver = self.start()
        alice = await self.login(receiver)
        await alice.ask("WATCH")
        nobody, _ = await anonymous(self, receiver)
        file_id, state = await put(nobody, CONTENT)
        self.assertEqual(state, "clean")
        announced = [await alice.line(), await alice.line()]
        for line, expected in zip(announced, ("scanning", "clean"), strict=True):
            self.assertTrue(line.startswith(f"! FILE {file_id} {expected} "), line)
            self.assertTrue(line.endswith(f" {NAME}"))
        listed, ok = await alice.ask("FILES")
        self.assertEqual(listed, announced[1].replace("!", "*", 1))
        self.assertEqual(ok, "+OK 1 files")
        self.assertEqual(await get(alice, file_id), CONTENT)
        self.assertEqual(await get(alice, file_id, 1_234_567), CONTENT[1_234_567:])
        self.assertEqual(await nobody.ask("FILES"), ["+OK 0 files"])
        (refused,) = await nobody.ask(f"GET {file_id}")
        self.assertTrue(refused.startswith("-ERR no-such-id"), refused)
        self.assertEqual(await alice.ask(f"DROP {file_id}"), ["+OK"])
        self.assertEqual(await alice.ask("FILES"), ["+OK 0 files"])
        stored = [name for name in contents_of(self.settings.data) if "files/" in name]
        self.assertEqual(stored, ["files/place"])

    async def test_message_by_id(self) -> None:
        """A message is fetched like a file."""
        receiver = self.start()
        alice = await self.login(receiver)
        (answer,) = await alice.ask("SAY alice good morning")
        message_id = answer.removeprefix("+OK ")
        self.assertEqual(await get(alice, message_id), b"good morning")
        self.assertEqual(await alice.ask(f"DROP {message_id}"), ["+OK"])

    async def test_infected(self) -> None:
        """The EICAR test string is found, plain and in an archive, and destroyed."""
        receiver = self.start()
        alice = await self.login(receiver)
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("invoice.com", EICAR)
        for number, content in enumerate((EICAR, archive.getvalue())):
            file_id, state = await put(alice, content, f"{number}")
            self.assertEqual(state, "infected")
            (refused,) = await alice.ask(f"GET {file_id}")
            self.assertTrue(refused.startswith("-ERR infected "), refused)
            lines = await self.until_state(alice, file_id, "infected")
            self.assertRegex(lines[1], rf"\* WHY {file_id} .*Eicar")

    async def test_scanner_away(self) -> None:
        """Files are held while there is no scanner, and clean when it is back."""
        receiver = self.start()
        alice = await self.login(receiver)
        self.clamd.stop()
        file_id, state = await put(alice, CONTENT)
        self.assertEqual(state, "held")
        lines = await self.until_state(alice, file_id, "held")
        self.assertTrue(lines[1].startswith(f"* WHY {file_id} "))
        (refused,) = await alice.ask(f"GET {file_id}")
        self.assertTrue(refused.startswith("-ERR not-clean "), refused)
        self.clamd.start()
        await self.until_state(alice, file_id, "clean")
        self.assertEqual(await get(alice, file_id), CONTENT)

    async def test_newer_signatures(self) -> None:
        """What new signatures know is found at the next download."""
        receiver = self.start()
        alice = await self.login(receiver)
        file_id, state = await put(alice, CONTENT)
        self.assertEqual(state, "clean")
        add_signature(self.clamd.signatures, "Heron", CONTENT[:24])
        self.clamd.reload()
        for _ in range(int(PATIENCE_S / 0.5)):
            alice.say(f"GET {file_id}")
            answer = await alice.line()
            if answer.startswith("-ERR"):
                break
            await alice.take(len(CONTENT))
            await pause(0.5)
        else:
            self.fail("it can still be had")
        self.assertTrue(answer.startswith("-ERR infected "), answer)
        self.assertIn("Heron", answer)

    async def test_restart(self) -> None:
        """An upload that a stop has cut off goes on after it."""
        receiver = self.start()
        bob = await self.login(receiver, "bob")
        (answer,) = await bob.ask(put_line(CONTENT))
        bob.say(CONTENT[: 2 * SEGMENT_BYTES + 5])
        file_id = answer.split(" ")[2]
        path = self.settings.data / "files" / file_id
        while not path.exists() or path.stat().st_size < 2 * SEGMENT_BYTES:
            await pause(0.05)
        await receiver.stopService()
        receiver = self.start()
        bob = await self.login(receiver, "bob")
        self.assertEqual(
            await bob.ask(put_line(CONTENT)), [f"+OK go {file_id} {2 * SEGMENT_BYTES}"]
        )
        bob.say(CONTENT[2 * SEGMENT_BYTES :])
        self.assertEqual(await bob.answer(), [f"+OK received {file_id} clean"])
        alice = await self.login(receiver)
        self.assertEqual(await get(alice, file_id), CONTENT)

    async def test_usage(self) -> None:
        """An argument that will not do is answered with the usage line and why."""
        alice = await self.login(self.start())
        file_id, _ = await put(alice, b"short")
        digest = hashlib.sha256(b"").hexdigest()
        usage = "-ERR usage PUT <to> <bytes> <sha256 in hex> <name to end of line>: "
        for request, answer in (
            (f"PUT alice 0 {digest} a/..", f"{usage}this is no file name"),
            (f"GET {file_id} 6", "-ERR usage GET <id> [offset]: that has only 5 bytes"),
            ("TOKEN NEW  ", "-ERR usage TOKEN NEW <label>"),
        ):
            self.assertEqual(await alice.ask(request), [answer])

    async def test_no_scanner(self) -> None:
        """Without a scanner no files are taken, and clean ones can still be had."""
        receiver = self.start()
        alice = await self.login(receiver)
        file_id, _ = await put(alice, CONTENT)
        await receiver.stopService()
        receiver = start_receiver(self, evolve(self.settings, scanner="none"))
        alice = await self.login(receiver)
        (refused,) = await alice.ask(put_line(CONTENT, "other"))
        self.assertTrue(refused.startswith("-ERR no-scanner "), refused)
        self.assertEqual(await get(alice, file_id), CONTENT)

    async def test_killed(self) -> None:
        """A server that is killed amid a file leaves nothing readable, and goes on."""
        server = ServerProcess(self.settings.data, "--scanner", self.settings.scanner)
        try:
            talker = await dial(self, server.port)
            await talker.ask("ANON")
            (answer,) = await talker.ask(put_line(CONTENT))
            file_id = answer.split(" ")[2]
            talker.say(CONTENT[: 2 * SEGMENT_BYTES + 100_000])
            path = self.settings.data / "files" / file_id
            while path.stat().st_size < 2 * SEGMENT_BYTES:
                await pause(0.05)
        finally:
            server.end(signal.SIGKILL)
        needles = {"content": CONTENT[:50], "name": NAME.encode(), "to": b"alice"}
        self.assertEqual(found(contents_of(self.settings.data), needles), set())
        receiver = self.start()
        nobody, _ = await anonymous(self, receiver)
        self.assertEqual(await put(nobody, CONTENT), (file_id, "clean"))
        alice = await self.login(receiver)
        self.assertEqual(await get(alice, file_id), CONTENT)
