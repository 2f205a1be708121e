"""The client sends sealed datagrams, and remembers what they are sealed to."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import SynchronousTestCase

from securerecv.client import sealed
from securerecv.client.address import ServerAddress
from securerecv.client.errors import DisconnectedError, UnreachableError
from securerecv.client.knownservers import KnownServers
from securerecv.client.sealed import send_sealed
from securerecv.errors import ErrorCode, OperatorError, PeerError
from securerecv.wire.hpke import Psk
from securerecv.wire.lines import Message
from tests.clientends import ONE_PIN, failing
from tests.relay import Relay
from tests.support import logged_in, pause
from tests.udpreceiver import ReceiverTests

reactor: Any = _reactor


class SealedTests(ReceiverTests):
    """One datagram and no conversation."""

    async def send(self, body: bytes, to: str = "alice", **more: Any) -> str | None:
        """Send a sealed datagram."""
        address = ServerAddress("127.0.0.1", more.pop("port", self.port))
        key = more.pop("key", self.receiver.identity.sealing_key)
        return await send_sealed(reactor, address, key, to, body, **more)

    async def arrived(self) -> list[Message]:
        """Wait for a message in Alice's box."""
        client = await self.alice()
        while not (messages := await client.last()):
            await pause(0.02)
        await client.quit()
        return messages

    async def test_fired(self) -> None:
        """A datagram that nobody answers is stored, as from nobody."""
        self.assertIsNone(await self.send(b"\0 one"))
        (message,) = await self.arrived()
        self.assertEqual((message.sender, message.body), ("anon", b"\0 one"))

    async def test_answered(self) -> None:
        """With a tag the answer comes, and names the message."""
        message_id = await self.send(b"one", ack=True)
        (message,) = await self.arrived()
        self.assertEqual(message.id, message_id)

    async def test_token(self) -> None:
        """With a token the message is its owner's; a wrong one is not heard."""
        talker = await logged_in(self, self.receiver, "bob", "builder")
        _, token_id, secret = (await talker.ask("TOKEN NEW sensor"))[-1].split(" ")
        token = Psk(bytes.fromhex(token_id), bytes.fromhex(secret))
        await self.send(b"one", token=token, ack=True)
        (message,) = await self.arrived()
        self.assertEqual(message.sender, "bob")
        self.patch(sealed, "ACK_TIMEOUT_S", 0.3)
        wrong = Psk(token.psk_id, secrets.token_bytes(32))
        sending = self.send(b"two", token=wrong, ack=True)
        error = await failing(sending, DisconnectedError)
        self.assertIn("nobody knows whether", str(error))

    async def test_refused(self) -> None:
        """What the server refuses is said when an answer is waited for."""
        error = await failing(self.send(b"x" * 40, "nobody", ack=True), PeerError)
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)

    async def test_size(self) -> None:
        """A datagram is filled to its end; one byte more is not sent."""
        body = b"x" * 1137
        await self.send(body, ack=True)
        error = await failing(self.send(body + b"x", ack=True), PeerError)
        self.assertIs(error.code, ErrorCode.TOO_LARGE)
        self.assertIn("holds 1137 bytes", error.words)

    async def test_nobody(self) -> None:
        """Where nobody receives, who waits for an answer is told."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        sending = self.send(b"one", ack=True, port=port)
        error = await failing(sending, UnreachableError)
        self.assertIn("port unreachable", str(error))

    async def test_repeated(self) -> None:
        """A datagram that the way repeats is stored once."""
        relay = Relay(self, self.port)
        await self.send(b"one", ack=True, port=relay.port)
        (datagram,) = relay.passed
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.sendto(datagram, ("127.0.0.1", self.port))
        await self.send(b"two", ack=True)
        self.assertEqual(await self.bodies(), [b"one", b"two"])

    async def test_forged_answers(self) -> None:
        """Answers that are none, or not to this request, are passed over."""
        relay = Relay(self, self.port, 0.0)
        answers: list[bytes] = []

        def lose(from_server: bool, data: bytes) -> bool:
            if from_server and not answers:
                answers.append(data)
                for forged in (b"x", data[:-1], data[:1] + b"\1" + data[2:]):
                    relay.answered(forged, next(iter(relay._sides)))
            return False

        relay.lose = lose
        self.assertIsNotNone(await self.send(b"one", ack=True, port=relay.port))


class RememberedKeyTests(SynchronousTestCase):
    """The sealing keys of known servers."""

    def test_remembered(self) -> None:
        """A key is stored beside the pin that vouched for it, and no other."""
        known = KnownServers(Path(self.mktemp()).absolute() / "known_servers")
        address, other = ServerAddress("a", 1), ServerAddress("b", 2)
        self.assertIsNone(known.sealing_key(address))
        known.remember(other, ONE_PIN)
        known.remember(address, ONE_PIN)
        self.assertIsNone(known.sealing_key(address))
        for key in (bytes(32), bytes(range(32))):
            known.remember_sealing_key(address, ONE_PIN, key)
            self.assertEqual(known.sealing_key(address), (ONE_PIN, key))
            known.check(address, ONE_PIN)
        known.remember_sealing_key(other, "sha256//another", bytes(32))
        self.assertIsNone(known.sealing_key(other))
        self.assertEqual(
            known.path.read_text(),
            f"b:2 {ONE_PIN}\na:1 {ONE_PIN} x25519//{bytes(range(32)).hex()}\n",
        )

    def test_new_folder(self) -> None:
        """Where nothing is known yet, nothing is stored, and that is no fault."""
        folder = Path(self.mktemp()).absolute() / "deep" / "er"
        known = KnownServers(folder / "known_servers")
        known.remember_sealing_key(ServerAddress("a", 1), ONE_PIN, bytes(32))
        self.assertEqual(list(folder.iterdir()), [])
        self.assertIsNone(known.sealing_key(ServerAddress("a", 1)))

    def test_wrong_line(self) -> None:
        """A line that is wrong is named."""
        known = KnownServers(Path(self.mktemp()).absolute() / "known_servers")
        known.remember(ServerAddress("a", 1), ONE_PIN)
        for more in ("x25519//00", "x25519//" + "0" * 64 + " more"):
            known.path.write_text(f"a:1 {ONE_PIN} {more}\n")
            error = self.assertRaises(
                OperatorError, known.sealing_key, ServerAddress("a", 1)
            )
            self.assertIn("line 1", str(error))
