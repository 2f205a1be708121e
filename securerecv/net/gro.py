"""
Datagrams in batches: one UDP socket, in the hands of the reactor.

Where the kernel can, up to 64 datagrams of one peer come and go as one (UDP_GRO and
UDP_SEGMENT, generic receive and segmentation offload). Where it cannot, the same
interface moves them one by one.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVarTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.net import sockopts
from securerecv.net.inbox import MAX_TOGETHER, Inbox
from securerecv.net.outbox import (
    Address,
    DatagramCounters,
    Outbox,
    error_name,
)

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked of the kernel: room for 10,000 short datagrams that come at once."""

MAX_DATAGRAMS_PER_TURN = 256
"""The batch that reaches this is the last before others have their turn."""

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  # what a port may be bound to


_Arguments = TypeVarTuple("_Arguments")


class BatchProtocol(DatagramProtocol):
    """A protocol on a `BatchPort`."""

    noisy = False
    transport: Any = None

    def datagrams_received(self, datagrams: list[bytes], address: Address) -> None:
        """
        Take datagrams, in the order in which they came.

        Args:
            datagrams: one or more, of 0–65,527 bytes.
            address: of the peer that sent them all, as `BatchPort.send` takes it.
                On a port that is bound to all addresses it is a `Way`.
        """
        raise NotImplementedError

    def turn_over(self) -> None:
        """Know that all was handed over that can be read before others' turn."""


class BatchPort(Port):
    """
    A UDP port whose datagrams come and go in batches.

    Args:
        port: to bind; 0 for a free one.
        protocol: its `datagrams_received` is called.
        interface: the address to bind. The empty one is for all of IPv4, ``::``
            for all of IPv4 and IPv6.
        reactor: watches the socket.
        batched: use the kernel's batches if it has them.

    Attributes:
        receive_buffer_bytes: what the kernel granted, in its own counting.
    """

    receive_buffer_bytes = 0

    _log = Logger()
    _wanted = False
    # Where Port looks for a socket that somebody else has bound.
    _preexistingSocket: Any = None

    def __init__(
        self,
        port: int | None,
        protocol: BatchProtocol,
        interface: str,
        reactor: IReactorFDSet,
        *,
        batched: bool = True,
    ) -> None:
        super().__init__(port, protocol, interface, reactor=reactor)
        self._batched = batched
        self._counters = DatagramCounters()

    @classmethod
    def adopt(
        cls,
        sock: socket.socket,
        protocol: BatchProtocol,
        reactor: IReactorFDSet,
        *,
        batched: bool = True,
    ) -> "BatchPort":
        """
        Make a port of a socket that is bound already.

        Args:
            sock: of IPv4 or IPv6; it belongs to the port from now on. A file
                descriptor becomes one by ``socket.socket(fileno=...)``.
            protocol: as for a new port.
            reactor: as for a new port.
            batched: as for a new port.

        Returns:
            A port that does not listen yet.
        """
        host = sock.getsockname()[0]
        port = cls(None, protocol, host, reactor, batched=batched)
        sock.setblocking(False)
        port._equip(sock, host)
        port._preexistingSocket = sock
        return port

    @property
    def counters(self) -> DatagramCounters:
        """What has become of datagrams, up to now or to the end of the port."""
        if self.connected:
            self._counters.kernel_drops = sockopts.kernel_drops(self.socket)
        return self._counters

    def createInternetSocket(self) -> socket.socket:
        """Make the socket that is to be bound."""
        sock = super().createInternetSocket()
        if sock.family == socket.AF_INET6:
            # Whether `::` is for IPv4 too should not depend on a sysctl.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._equip(sock, self.interface)
        return sock

    def _equip(self, sock: socket.socket, host: str) -> None:
        sockopts.forbid_fragments(sock)
        self.receive_buffer_bytes = sockopts.grow_receive_buffer(
            sock, RECEIVE_BUFFER_BYTES
        )
        control_bytes = 0
        if self._batched and sockopts.receive_in_batches(sock):
            control_bytes += sockopts.GRO_CONTROL_BYTES
        has_many_addresses = host in _EVERYWHERE
        if has_many_addresses:
            sockopts.tell_local_address(sock)
            control_bytes += sockopts.LOCAL_CONTROL_BYTES
        self._inbox = Inbox(
            sock,
            self._counters,
            control_bytes,
            has_many_addresses=has_many_addresses,
        )
        self._outbox = Outbox(
            sock,
            self._counters,
            batched=self._batched and sockopts.sends_in_batches(sock),
        )

    def startListening(self) -> None:
        """
        Bind and begin.

        Raises:
            CannotListenError: the address is taken, or not ours.
        """
        self._wanted = True
        super().startListening()
        self._log.info(
            "UDP receive buffer: {granted_bytes} bytes granted, "
            "{asked_bytes} asked for",
            granted_bytes=self.receive_buffer_bytes,
            asked_bytes=2 * RECEIVE_BUFFER_BYTES,
        )

    def doRead(self) -> None:
        """Receive; the reactor calls this when there is something to read."""
        taken = 0
        waiting: list[bytes] = []
        sender: Address | None = None
        while taken < MAX_DATAGRAMS_PER_TURN and self._wanted:
            try:
                received = self._inbox.receive()
            except BlockingIOError:
                break
            except OSError as error:
                taken += 1
                self._network_error(error)
                continue
            for datagrams, address in received:
                taken += len(datagrams)
                if address == sender and len(waiting) < MAX_TOGETHER:
                    waiting += datagrams
                    continue
                self._hand_on(waiting, sender)
                waiting, sender = datagrams, address
            if self._inbox.is_empty:
                break
        self._hand_on(waiting, sender)
        self._guard(self.protocol.turn_over)

    def _hand_on(self, datagrams: list[bytes], sender: Address | None) -> None:
        """Give a peer's datagrams to the protocol, unless it has stopped the port."""
        if sender is not None and self._wanted:
            self._guard(self.protocol.datagrams_received, datagrams, sender)

    def _guard(self, work: Callable[[*_Arguments], None], *args: *_Arguments) -> None:
        try:
            work(*args)
        except Exception:  # noqa: BLE001  # one peer's must not stop the others'
            self._log.failure("datagrams could not be processed")

    def doWrite(self) -> None:
        """Send what waits; the reactor calls this when there is room again."""
        self._outbox.flush()
        if not self._outbox:
            self.stopWriting()

    def send(self, datagrams: Sequence[bytes], address: Address | None) -> int:
        """
        Send now, as far as the network takes it: datagrams may get lost.

        Those of equal length should come in one call, for they travel together.

        Args:
            datagrams: see `Outbox.send`.
            address: as `BatchProtocol.datagrams_received` got it; None after
                `connect`.

        Returns:
            How many were too long for the way out and have not been sent.
        """
        too_long = self._outbox.send(datagrams, address)
        if self._outbox:
            self.startWriting()
        return too_long

    def write(self, datagram: bytes, addr: Address | None = None) -> None:
        """
        Send one datagram, as any UDP transport of Twisted does.

        Raises:
            MessageLengthError: it is too long for the way out.
        """
        if self.send([datagram], addr):
            raise MessageLengthError("message too long")

    def stopListening(self) -> "Deferred[None] | None":
        """
        Receive no more.

        Returns:
            Fires when the socket is closed. None if it was not open.
        """
        self._wanted = False
        stopped: Deferred[None] | None = super().stopListening()
        return stopped

    def readConnectionLost(self, reason: Failure) -> None:
        """
        Go on, if it was only an error that the network reported.

        An ICMP message on a connected socket, with nothing to read, looks like a
        hang-up to the reactors that poll, which have let go of the socket.
        """
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.startReading()
            self._network_error(OSError(number, "reported by SO_ERROR"))
        else:
            super().readConnectionLost(reason)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket."""
        self._wanted = False
        self._counters.kernel_drops = sockopts.kernel_drops(self.socket)
        self._outbox.clear()
        super().connectionLost(reason)

    def _network_error(self, error: OSError) -> None:
        """Count what is about an earlier datagram of ours, and go on."""
        self._counters.receive_errors[error_name(error)] += 1
        if isinstance(error, ConnectionRefusedError) and self._connectedAddr:
            self.protocol.connectionRefused()


def listen_datagrams(
    reactor: IReactorFDSet,
    port: int,
    protocol: BatchProtocol,
    interface: str = "",
    *,
    batched: bool = True,
) -> BatchPort:
    """
    Receive datagrams, as `reactor.listenUDP` does, but in batches.

    Args:
        reactor: watches the socket.
        port: to bind; 0 for a free one.
        protocol: its `datagrams_received` is called.
        interface: the address to bind. The empty one is for all of IPv4, ``::``
            for all of IPv4 and IPv6.
        batched: use the kernel's batches if it has them.

    Returns:
        A port that listens.

    Raises:
        CannotListenError: the address is taken, or not ours.
    """
    listening = BatchPort(port, protocol, interface, reactor, batched=batched)
    listening.startListening()
    return listening
