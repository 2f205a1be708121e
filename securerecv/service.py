"""The receiver, assembled: settings in, a Twisted service out."""

import fcntl
import os
import resource
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from sqlalchemy import Engine
from twisted.application.service import Service
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from securerecv.access.checker import BcryptChecker
from securerecv.access.passwords import HashingPool, dummy_hash
from securerecv.access.realm import ReceiverRealm
from securerecv.access.throttle import LoginThrottle
from securerecv.errors import OperatorError
from securerecv.intake.accountbook import AccountBook
from securerecv.intake.announcer import Announcer
from securerecv.intake.desk import Desk
from securerecv.intake.locksmith import WorkFactors
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Messages
from securerecv.intake.passwordchange import PasswordChange
from securerecv.intake.presence import CHECK_EVERY_S, Presence
from securerecv.intake.sealeddesk import SealedDesk
from securerecv.intake.tokens import Tokens
from securerecv.intake.vaultopening import Vault, open_vault
from securerecv.limits import (
    MAX_BUFFERED_PAYLOAD_BYTES,
    MAX_CONNECTIONS,
    MAX_DATAGRAM_CONVERSATIONS,
    MAX_DATAGRAM_HANDSHAKES,
)
from securerecv.net.addresses import host_of
from securerecv.net.conversation import Conversation, Pipe
from securerecv.net.dtls import DtlsServer
from securerecv.net.gate import Gate
from securerecv.net.outbox import Address
from securerecv.net.ports import Listen, take_ports
from securerecv.net.tcp import tcp_factory
from securerecv.net.tls import ServerDtls, ServerTls
from securerecv.net.udp import Kind, UdpServer
from securerecv.settings import Settings
from securerecv.vault import seen
from securerecv.vault.database import is_shared
from securerecv.vault.keyring import Keyring
from securerecv.vault.store import Store
from securerecv.vault.tokens import TokenKeys
from securerecv.wire.budget import Budget
from securerecv.wire.drops import DropReason
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.records import RecordSession
from securerecv.wire.replay import ReplayMemory
from securerecv.wire.sealed import SealedReceiver
from securerecv.wire.session import Session, Terms
from securerecv.wire.verbs import Standing

_BACKLOG = 1024
_SPARE_FILES = 64

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

    Attributes:
        ports: after the start, address and port by transport.
        identity: after the start.
        gate: counts who is connected over TCP.
        datagram_gate: counts who is connected over UDP.
        has_accounts: whether there was an account at the start.
        tokens: finds the token that a sealed datagram names.
    """

    ports: dict[str, tuple[str, int]]
    identity: Identity
    has_accounts: bool

    def __init__(
        self, settings: Settings, reactor: Any, work: WorkFactors | None = None
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._work = work or WorkFactors()
        self.gate = Gate()
        self.datagram_gate = Gate(
            total=MAX_DATAGRAM_CONVERSATIONS, handshakes=MAX_DATAGRAM_HANDSHAKES
        )
        self._listening: dict[str, Any] = {}

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
            self._locks = _lock(self.settings, vault.engine)
        except OperatorError:
            vault.engine.dispose()
            raise
        keyring = vault.keyring
        tls = ServerTls(keyring.certificate, keyring.certificate_key)
        self.identity = Identity(tls.pin, keyring.sealing_public_key)
        self.gate.total = min(MAX_CONNECTIONS, _allow_many_files() - _SPARE_FILES)
        desk = self._assemble(vault)
        terms = Terms(
            self.settings.max_message,
            self.settings.max_file,
            self.settings.keep,
            self.settings.anonymous,
            keyring.sealing_public_key,
        )
        budget = Budget(MAX_BUFFERED_PAYLOAD_BYTES)
        factory = tcp_factory(
            desk,
            lambda now, address: Session(terms, budget.share_of(address), now),
            self.gate,
            self._reactor,
            tls,
        )
        listen: dict[str, Listen] = {}
        if self.settings.proto != "udp":
            listen["tcp"] = partial(self._listen_tcp, factory)
        if self.settings.proto != "tcp":
            listen["udp"] = self._assemble_udp(desk, keyring, terms, budget)
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
        self.tokens.load()
        if "udp" in self._listening:
            self._sealed.restore(self._store.query_now(seen.read))
        self._store.start()
        self._checks = [
            self._check("accounts", self.presence.check),
            self._check("tokens", self.tokens.check),
        ]
        self._hashing.start()
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
        for check in self._checks:
            if check.running:
                check.stop()
        if "tcp" in self._listening:
            yield self._listening["tcp"].stopListening()
        if "udp" in self._listening:
            self._dtls.close()
        yield gatherResults(
            gate.close("the server is stopping", self._reactor)
            for gate in (self.gate, self.datagram_gate)
        )
        if "udp" in self._listening:
            yield self._udp.stop()
        self._listening.clear()
        yield deferToThread(self._hashing.stop)
        yield deferToThread(self._store.stop)
        for lock in self._locks:
            os.close(lock)
        _log.info("stopped")

    def _check(self, what: str, check: Callable[[], Any]) -> LoopingCall:
        """Follow again and again what is changed beside the server."""
        checking = LoopingCall(check)
        checking.clock = self._reactor
        checking.start(CHECK_EVERY_S, now=False).addErrback(
            lambda failure: _log.failure(
                "{what} are not checked", failure=failure, what=what
            )
        )
        return checking

    def _assemble(self, vault: Vault) -> Desk:
        seconds: Callable[[], float] = self._reactor.seconds
        engine, name_key = vault.engine, vault.keyring.name_key
        self._store = Store(engine, name_key, self.settings.keep, self._reactor)
        self._hashing = HashingPool(self._reactor)
        locksmith = vault.locksmith
        mixer = locksmith.mixer
        checkers: list[Any] = [
            BcryptChecker(
                self._store, mixer, self._hashing, dummy_hash(self._work.bcrypt_rounds)
            )
        ]
        if self.settings.anonymous:
            checkers.append(AllowAnonymousAccess())
        announcer = Announcer()
        self.presence = Presence(self._store)
        mailboxes = Mailboxes(self._store, self._hashing)
        token_keys = TokenKeys(vault.keyring.token_key)
        self.tokens = Tokens(self._store, mailboxes, token_keys, seconds)
        book = AccountBook(engine, name_key, locksmith)
        self.has_accounts = book.count() > 0
        self._messages = Messages(
            self._store, announcer, mailboxes, seconds, self.settings.keep
        )
        return Desk(
            portal=Portal(ReceiverRealm(), checkers),
            mixer=mixer,
            throttle=LoginThrottle(),
            announcer=announcer,
            messages=self._messages,
            password_change=PasswordChange(
                self._store, mailboxes, locksmith, self._hashing
            ),
            tokens=self.tokens,
            presence=self.presence,
            seconds=seconds,
        )

    def _listen_tcp(self, factory: Any, port: int, interface: str) -> Any:
        return self._reactor.listenTCP(port, factory, _BACKLOG, interface)

    def _assemble_udp(
        self, desk: Desk, keyring: Keyring, terms: Terms, budget: Budget
    ) -> Listen:
        """Make what serves datagrams; what is returned takes a port for it."""
        seconds: Callable[[], float] = self._reactor.seconds

        def converse(
            host: str, pipe: Pipe, came_in: Callable[[Standing], None]
        ) -> Conversation:
            session = RecordSession(terms, budget.share_of(host), seconds())
            return Conversation(desk, session, host, pipe, self._reactor, came_in)

        tls = ServerDtls(keyring.certificate, keyring.certificate_key, seconds)
        self._udp = UdpServer(self.settings.data, self._reactor)
        self._dtls = DtlsServer(
            tls, self.datagram_gate, converse, self._udp.send, self._reactor
        )
        self._udp.handle(Kind.DTLS, self._dtls.received_together)
        key = keyring.sealing_key.private_bytes_raw()
        self._sealed = SealedDesk(
            SealedReceiver([key], self.tokens.find, ReplayMemory(), OpeningBudget()),
            self._messages,
            budget.share_of,
            seconds,
            self.settings.max_message,
            anonymous=self.settings.anonymous,
        )
        self._udp.handle(Kind.SEALED, self._sealed_came)
        return partial(self._udp.listen, self._reactor)

    def _sealed_came(
        self, datagrams: Sequence[bytes], address: Address
    ) -> list[DropReason]:
        """Take sealed datagrams; say why some were dropped."""

        def reply(answers: Sequence[bytes]) -> None:
            self._udp.send(answers, address)

        return self._sealed.received(datagrams, host_of(address[0]), reply)


def _lock(settings: Settings, engine: Engine) -> list[int]:
    """Take data folder and store for this process, for as long as it lives."""
    paths = [settings.data / "lock"]
    if not is_shared(engine):
        database = Path(engine.url.database or "")
        if database.parent != settings.data:
            paths.append(database.with_name(database.name + ".lock"))
    locks: list[int] = []
    for path in paths:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        locks.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for taken in locks:
                os.close(taken)
            raise OperatorError(f"a server is running with {path.parent}") from None
    return locks


def _allow_many_files() -> int:
    """Raise the number of open files as far as allowed and wanted; give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _SPARE_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
