"""A house with files in it behind a real port, and a bad line to it."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.net.gate import Gate
from securerecv.net.tcp import tcp_factory
from securerecv.net.tlsport import ListenTls, listen_tls
from securerecv.wire.session import Session, Terms
from tests.clientends import anybody, server_tls
from tests.test_conversation import House

reactor: Any = _reactor

TERMS = Terms(1_000_000, 100_000_000, 5, anonymous=True, sealing_key=bytes(32))


class FileHouse:
    """
    A house that people can connect to.

    Attributes:
        house: its inside.
        port: where it listens, on 127.0.0.1.
        pin: of its key.
    """

    def __init__(
        self, test: TestCase, terms: Terms = TERMS, listen: ListenTls = listen_tls
    ) -> None:
        self.house = House(reactor)
        self.gate = Gate()
        tls = server_tls(test)
        self.pin = tls.pin
        factory = tcp_factory(
            self.house.desk,
            lambda now, _: Session(terms, self.house.budget, now),
            self.gate,
            reactor,
        )
        listening: Any = listen(tls, 0, factory, 50, "127.0.0.1", reactor)
        self.port: int = listening.getHost().port
        test.addCleanup(listening.stopListening)
        test.addCleanup(self.gate.close, "the test is over", reactor)

    async def enter(self, name: str = "bob", port: int | None = None) -> Client:
        """Connect and log in."""
        server = ServerAddress("127.0.0.1", port or self.port)
        client = await connect(reactor, server, anybody)
        await client.login(name, "word")
        return client


class Line:
    """
    A line to a server that breaks.

    Args:
        test: ends it.
        server: the port that it leads to, on 127.0.0.1.

    Attributes:
        port: where it begins, on 127.0.0.1.
        calls: how many there were.
        plan: for each of the next calls, after how many bytes to the server
            and from it the line breaks; None for no end.
    """

    def __init__(self, test: TestCase, server: int) -> None:
        self.server = server
        self.calls = 0
        self.plan: deque[tuple[int | None, int | None]] = deque()
        self._last: _End | None = None
        factory = Factory.forProtocol(lambda: _End(self))
        factory.noisy = False
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port: int = listening.getHost().port
        test.addCleanup(listening.stopListening)

    def began(self, client: _End) -> None:
        """Note who called last."""
        self.calls += 1
        self._last = client

    def break_after(self, *, up: int | None = None, down: int | None = None) -> None:
        """
        Break, when so many more bytes have passed on the last connection.

        Args:
            up: to the server; None for no end.
            down: from the server.
        """
        assert self._last is not None
        assert self._last.other is not None
        self._last.left = up
        self._last.other.left = down


class _End(Protocol):
    """One end of a connection through a `Line`."""

    other: _End | None = None

    def __init__(self, line: Line, client: _End | None = None) -> None:
        self.line = line
        self.left: int | None = None
        self.is_lost = False
        self._client = client

    def connectionMade(self) -> None:
        """Connect to the server, when this is a client's."""
        if self._client is not None:
            self._client.join(self)
            if self.line.plan:
                self._client.left, self.left = self.line.plan.popleft()
            return
        transport: Any = self.transport
        transport.pauseProducing()
        self.line.began(self)
        factory = _ToServer(self)
        reactor.connectTCP("127.0.0.1", self.line.server, factory)

    def join(self, other: _End) -> None:
        """Begin to pass on."""
        if self.is_lost:
            other.hang_up()
            return
        self.other, other.other = other, self
        for end, target in ((self, other), (other, self)):
            here: Any = end.transport
            there: Any = target.transport
            there.registerProducer(here, True)
            here.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Pass on, or break."""
        other = self.other
        if other is None:
            return
        transport: Any = other.transport
        if self.left is None or len(data) < self.left:
            transport.write(data)
            self.left = None if self.left is None else self.left - len(data)
        else:
            transport.write(data[: self.left])
            self.left = 0
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection, as when a cable is cut: without a TLS goodbye."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the other half too."""
        self.is_lost = True
        if self.other is not None and not self.other.is_lost:
            self.other.hang_up()


class _ToServer(ClientFactory):
    """Makes the other end of a connection."""

    noisy = False

    def __init__(self, client: _End) -> None:
        self._client = client

    def buildProtocol(self, addr: object) -> Protocol:
        """Make it."""
        return _End(self._client.line, self._client)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Tell the client."""
        self._client.hang_up()
