"""The two ends of TLS connections that are looked at closely: tests of `net`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from securerecv.net.tls import ClientTls
from securerecv.net.tlsport import ListenTls
from tests.clientends import server_tls
from tests.support import pause

reactor: Any = _reactor

SOON_S = 0.005
PATIENCE_S = 10.0


@implementer(IHandshakeListener)
class Ear(Protocol):
    """
    The server's end: writes down what happens to it, and does what it is told.

    Attributes:
        events: in order; data as bytes, all else as words.
        reasons: of each `connectionLost`.
        ended: fires at the first of them.
        when_heard: called with what comes.
    """

    def __init__(self) -> None:
        self.events: list[str | bytes] = []
        self.reasons: list[Failure] = []
        self.ended: Deferred[None] = Deferred()
        self.when_heard: Callable[[bytes], object] = lambda _: None

    @property
    def wire(self) -> Any:
        """The transport."""
        return self.transport

    @property
    def heard(self) -> bytes:
        """All that came."""
        return b"".join(event for event in self.events if isinstance(event, bytes))

    def connectionMade(self) -> None:
        """Write it down."""
        self.events.append("made")

    def handshakeCompleted(self) -> None:
        """Write it down."""
        self.events.append("shook hands")

    def dataReceived(self, data: bytes) -> None:
        """Write it down, and do what is to be done."""
        self.events.append(data)
        self.when_heard(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Write it down."""
        self.events.append("lost")
        self.reasons.append(reason)
        if len(self.reasons) == 1:
            self.ended.callback(None)

    async def has_events(self, count: int) -> None:
        """Wait until so much has happened."""
        await until(lambda: len(self.events) >= count)

    async def lost(self) -> type[BaseException]:
        """Wait for the end, and give its reason; there is one end only."""
        await self.ended
        await pause(4 * SOON_S)
        assert len(self.reasons) == 1, self.reasons
        reason = self.reasons[0].value
        assert reason is not None
        return type(reason)


class House:
    """
    A server of `Ear`.

    Attributes:
        ears: those that were made, in order.
        port: its number.
        listening: the port itself.
    """

    def __init__(
        self, test: TestCase, listen: ListenTls, interface: str = "127.0.0.1"
    ) -> None:
        self.ears: list[Ear] = []
        self.prepare: Callable[[Ear], object] = lambda _: None
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        tls = server_tls(test)
        self.listening: Any = listen(tls, 0, factory, 128, interface, reactor)
        address: Any = self.listening.getHost()
        self.port: int = address.port
        self.interface = interface
        self.is_open = True
        test.addCleanup(self.close)

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self.is_open:
            self.is_open = False
            await self.listening.stopListening()
        for ear in self.ears:
            if not ear.reasons:
                ear.wire.abortConnection()
                await ear.ended

    async def enter(self, test: TestCase) -> tuple[Peer, Ear]:
        """Connect and shake hands; give both ends."""
        peer = Peer(test, self.port, self.interface)
        await peer.shake_hands()
        ear = self.ears[-1]
        await until(lambda: "shook hands" in ear.events)
        return peer, ear

    def _build(self) -> Ear:
        ear = Ear()
        self.prepare(ear)
        self.ears.append(ear)
        return ear


class Peer:
    """
    The client's end: OpenSSL in memory, and a socket that it does not touch.

    So that the test can send what it likes, and see what comes as it comes.
    """

    def __init__(self, test: TestCase, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.tls = ClientTls().clientConnectionForTLS(None)
        self.tls.set_connect_state()
        test.addCleanup(self.socket.close)

    async def shake_hands(self, pieces_of: int = 65_536) -> None:
        """Shake hands, in pieces of so many bytes."""
        while True:
            with suppress(SSL.WantReadError):
                self.tls.do_handshake()
                await self.send(self.encrypted(), pieces_of)
                return
            await self.send(self.encrypted(), pieces_of)
            await self._fetch()

    def encrypt(self, data: bytes) -> bytes:
        """Make records of data."""
        made = b""
        for start in range(0, len(data), 16_384):
            self.tls.send(data[start : start + 16_384])
            made += self.encrypted()
        return made

    def encrypted(self) -> bytes:
        """Give what OpenSSL wants to be sent."""
        made = b""
        with suppress(SSL.WantReadError):
            while True:
                made += self.tls.bio_read(1 << 20)
        return made

    async def say(self, data: bytes) -> None:
        """Send data."""
        await self.send(self.encrypt(data))

    async def send(self, raw: bytes, pieces_of: int = 65_536) -> None:
        """Send bytes as they are."""
        while raw:
            try:
                sent = self.socket.send(raw[:pieces_of])
            except BlockingIOError:
                sent = 0
            raw = raw[sent:]
            if raw:
                await pause(0 if sent else SOON_S)

    async def record(self) -> bytes:
        """
        Wait for the next record with data.

        Raises:
            SSL.ZeroReturnError: the server has said goodbye.
            ConnectionLost: it has gone.
        """
        while True:
            try:
                return self.tls.recv(16_384)
            except SSL.WantReadError:
                await self._fetch()

    async def hear(self, count: int) -> bytes:
        """Wait for so many bytes."""
        heard = b""
        while len(heard) < count:
            heard += await self.record()
        return heard

    async def hear_all(self) -> tuple[bytes, type[BaseException]]:
        """Listen to the end, and give it too."""
        heard = b""
        while True:
            try:
                heard += await self.record()
            except (SSL.Error, ConnectionLost, OSError) as end:
                return heard, type(end)

    async def goodbye(self) -> None:
        """Send a close_notify."""
        self.tls.shutdown()
        await self.send(self.encrypted())

    async def stream_ends(self) -> bool:
        """Wait for the end of the stream behind the end of TLS; False: a reset."""
        while True:
            try:
                if not self.socket.recv(65_536):
                    return True
            except BlockingIOError:
                await pause(SOON_S)
            except OSError:
                return False

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the socket without a word."""
        if reset:
            no_linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.socket.close()

    async def _fetch(self) -> None:
        arrived: list[bytes] = []

        def has_come() -> bool:
            with suppress(BlockingIOError):
                arrived.append(self.socket.recv(65_536))
            return bool(arrived)

        await until(has_come)
        if not arrived[0]:
            raise ConnectionLost
        self.tls.bio_write(arrived[0])


class KeyChanger:
    """
    A client's end that makes the records behind the handshake itself (RFC 8446).

    Attributes:
        connection: shakes hands, and is not used for anything else.
    """

    def __init__(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_keylog_callback(self._has_key)
        self.connection = SSL.Connection(context, None)
        self.connection.set_connect_state()
        self._secret = b""
        self._number = 0

    def change(self) -> bytes:
        """Make a record that changes the keys of all that follow (section 4.6.3)."""
        made = self.record(b"\x18\0\0\x01\0", 22)
        self._secret = self._expand(b"traffic upd", 48)
        self._number = 0
        return made

    def record(self, text: bytes, kind: int = 23) -> bytes:
        """Make a record of one kind (section 5.2)."""
        header = struct.pack(">BHH", 23, 0x0303, len(text) + 17)
        iv = int.from_bytes(self._expand(b"iv", 12))
        nonce = (iv ^ self._number).to_bytes(12)
        self._number += 1
        cipher = AESGCM(self._expand(b"key", 32))
        return header + cipher.encrypt(nonce, text + bytes([kind]), header)

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label (section 7.1)."""
        label = b"tls13 " + label
        info = struct.pack(">HB", size, len(label)) + label + b"\0"
        return HKDFExpand(SHA384(), size, info).derive(self._secret)

    def _has_key(self, _connection: SSL.Connection, line: bytes) -> None:
        name, _, secret = line.split(b" ")
        if name == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    waited_s = 0.0
    while not holds():
        assert waited_s < PATIENCE_S, "it never does"
        await pause(SOON_S)
        waited_s += SOON_S
