"""The receiver, assembled: settings in, a Twisted service out."""

import os
from collections.abc import Generator
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from securerecv.assembly.brought import Brought
from securerecv.assembly.datagrams import DatagramSide
from securerecv.assembly.hold import connections_allowed, lock
from securerecv.assembly.office import Office
from securerecv.assembly.places import Place, place_of
from securerecv.assembly.streams import StreamSide
from securerecv.errors import OperatorError
from securerecv.intake.locksmith import WorkFactors
from securerecv.intake.vaultopening import Vault, open_vault
from securerecv.limits import (
    MAX_BUFFERED_PAYLOAD_BYTES,
    MAX_DATAGRAM_CONVERSATIONS,
    MAX_DATAGRAM_HANDSHAKES,
    MAX_DATAGRAM_HANDSHAKES_PER_ADDRESS,
)
from securerecv.net.endpoints import Endpoints, parse_endpoints
from securerecv.net.gate import Gate
from securerecv.net.ports import Listen, take_ports
from securerecv.net.tcp import tcp_factory
from securerecv.net.tls import ServerTls
from securerecv.net.tlsport import ListenTls, listen_tls, tls_over_any
from securerecv.settings import Settings
from securerecv.wire.budget import Budget
from securerecv.wire.session import Session, Terms

_BACKLOG = 1024

_log = Logger()


@frozen
class Identity:
    """
    What the server shows to be recognised by.

    Attributes:
        pin: of its TLS key, as ``--pin`` takes it.
        sealing_key: raw X25519 public key, 32 bytes.
    """

    pin: str
    sealing_key: bytes


class Receiver(Service):
    """
    A secure receiver.

    Starting it makes the data folder and the keys if there are none, takes
    the folder for itself, and listens.

    Args:
        settings: what the operator decided.
        reactor: what it runs on.
        work: how slow passwords are to guess.
        brought: what an application brings of its own.
        listen: takes a TCP port and speaks TLS on it.

    Attributes:
        ports: after the start, address and port by transport, where there are any
            that clients can connect to.
        places: everywhere that is received.
        identity: after the start.
        gate: counts who is connected over TCP.
        datagram_gate: counts who is connected over UDP.
        office: after the start, what stands behind the transports.
    """

    ports: dict[str, tuple[str, int]]
    places: list[Place]
    identity: Identity
    office: Office

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        work: WorkFactors | None = None,
        brought: Brought | None = None,
        listen: ListenTls = listen_tls,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._work = work or WorkFactors()
        self._brought = brought or Brought()
        self._listen_tls = listen
        self.gate = Gate()
        self.datagram_gate = Gate(
            total=MAX_DATAGRAM_CONVERSATIONS,
            handshakes=MAX_DATAGRAM_HANDSHAKES,
            handshakes_per_address=MAX_DATAGRAM_HANDSHAKES_PER_ADDRESS,
        )
        self._listening: dict[str, Any] = {}
        self._datagrams: DatagramSide | None = None
        self._streams: StreamSide | None = None
        self._locks: list[int] = []
        self._is_prepared = False
        self.ports = {}
        self.places = []

    def privilegedStartService(self) -> None:
        """
        Open keys and ports, while there still may be the right to.

        Raises:
            OperatorError: something must be mended first.
        """
        super().privilegedStartService()
        self._prepare()

    def _prepare(self) -> None:
        endpoints = parse_endpoints(self._reactor, self.settings.listen)
        endpoints.streams += [
            (type(endpoint).__name__, endpoint) for endpoint in self._brought.endpoints
        ]
        _check(self.settings, endpoints)
        vault = open_vault(self.settings, make=True, work=self._work)
        try:
            self._locks = lock(self.settings, vault.engine)
            self._assemble(vault, endpoints)
        except OperatorError:
            vault.engine.dispose()
            for held in self._locks:
                os.close(held)
            self._locks = []
            raise
        self._is_prepared = True

    def _assemble(self, vault: Vault, endpoints: Endpoints) -> None:
        self.ports, self.places = {}, []
        self._streams = self._datagrams = None
        keyring = vault.keyring
        tls = ServerTls(keyring.certificate, keyring.certificate_key)
        self.identity = Identity(tls.pin, keyring.sealing_public_key)
        self.gate.total = connections_allowed()
        office = self.office = Office(
            self.settings, vault, self._reactor, self._brought
        )
        terms = Terms(
            self.settings.max_message,
            self.settings.max_file,
            self.settings.keep,
            self.settings.anonymous,
            keyring.sealing_public_key,
        )
        budget = Budget(MAX_BUFFERED_PAYLOAD_BYTES)
        listen: dict[str, Listen] = {}
        if self.settings.proto != "udp":
            factory = tcp_factory(
                office.desk,
                lambda now, address: Session(terms, budget.share_of(address), now),
                self.gate,
                self._reactor,
            )
            over_twisted = tls_over_any(tls, factory, self._reactor)
            self._streams = StreamSide(over_twisted, self._found)
            if not endpoints.streams:
                listen["tcp"] = partial(self._listen_tcp, tls, factory)
        if self.settings.proto != "tcp":
            self._datagrams = DatagramSide(
                self.settings,
                keyring,
                office,
                terms,
                budget,
                self.datagram_gate,
                self._reactor,
            )
            if endpoints.datagrams is None:
                server = self._datagrams.server
                listen["udp"] = partial(server.listen, self._reactor)
        self._listening = take_ports(self.settings, listen)
        for transport, port in self._listening.items():
            self._found(place_of(port, transport))
        try:
            self._listen(endpoints)
        except OperatorError:
            for port in self._listening.values():
                port.stopListening()
            raise

    def _listen(self, endpoints: Endpoints) -> None:
        """Receive at endpoints."""
        if self._streams is not None:
            self._streams.listen(endpoints.streams)
        if self._datagrams is not None and endpoints.datagrams is not None:
            server = self._datagrams.server
            port = server.adopt(self._reactor, endpoints.datagrams)
            self._found(place_of(port, "udp"))

    def _found(self, place: Place) -> None:
        self.places.append(place)
        if place.port and not place.proxied:
            self.ports.setdefault(place.transport, (place.host, place.port))
        _log.info(
            "receiving on {transport} {place}", transport=place.transport, place=place
        )

    def startService(self) -> None:
        """
        Start the threads.

        Raises:
            OperatorError: the store cannot be opened.
        """
        super().startService()
        if not self._is_prepared:
            # Some containers know no privileged start.
            self._prepare()
        if self._datagrams is not None:
            self._datagrams.start()
        self.office.start()
        _log.info("pin {pin}", pin=self.identity.pin)
        _log.info("sealing key x25519 {key}", key=self.identity.sealing_key.hex())

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """Stop listening, say goodbye, and finish what was begun."""
        super().stopService()
        self.office.close()
        if "tcp" in self._listening:
            yield self._listening["tcp"].stopListening()
        if self._streams is not None:
            yield self._streams.stop()
        if self._datagrams is not None:
            self._datagrams.close()
        yield gatherResults(
            gate.close("the server is stopping", self._reactor)
            for gate in (self.gate, self.datagram_gate)
        )
        if self._datagrams is not None:
            yield self._datagrams.stop()
        self._listening.clear()
        yield self.office.stop()
        for held in self._locks:
            os.close(held)
        self._is_prepared = False
        _log.info("stopped")

    def _listen_tcp(
        self, tls: ServerTls, factory: IProtocolFactory, port: int, interface: str
    ) -> IListeningPort:
        return self._listen_tls(tls, port, factory, _BACKLOG, interface, self._reactor)


def _check(settings: Settings, endpoints: Endpoints) -> None:
    """Refuse a transport that --proto and --listen do not agree about."""
    if settings.proto == "udp" and endpoints.streams:
        words, _ = endpoints.streams[0]
        raise OperatorError(f"--listen {words} is for TCP, and --proto is udp")
    if settings.proto == "tcp" and endpoints.datagrams is not None:
        raise OperatorError("--listen names a UDP socket, and --proto is tcp")
