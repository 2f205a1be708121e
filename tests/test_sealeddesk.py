"""Sealed datagrams against a real server, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import cast

from attrs import evolve
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.intake.announcer import Announcer
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Messages
from securerecv.intake.sealedboxes import SealedBoxes
from securerecv.intake.sealeddesk import MESSAGE_BYTES, REFUSAL_BYTES, SealedDesk
from securerecv.intake.vaultopening import open_vault
from securerecv.net.sockopts import segment_control
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.vault import seen
from securerecv.vault.keyring import open_keyring
from securerecv.vault.store import Store
from securerecv.wire.drops import DropReason
from securerecv.wire.hpke import Psk
from securerecv.wire.openings import (
    BURST_PER_ADDRESS_S,
    OPENING_COST_S,
    OpeningBudget,
)
from securerecv.wire.replay import MAX_ENCS, ReplayMemory, ReplayRecord
from securerecv.wire.sealed import SealedReceiver
from securerecv.wire.sealing import SealedSender
from tests.support import (
    add_accounts,
    allowance,
    connect,
    logged_in,
    new_folder,
    pause,
    start_receiver,
)
from tests.test_conversation import SlowStore

PATIENCE_S = 10.0
NOW_S = 1_700_000_000.0


class SlowStoreTests(SynchronousTestCase):
    """What is held while the store does not answer."""

    def setUp(self) -> None:
        """Make a desk in front of a store that takes its time."""
        self.store = SlowStore()
        self.share = allowance(100_000)
        keyring = open_keyring(Path(self.mktemp()).absolute())
        self.sender = SealedSender(keyring.sealing_public_key)
        boxes = SealedBoxes(cast(Store, self.store), cast(Mailboxes, None), 5)
        self.desk = SealedDesk(
            SealedReceiver(
                [keyring.sealing_key.private_bytes_raw()],
                lambda _: None,
                ReplayMemory(),
                OpeningBudget(),
            ),
            Messages(boxes, Announcer(), lambda: NOW_S),
            lambda _: self.share,
            lambda: NOW_S,
            1000,
            lambda _: None,
            anonymous=True,
        )

    def take(self, datagrams: list[bytes]) -> list[DropReason]:
        """Have the desk take datagrams."""
        dropped = self.desk.received(datagrams, "192.0.2.1", lambda _: None)
        self.desk.post()
        return dropped

    def test_bounded(self) -> None:
        """However short they are, no more is taken than may be held, but later is."""
        for request, least in (
            (b"SEND alice 0\r\n\r\n", MESSAGE_BYTES),
            (b"#t SEND alice 1\r\nx\r\n", MESSAGE_BYTES),
            (b"SAY alice x\n", MESSAGE_BYTES),
            (b"#t NONSENSE", REFUSAL_BYTES),
        ):
            taken = 0
            datagram = self.sender.seal(request, NOW_S)
            while not (dropped := self.take([datagram])):
                taken += 1
                self.assertLessEqual(taken * least, 100_000)
                datagram = self.sender.seal(request, NOW_S)
            self.assertEqual(dropped, [DropReason.OVER_BUDGET])
            self.assertGreater(taken * least, 90_000)
            while self.store.commits:
                self.store.commit()
            self.assertEqual(self.share.left, 100_000)
            self.assertEqual(self.take([datagram]), [])
            self.store.commit()
            self.assertEqual(self.share.left, 100_000)


class SealedTests(TestCase):
    """What one datagram does."""

    def setUp(self) -> None:
        """Start a receiver for both transports, and open a socket."""
        self.settings = Settings(
            proto="both", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="a", bob="b")
        self.start(self.settings)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.settimeout(PATIENCE_S)

    def start(self, settings: Settings) -> None:
        """Start a receiver."""
        self.receiver: Receiver = start_receiver(self, settings)

    def sender(self, psk: Psk | None = None) -> SealedSender:
        """Make an end that seals for the receiver."""
        return SealedSender(self.receiver.identity.sealing_key, psk)

    def fire(self, datagram: bytes) -> None:
        """Send a datagram."""
        self.socket.sendto(datagram, ("127.0.0.1", self.receiver.ports["udp"][1]))

    async def ask(self, sender: SealedSender, request: bytes) -> str:
        """Send a tagged request, and open its answer."""
        datagram = sender.seal(request, time.time())
        self.fire(datagram)
        reply: bytes = await deferToThread(self.socket.recv, 65536)
        self.assertEqual(reply[0], 0xC2)
        self.assertLessEqual(len(reply), len(datagram))
        return sender.open_reply(reply)[1].decode()

    async def box(self, count: int) -> list[str]:
        """Read alice's box when it holds some messages; sender and body of each."""
        alice = await logged_in(self, self.receiver, "alice", "a")
        lines: list[str] = []
        for _ in range(200):
            lines = await alice.ask("LAST")
            if len(lines) > 2 * count:
                break
            await pause(0.02)
        headings = [line.split(" ")[3] for line in lines[:-1:2]]
        return [
            f"{who} {what}" for who, what in zip(headings, lines[1::2], strict=True)
        ]

    async def quiet(self) -> None:
        """Nothing comes back."""
        self.socket.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            await deferToThread(self.socket.recv, 65536)
        self.socket.settimeout(PATIENCE_S)

    async def test_anonymous(self) -> None:
        """One datagram is one message; without a tag nothing comes back."""
        sender = self.sender()
        self.fire(sender.seal(b"SAY alice one\n", time.time()))
        self.fire(sender.seal(b"SEND alice 3\ntwo\r\n", time.time()))
        self.assertEqual(await self.box(2), ["anon one", "anon two"])
        await self.quiet()

    async def test_answered(self) -> None:
        """A tagged request is answered once, refusals too."""
        sender = self.sender()
        answer = await self.ask(sender, b"#t SAY alice hello\n")
        self.assertRegex(answer, r"^#t \+OK [0-9a-f]{16}\n$")
        answer = await self.ask(sender, b"#u SAY nobody hello, hello, hello\n")
        self.assertTrue(answer.startswith("#u -ERR no-mailbox "), answer)
        answer = await self.ask(sender, b"#v LAST                              \n")
        self.assertTrue(answer.startswith("#v -ERR not-allowed "), answer)
        answer = await self.ask(sender, b"#w NONSENSE                          \n")
        self.assertTrue(answer.startswith("#w -ERR usage HELP "), answer)
        self.assertEqual(await self.box(1), ["anon hello"])
        await self.quiet()

    async def test_refused_in_silence(self) -> None:
        """What is refused is counted, since who wants no answer hears nothing."""
        sender = self.sender()
        for request in (b"SAY nobody hello\n", b"LAST\n", b"NONSENSE\n", b"SAY alice"):
            self.fire(sender.seal(request, time.time()))
        self.assertEqual(await self.box(1), [])
        await self.quiet()
        datagrams = self.receiver._datagrams
        assert datagrams is not None
        dropped = datagrams.server.counters.dropped
        kinds = {"no-mailbox": 1, "not-allowed": 1, "usage": 2}
        expected = {f"sealed {kind}": count for kind, count in kinds.items()}
        self.assertEqual(dropped, expected)

    async def test_one_request(self) -> None:
        """With anything behind its request, nothing of a datagram is taken."""
        sender = self.sender()
        for number, request in enumerate(
            (
                b"SAY alice one\nSAY alice two\n",
                b"SEND alice 3\none\r\nSEND alice 3\ntwo\r\n",
                b"SAY alice one\nSEND alice 3\ntw",
                b"SAY alice one\nLAST\n",
            )
        ):
            answer = await self.ask(sender, b"#t%d %b" % (number, request))
            self.assertTrue(answer.startswith(f"#t{number} -ERR usage SAY"), answer)
        answer = await self.ask(sender, b"#u SAY alice only\n\r\n")
        self.assertTrue(answer.startswith("#u +OK "), answer)
        self.assertEqual(await self.box(1), ["anon only"])

    async def test_token(self) -> None:
        """A datagram with a token is its owner's, until the token is dropped."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        _, token_id, secret = (await bob.ask("TOKEN NEW weather station"))[0].split(" ")
        psk = Psk(bytes.fromhex(token_id), bytes.fromhex(secret))
        sender = self.sender(psk)
        answer = await self.ask(sender, b"#t SAY alice 21 degrees\n")
        self.assertTrue(answer.startswith("#t +OK "), answer)
        self.fire(
            self.sender(Psk(bytes.fromhex(token_id), bytes(32))).seal(
                b"SAY alice x", time.time()
            )
        )
        self.assertEqual(await bob.ask(f"TOKEN DROP {token_id}"), ["+OK"])
        self.fire(sender.seal(b"#u SAY alice 22 degrees\n", time.time()))
        await self.quiet()
        self.assertEqual(await self.box(1), ["bob 21 degrees"])

    async def test_wrong(self) -> None:
        """What is repeated, late, changed or for others is met with silence."""
        sender = self.sender()
        datagram = sender.seal(b"#t SAY alice once\n", time.time())
        self.fire(datagram)
        await deferToThread(self.socket.recv, 65536)
        changed = bytearray(sender.seal(b"#t SAY alice changed\n", time.time()))
        changed[-1] ^= 1
        for bad in (
            datagram,
            sender.seal(b"#t SAY alice late\n", time.time() - 130),
            sender.seal(b"#t SAY alice early\n", time.time() + 130),
            bytes(changed),
            SealedSender(bytes([9]) + bytes(31)).seal(b"#t SAY alice x", time.time()),
        ):
            self.fire(bad)
        await self.quiet()
        self.assertEqual(await self.box(1), ["anon once"])

    async def test_repeated_after_restart(self) -> None:
        """A datagram is not taken a second time by a server that was restarted."""
        sender = self.sender()
        datagram = sender.seal(b"SAY alice once\n", time.time())
        self.fire(datagram)
        self.assertEqual(await self.box(1), ["anon once"])
        await self.receiver.stopService()
        self.start(self.settings)
        self.fire(datagram)
        self.fire(sender.seal(b"SAY alice twice\n", time.time()))
        self.assertEqual(await self.box(2), ["anon once", "anon twice"])

    async def test_stopped_while_committing(self) -> None:
        """What comes while a commit takes long is kept, though the server stops."""
        store = self.receiver.office.store
        stopping = threading.Event()
        self.addCleanup(stopping.set)
        stop = store.stop

        def wait() -> None:
            stopping.wait()

        def stop_and_release() -> None:
            stopping.set()
            stop()

        store._writer.submit(wait)
        self.patch(store, "stop", stop_and_release)
        self.fire(self.sender().seal(b"SAY alice first", time.time()))
        while not store._committing or store._waiting:
            await pause(0.01)
        self.fire(self.sender().seal(b"SAY alice second", time.time()))
        while not store._waiting:
            await pause(0.01)
        await self.receiver.stopService()
        self.start(self.settings)
        self.assertEqual(await self.box(2), ["anon first", "anon second"])

    async def test_together(self) -> None:
        """What comes in one batch is taken one by one, and all of it remembered."""
        one, two = self.sender(), self.sender()
        requests = (
            (one, b"SEND alice 3\r\nabc\r\n"),
            (two, b"SEND alice 9\r\ncut\r\n"),
            (one, b"NONSENSE, as long\r\n"),
            (two, b"SAY alice 2nd but 1"),
            (one, b"SEND alice 3\r\nxyz\r\n"),
        )
        batch = [sender.seal(said, time.time()) for sender, said in requests]
        self.assertEqual(len(set(map(len, batch))), 1)
        where = ("127.0.0.1", self.receiver.ports["udp"][1])
        self.socket.sendmsg(batch, segment_control(len(batch[0])), 0, where)
        kept = ["anon abc", "anon 2nd but 1", "anon xyz"]
        self.assertEqual(await self.box(3), kept)
        await self.receiver.stopService()
        self.start(self.settings)
        where = ("127.0.0.1", self.receiver.ports["udp"][1])
        self.socket.sendmsg(batch, segment_control(len(batch[0])), 0, where)
        # What was opened is not opened again, what was no message neither.
        await self.ask(self.sender(), b"#t SAY alice end of it\n")
        self.assertEqual(await self.box(4), [*kept, "anon end of it"])

    async def test_senders_together(self) -> None:
        """What several senders' datagrams of one turn ask for, each is told."""
        others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        where = ("127.0.0.1", self.receiver.ports["udp"][1])
        asked = []
        for number, sock in enumerate([self.socket, *others] * 2):
            self.addCleanup(sock.close)
            sock.settimeout(PATIENCE_S)
            sender = self.sender()
            to = b"nobody" if number % 2 else b"alice"
            request = b"#t%d SEND %b 10\r\nthe text %d\r\n" % (number, to, number)
            sock.sendto(sender.seal(request, time.time()), where)
            asked.append((sock, sender, number))
        for sock, sender, number in asked:
            reply: bytes = await deferToThread(sock.recv, 65536)
            answer = sender.open_reply(reply)[1].decode()
            self.assertRegex(answer, rf"^#t{number} (\+OK|-ERR no-mailbox) ")
            self.assertEqual("+OK" in answer, number % 2 == 0)
        texts = [f"anon the text {number}" for number in (0, 2, 4)]
        self.assertEqual(await self.box(3), texts)

    async def test_restart_after_a_flood(self) -> None:
        """However much was taken within the last hour, a restart lets new ones in."""
        await self.receiver.stopService()
        vault = open_vault(self.settings, make=False)
        expired_s = int(time.time()) - 200
        with vault.engine.begin() as connection:
            seen.put(
                connection,
                [
                    ReplayRecord(number.to_bytes(16), expired_s, bytes(9))
                    for number in range(MAX_ENCS + 1000)
                ],
            )
        vault.engine.dispose()
        self.start(self.settings)
        answer = await self.ask(self.sender(), b"#t SAY alice after the flood\n")
        self.assertTrue(answer.startswith("#t +OK "), answer)

    async def test_no_anonymous(self) -> None:
        """Where nobody is let in without a login, a token is wanted."""
        await self.receiver.stopService()
        self.start(evolve(self.settings, anonymous=False))
        answer = await self.ask(self.sender(), b"#t SAY alice hello, hello, hello\n")
        self.assertTrue(answer.startswith("#t -ERR not-allowed "), answer)

    async def test_live(self) -> None:
        """A sealed message reaches who watches, an anonymous session too."""
        watcher = await connect(self, self.receiver)
        address = (await watcher.ask("ANON"))[-1].removeprefix("+OK ")
        await watcher.ask("WATCH")
        answer = await self.ask(self.sender(), f"#t SAY {address} psst\n".encode())
        self.assertTrue(answer.startswith("#t +OK "), answer)
        self.assertRegex(await watcher.line(), r"^! MSG \w{16} anon \S+ 4$")
        self.assertEqual(await watcher.take(6), b"psst\r\n")

    async def test_flood(self) -> None:
        """Openings that cost too much are refused, and conversations go on."""
        alice = await logged_in(self, self.receiver, "alice", "a")
        datagrams = self.receiver._datagrams
        assert datagrams is not None
        # However long it takes, no more openings are granted for it.
        now_s = time.time()
        self.patch(datagrams._sealed, "_seconds", lambda: now_s)
        crowd = [
            self.sender().seal(f"SAY bob {number}\n".encode(), now_s)
            for number in range(500)
        ]
        counters = datagrams.server.counters
        for number, datagram in enumerate(crowd):
            self.fire(datagram)
            if number % 50 == 0:
                self.assertEqual(await alice.ask("PING"), ["+OK pong"])
        while counters.taken["sealed"] < len(crowd):
            await pause(0.01)
        granted = len(crowd) - counters.dropped["sealed over-budget"]
        self.assertLess(abs(granted - BURST_PER_ADDRESS_S / OPENING_COST_S), 2)
