"""The receiver, assembled: settings in, a Twisted service out."""

import os
from collections.abc import Generator
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.logger import Logger

from securerecv.assembly.brought import Brought
from securerecv.assembly.datagrams import DatagramSide
from securerecv.assembly.hold import connections_allowed, lock
from securerecv.assembly.office import Office
from securerecv.errors import OperatorError
from securerecv.intake.locksmith import WorkFactors
from securerecv.intake.vaultopening import open_vault
from securerecv.limits import (
    MAX_BUFFERED_PAYLOAD_BYTES,
    MAX_DATAGRAM_CONVERSATIONS,
    MAX_DATAGRAM_HANDSHAKES,
)
from securerecv.net.gate import Gate
from securerecv.net.ports import Listen, take_ports
from securerecv.net.tcp import tcp_factory
from securerecv.net.tls import ServerTls
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

    Attributes:
        ports: after the start, address and port by transport.
        identity: after the start.
        gate: counts who is connected over TCP.
        datagram_gate: counts who is connected over UDP.
        office: after the start, what stands behind the transports.
    """

    ports: dict[str, tuple[str, int]]
    identity: Identity
    office: Office

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        work: WorkFactors | None = None,
        brought: Brought | None = None,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._work = work or WorkFactors()
        self._brought = brought or Brought()
        self.gate = Gate()
        self.datagram_gate = Gate(
            total=MAX_DATAGRAM_CONVERSATIONS, handshakes=MAX_DATAGRAM_HANDSHAKES
        )
        self._listening: dict[str, Any] = {}
        self._datagrams: DatagramSide | None = None

    def privilegedStartService(self) -> None:
        """
        Open keys and ports, while there still may be the right to.

        Raises:
            OperatorError: something must be mended first.
        """
        super().privilegedStartService()
        self._prepare()

    def _prepare(self) -> None:
        vault = open_vault(self.settings, make=True, work=self._work)
        try:
            self._locks = lock(self.settings, vault.engine)
        except OperatorError:
            vault.engine.dispose()
            raise
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
                tls,
            )
            listen["tcp"] = partial(self._listen_tcp, factory)
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
            listen["udp"] = partial(self._datagrams.server.listen, self._reactor)
        self._listening = take_ports(self.settings, listen)
        hosts = {name: port.getHost() for name, port in self._listening.items()}
        self.ports = {name: (host.host, host.port) for name, host in hosts.items()}

    def startService(self) -> None:
        """
        Start the threads.

        Raises:
            OperatorError: the store cannot be opened.
        """
        super().startService()
        if not self._listening:
            # Some containers know no privileged start.
            self._prepare()
        if self._datagrams is not None:
            self._datagrams.start()
        self.office.start()
        _log.info("pin {pin}", pin=self.identity.pin)
        _log.info("sealing key x25519 {key}", key=self.identity.sealing_key.hex())
        for transport, (host, port) in self.ports.items():
            _log.info(
                "receiving on {transport} {host}:{port}",
                transport=transport,
                host=host,
                port=port,
            )

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """Stop listening, say goodbye, and finish what was begun."""
        super().stopService()
        self.office.close()
        if "tcp" in self._listening:
            yield self._listening["tcp"].stopListening()
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
        _log.info("stopped")

    def _listen_tcp(self, factory: Any, port: int, interface: str) -> Any:
        return self._reactor.listenTCP(port, factory, _BACKLOG, interface)
