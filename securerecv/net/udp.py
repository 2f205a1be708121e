"""
One socket for all that comes in datagrams.

The first byte says what a datagram is (RFC 7983): DTLS, or one of this
protocol's own kinds.  What is neither is met with silence, and counted.
"""

import socket
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from securerecv.net import counters
from securerecv.net.counters import Counters
from securerecv.net.gro import BatchPort, BatchProtocol, listen_datagrams
from securerecv.net.outbox import Address

WRITE_COUNTERS_EVERY_S = 60.0


class Kind(Enum):
    """What a datagram is."""

    DTLS = "dtls"
    SEALED = "sealed"
    LANE = "lane"
    OTHER = "other"


def _kind(first: int) -> Kind:
    # The ranges of RFC 7983 section 7, as far as they are used here.
    if 20 <= first <= 63:  # noqa: PLR2004  its own numbers
        return Kind.DTLS
    return {0xC1: Kind.SEALED, 0xC3: Kind.LANE}.get(first, Kind.OTHER)


_KINDS = tuple(map(_kind, range(256)))


def _kind_of(datagram: bytes) -> Kind:
    return _KINDS[datagram[0]] if datagram else Kind.OTHER


Handler = Callable[[Sequence[bytes], Address], Sequence[Enum]]
"""Takes datagrams that came together; says why nothing came of some."""


class UdpServer(BatchProtocol):
    """
    The server's end of everything that is not TCP.

    Args:
        folder: the data folder, for `securerecv.net.counters`.
        clock: tells when to write there.
    """

    _log = Logger()

    def __init__(self, folder: Path, clock: IReactorTime) -> None:
        self.counters = Counters()
        self._folder = folder
        self._handlers: dict[Kind, Handler] = {}
        self._after_turns: list[Callable[[], None]] = []
        self._writing = LoopingCall(self._write_counters)
        self._writing.clock = clock

    def handle(
        self,
        kind: Kind,
        handler: Handler,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        """
        Have datagrams of a kind handled; others are dropped.

        Args:
            kind: which.
            handler: takes those of one peer that came together.
            after_turn: called when all that were there have been handled.
        """
        self._handlers[kind] = handler
        if after_turn is not None:
            self._after_turns.append(after_turn)

    def listen(self, reactor: Any, port: int, interface: str) -> Any:
        """
        Take a port; see `listen_datagrams`.

        Raises:
            CannotListenError: the address is taken, or not ours.
        """
        listening = listen_datagrams(reactor, port, self, interface)
        self.counters.socket = listening.counters
        return listening

    def adopt(self, reactor: Any, sock: socket.socket) -> Any:
        """Receive on a socket that is bound already; see `BatchPort.adopt`."""
        listening = BatchPort.adopt(sock, self, reactor)
        listening.startListening()
        self.counters.socket = listening.counters
        return listening

    def startProtocol(self) -> None:
        """Begin to write the counters down."""
        self._writing.start(WRITE_COUNTERS_EVERY_S, now=False)

    def stop(self) -> "Deferred[None]":
        """
        Give the port back.

        Returns:
            Fires when it is free.
        """
        self._writing.stop()
        done = maybeDeferred(self.transport.stopListening)
        return done.addCallback(self._say_goodbye)

    def _say_goodbye(self, _: object) -> None:
        self._write_counters()
        self._log.info("UDP: {words}", words=self.counters.words())

    def datagrams_received(self, datagrams: list[bytes], address: Address) -> None:
        """Hand them to their handlers, and count."""
        if len({datagram[:1] for datagram in datagrams}) == 1:
            self._hand_on(_kind_of(datagrams[0]), datagrams, address)
            return
        for kind, run in groupby(datagrams, _kind_of):
            self._hand_on(kind, list(run), address)

    def turn_over(self) -> None:
        """Tell those who gather what comes in a turn."""
        for after_turn in self._after_turns:
            after_turn()

    def _hand_on(self, kind: Kind, datagrams: list[bytes], address: Address) -> None:
        self.counters.taken[kind.value] += len(datagrams)
        handler = self._handlers.get(kind)
        if handler is None:
            self.counters.dropped[kind.value] += len(datagrams)
            return
        for reason in handler(datagrams, address):
            self.counters.dropped[f"{kind.value} {reason.value}"] += 1

    def send(self, datagrams: Sequence[bytes], address: Address) -> int:
        """
        Send datagrams, or lose them.

        Returns:
            How many were too long for the way out.
        """
        if self.transport is None:
            return 0  # somebody had a last word when the port was closed already
        count: int = self.transport.send(datagrams, address)
        return count

    def _write_counters(self) -> None:
        port = self.transport
        if port is not None:
            self.counters.socket = port.counters
        try:
            counters.write(self._folder, self.counters)
        except OSError as error:
            self._log.warn("the counters are not written: {error}", error=error)
