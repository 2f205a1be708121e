"""A bad way for datagrams: it loses, repeats, delays and invents them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import TestCase

reactor: Any = _reactor

Address = tuple[str, int]

LONGEST_DELAY_S = 0.03


class Relay(DatagramProtocol):
    """
    Stands between clients and a server, both of which take it for the other.

    Args:
        test: ends it.
        server: the port to pass datagrams on to, on 127.0.0.1.
        loss: the share of datagrams that is lost, 0 to 1; as many come twice,
            as many come late, and for as many some junk comes besides.
        seed: of what happens to which.

    Attributes:
        port: where it listens, on 127.0.0.1.
        server: may be changed; datagrams then go to the new port.
        lose: decides about a datagram besides what chance does: given whether
            it is from the server, and its bytes.
        passed: the datagrams that were passed on to the server.
        moves: how often `move` was called.
    """

    def __init__(
        self, test: TestCase, server: int, loss: float = 0.0, seed: int = 0
    ) -> None:
        self.server = server
        self.lose: Callable[[bool, bytes], bool] = lambda _from_server, _data: False
        self.passed: list[bytes] = []
        self.moves = 0
        self._loss = loss
        self._random = Random(seed)  # noqa: S311 - so that a failure can be repeated
        self._sides: dict[Address, _Side] = {}
        self._late: list[Any] = []
        self._moved: list[Any] = []
        self._listening = [reactor.listenUDP(0, self, "127.0.0.1", 65535)]
        self.port: int = self._listening[0].getHost().port
        test.addCleanup(self.stop)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Pass on what a client sent."""
        side = self._sides.get(addr)
        if side is None:
            side = self._sides[addr] = _Side(self, addr)
        to_server = side

        def go(data: bytes) -> None:
            self.passed.append(data)
            to_server.send(data)

        self._pass_on(datagram, go, from_server=False)

    def answered(self, datagram: bytes, client: Address) -> None:
        """Pass on what the server sent."""
        transport: Any = self.transport
        self._pass_on(
            datagram, lambda data: transport.write(data, client), from_server=True
        )

    def _pass_on(
        self, datagram: bytes, go: Callable[[bytes], None], *, from_server: bool
    ) -> None:
        if self.lose(from_server, datagram) or self._happens():
            return
        if self._happens():
            go(self._random.randbytes(self._random.randrange(1, 100)))
            go(datagram[: self._random.randrange(1, len(datagram))])
        copies = 2 if self._happens() else 1
        for _ in range(copies):
            if self._happens():
                delay_s = self._random.uniform(0, LONGEST_DELAY_S)
                self._late.append(reactor.callLater(delay_s, go, datagram))
            else:
                go(datagram)

    def _happens(self) -> bool:
        return self._random.random() < self._loss

    def move(self) -> None:
        """Let all clients have other addresses from now on, as the server sees it."""
        self.moves += 1
        for addr, side in list(self._sides.items()):
            self._moved.append(side.port)
            self._sides[addr] = _Side(self, addr)

    def stop(self) -> Deferred[Any]:
        """Give all ports back, once."""
        for call in self._late:
            if call.active():
                call.cancel()
        ports = [*self._listening, *(side.port for side in self._sides.values())]
        ports += self._moved
        self._listening.clear()
        self._sides.clear()
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])


class _Side(DatagramProtocol):
    """What the server sees of one client."""

    def __init__(self, relay: Relay, client: Address) -> None:
        self._relay = relay
        self._client = client
        self.port = reactor.listenUDP(0, self, "127.0.0.1", 65535)

    def send(self, datagram: bytes) -> None:
        """Send to the server."""
        transport: Any = self.transport
        transport.write(datagram, ("127.0.0.1", self._relay.server))

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Take what the server sent."""
        self._relay.answered(datagram, self._client)
