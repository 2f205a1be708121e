"""A whole receiver with a real clamd of its own, and files sent and fetched."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.client.errors import DisconnectedError
from securerecv.client.outgoing import outgoing
from securerecv.errors import ErrorCode, MisuseError, OperatorError, PeerError
from securerecv.scanning.proofs import EICAR
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.wire.filelines import FileRecord, FileState
from tests.clamd import make_signatures
from tests.clientends import anybody, failing
from tests.filehouse import Line
from tests.support import (
    QUICK,
    add_accounts,
    anonymous,
    logged_in,
    new_folder,
    pause,
    start_receiver,
)

reactor: Any = _reactor

MIB = 1 << 20
LARGE = secrets.token_bytes(3 * MIB + 5)


def put_line(to: str, content: bytes, name: str = "a b") -> bytes:
    """Give the request that announces a file."""
    digest = hashlib.sha256(content).hexdigest()
    return f"PUT {to} {len(content)} {digest} {name}\n".encode()


class ServiceTests(TestCase):
    """What the cases here have in common."""

    timeout = 120
    scanner = "spawn"

    def setUp(self) -> None:
        """Start a receiver with two accounts."""
        self.settings = Settings(
            proto="tcp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            scanner=self.scanner,
            max_file=20 * MIB,
            keep_free=0,
        )
        if self.scanner == "spawn":
            signatures = make_signatures(new_folder(self))
            self.settings = evolve(self.settings, signatures=signatures)
        add_accounts(self.settings, alice="a", bob="b")
        self.receiver = start_receiver(self, self.settings)
        self.folder = new_folder(self)
        self.folder.mkdir()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.receiver.ports["tcp"][1]

    async def enter(self, name: str = "", port: int | None = None) -> Client:
        """Connect, and log in or not."""
        address = ServerAddress("127.0.0.1", port or self.port)
        client = await connect(reactor, address, anybody)
        if name:
            await client.login(name, name[0])
        else:
            await client.anonymous()
        return client

    async def restart(self) -> None:
        """Stop the receiver, and start it again on its data."""
        await self.receiver.stopService()
        self.receiver = start_receiver(self, self.settings)

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path


class ScannedTests(ServiceTests):
    """Files, and what a real clamd says of them."""

    async def verdict(self, client: Client, content: bytes, name: str) -> FileState:
        """Send a file until it was scanned."""
        while True:
            receipt = await client.put("alice", io.BytesIO(content), name)
            if receipt.state not in (FileState.SCANNING, FileState.HELD):
                return receipt.state
            await pause(0.1)

    async def test_the_whole_way(self) -> None:
        """Clean files come out as they went in; infected ones do not."""
        alice = await self.enter("alice")
        told: list[FileRecord] = []
        await alice.watch(lambda _: None, told.append)
        for name in ("bob", ""):
            sender = await self.enter(name)
            for content in (b"", b"hello", LARGE):
                title = f"{name} größe {len(content)}"
                state = await self.verdict(sender, content, title)
                self.assertIs(state, FileState.CLEAN)
            state = await self.verdict(sender, EICAR, f"{name} bad")
            self.assertIs(state, FileState.INFECTED)
            await sender.quit()
        records = await alice.files()
        self.assertEqual(len(records), 8)
        for record in records:
            if record.state is FileState.CLEAN:
                await alice.get(record.id, self.folder)
                content = (self.folder / record.name).read_bytes()
                self.assertEqual(hashlib.sha256(content).hexdigest(), record.sha256)
            else:
                self.assertIn("Eicar-Test-Signature", record.why)
                error = await failing(alice.get(record.id, self.folder), PeerError)
                self.assertIs(error.code, ErrorCode.INFECTED)
        self.assertEqual(len(list(self.folder.iterdir())), 6)
        self.assertEqual({r.sender for r in records}, {"bob", "anon"})
        states = {(record.id, record.state) for record in told}
        self.assertTrue(states.issuperset((r.id, r.state) for r in records))
        await alice.drop(records[0].id)
        self.assertEqual(len(await alice.files()), 7)
        await alice.quit()

    async def test_restart_amid_a_file(self) -> None:
        """After a restart a file goes on, and it is found clean and whole."""
        line = Line(self, self.port)
        ready = await outgoing(self.write("x", LARGE))
        client = await self.enter("bob", line.port)
        line.break_after(up=2 * MIB + 300_000)
        await failing(client.put("alice", ready), DisconnectedError)
        await self.restart()
        offsets: list[int] = []
        ready.progress = lambda _stage, done, _total: offsets.append(done)
        client = await self.enter("bob")
        receipt = await client.put("alice", ready)
        self.assertIn(offsets[0], (MIB, 2 * MIB))
        while receipt.state is not FileState.CLEAN:
            await pause(0.1)
            receipt = await client.put("alice", ready)
        ready.close()
        await client.quit()
        alice = await self.enter("alice")
        into = io.BytesIO()
        await alice.get(receipt.id, into)
        self.assertEqual(into.getvalue(), LARGE)
        await alice.quit()

    async def test_stopped_amid_a_file(self) -> None:
        """A server that stops while files travel ends soon, and loses nothing."""
        talker = await logged_in(self, self.receiver, "bob", "b")
        await talker.ask(put_line("alice", LARGE))
        talker.say(LARGE[: 2 * MIB])
        await pause(0.2)
        await self.restart()
        talker = await logged_in(self, self.receiver, "bob", "b")
        [answer] = await talker.ask(put_line("alice", LARGE))
        offset = int(answer.rpartition(" ")[2])
        self.assertGreaterEqual(offset, MIB)
        talker.say(LARGE[offset:])
        self.assertTrue((await talker.line()).startswith("+OK received "))


class UnscannedTests(ServiceTests):
    """What is refused or answered before any scan."""

    scanner = "none"

    async def test_no_scanner(self) -> None:
        """Where nothing is scanned no file is taken, and the talk goes on."""
        talker, _ = await anonymous(self, self.receiver)
        [answer] = await talker.ask(put_line("alice", b"hello"))
        self.assertTrue(answer.startswith("-ERR no-scanner "), answer)
        self.assertEqual(await talker.ask("FILES"), ["+OK 0 files"])
        [answer] = await talker.ask("GET 00ff")
        self.assertTrue(answer.startswith("-ERR no-such-id "), answer)

    async def test_messages(self) -> None:
        """A message is fetched as a file is, whole or from an offset, and dropped."""
        bob = await self.enter("bob")
        number = await bob.send("bob", LARGE[:MIB])
        into = io.BytesIO()
        found = await bob.get(number, into)
        self.assertEqual(into.getvalue(), LARGE[:MIB])
        self.assertEqual(found.name, f"message-{number}")
        await bob.drop(number)
        error = await failing(bob.get(number, into), PeerError)
        self.assertIs(error.code, ErrorCode.NO_SUCH_ID)
        await bob.quit()

    async def test_damaged_folder(self) -> None:
        """A server whose files cannot be read does not start, and says why."""
        await self.receiver.stopService()
        # What is called as content is deleted when nobody knows of it.
        (self.settings.data / "files" / ("0" * 16) / "x").mkdir(parents=True)
        receiver = Receiver(self.settings, reactor, QUICK)
        receiver.privilegedStartService()
        self.assertRaises(OperatorError, receiver.startService)
        # The program would end here.
        await receiver._listening["tcp"].stopListening()
        for held in receiver._locks:
            os.close(held)


class WaitingTests(ServiceTests):
    """What comes while the scanner is away."""

    def setUp(self) -> None:
        """Start a receiver whose scanner is not there."""
        folder = new_folder(self)
        folder.mkdir()
        self.scanner = f"unix:{folder / 'clamd.sock'}"
        super().setUp()

    async def test_held(self) -> None:
        """Files are taken, held, and given to nobody."""
        told: Deferred[FileRecord] = Deferred()
        alice = await self.enter("alice")

        def on_file(record: FileRecord) -> None:
            if record.why and not told.called:
                told.callback(record)

        await alice.watch(lambda _: None, on_file)
        bob = await self.enter("bob")
        receipt = await bob.put("alice", io.BytesIO(b"hello"), "x")
        record = await told
        self.assertEqual((record.id, record.state), (receipt.id, FileState.HELD))
        error = await failing(alice.get(record.id, self.folder), PeerError)
        self.assertIs(error.code, ErrorCode.NOT_CLEAN)
        await bob.quit()
        await alice.quit()

    async def test_names(self) -> None:
        """Names are data in any script, and lead nowhere."""
        bob = await self.enter("bob")
        for written, name in [
            ("../../etc/passwd", "passwd"),
            ("отчёт 世界 🎉.pdf", "отчёт 世界 🎉.pdf"),
            (" two  blanks ", " two  blanks "),
        ]:
            receipt = await bob.put("bob", io.BytesIO(written.encode()), written)
            names = {record.id: record.name for record in await bob.files()}
            self.assertEqual(names[receipt.id], name)
        for written in ("..", "a/", "\x1b[2J", "x" * 256):
            await failing(bob.put("bob", io.BytesIO(b""), written), MisuseError)
        await bob.quit()

    async def test_wrong_names(self) -> None:
        """What is no name is refused whoever the client is, and the rest goes on."""
        talker = await logged_in(self, self.receiver, "bob", "b")
        for written in ("..", "a/", "\x1b[2J", "x" * 256):
            [answer] = await talker.ask(f"PUT bob 0 {'0' * 64} {written}")
            self.assertTrue(answer.startswith("-ERR usage PUT "), answer)
        self.assertEqual(await talker.ask("FILES"), ["+OK 0 files"])

    async def test_refused(self) -> None:
        """What is too large, for nobody, or not as announced is refused."""
        talker = await logged_in(self, self.receiver, "bob", "b")
        for request, code in [
            (f"PUT alice {20 * MIB + 1} {'0' * 64} x", "too-large"),
            (f"PUT nobody 5 {'0' * 64} x", "no-mailbox"),
            (f"PUT anon-aaaaaaaaaaaaaaaa 5 {'0' * 64} x", "not-allowed"),
            ("PUT alice 5 abc x", "usage"),
            (f"PUT alice 5 {'0' * 64}", "usage"),
        ]:
            [answer] = await talker.ask(request)
            self.assertTrue(answer.startswith(f"-ERR {code} "), answer)
        talker.say(put_line("alice", b"hello") + b"h3llo")
        self.assertTrue((await talker.line()).startswith("+OK go "))
        self.assertTrue((await talker.line()).startswith("-ERR mismatch "))
        self.assertEqual(await talker.ask("PING"), ["+OK pong"])

    async def test_limit_lowered(self) -> None:
        """When the limit was lowered, what came before is still there."""
        bob = await self.enter("bob")
        receipt = await bob.put("bob", io.BytesIO(LARGE), "x")
        await bob.quit()
        self.settings = evolve(self.settings, max_file=MIB)
        await self.restart()
        bob = await self.enter("bob")
        self.assertEqual(bob.limits.file, MIB)
        self.assertEqual([record.id for record in await bob.files()], [receipt.id])
        await bob.quit()
