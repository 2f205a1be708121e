"""The receiver, assembled: settings in, a Twisted service out."""

import errno
import fcntl
import os
import resource
import socket
from collections.abc import Callable, Generator
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import CannotListenError
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
from securerecv.intake.vaultopening import Vault, open_vault
from securerecv.limits import MAX_BUFFERED_PAYLOAD_BYTES, MAX_CONNECTIONS
from securerecv.net.gate import Gate
from securerecv.net.tcp import tcp_factory
from securerecv.net.tls import ServerTls
from securerecv.settings import Settings
from securerecv.vault.store import Store
from securerecv.wire.budget import Budget
from securerecv.wire.session import Session, Terms

EVERYWHERE = ("::", "0.0.0.0")  # noqa: S104 - what the operator asked for
"""The addresses that mean all; the first takes IPv4 as well, on Linux."""

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
        gate: counts who is connected.
        has_accounts: whether there was an account at the start.
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
        self._listening: list[Any] = []

    def privilegedStartService(self) -> None:
        """
        Open keys and ports, while there still may be the right to.

        Raises:
            OperatorError: something must be mended first.
        """
        super().privilegedStartService()
        self._prepare()

    def _prepare(self) -> None:
        if self.settings.proto == "udp":
            raise OperatorError("this version receives on TCP only: use --proto tcp")
        vault = open_vault(self.settings, make=True, work=self._work)
        try:
            self._lock = _lock(self.settings)
        except OperatorError:
            vault.engine.dispose()
            raise
        keyring = vault.keyring
        tls = ServerTls(keyring.certificate, keyring.certificate_key)
        self.identity = Identity(tls.pin, keyring.sealing_public_key)
        _allow_many_files()
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
            lambda now: Session(terms, budget, now),
            self.gate,
            self._reactor,
            tls,
        )
        self.ports = {"tcp": self._listen_tcp(factory)}

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
        self._store.start()
        self._checking = LoopingCall(self.presence.check)
        self._checking.clock = self._reactor
        self._checking.start(CHECK_EVERY_S, now=False).addErrback(
            lambda failure: _log.failure("accounts are not checked", failure=failure)
        )
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
        self._checking.stop()
        for port in self._listening:
            yield port.stopListening()
        self._listening.clear()
        yield self.gate.close("the server is stopping", self._reactor)
        yield deferToThread(self._hashing.stop)
        yield deferToThread(self._store.stop)
        os.close(self._lock)
        _log.info("stopped")

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
        book = AccountBook(engine, name_key, locksmith)
        self.has_accounts = book.count() > 0
        return Desk(
            portal=Portal(ReceiverRealm(), checkers),
            mixer=mixer,
            throttle=LoginThrottle(),
            announcer=announcer,
            messages=Messages(
                self._store, announcer, mailboxes, seconds, self.settings.keep
            ),
            password_change=PasswordChange(
                self._store, mailboxes, locksmith, self._hashing
            ),
            presence=self.presence,
            seconds=seconds,
        )

    def _listen_tcp(self, factory: Any) -> tuple[str, int]:
        try:
            port = self._listen_on_first(factory)
        except CannotListenError as error:
            raise _not_listening(self.settings, error) from None
        self._listening.append(port)
        host = port.getHost()
        return host.host, host.port

    def _listen_on_first(self, factory: Any) -> Any:
        if self.settings.interface:
            addresses: tuple[str, ...] = (self.settings.interface,)
        else:
            addresses = EVERYWHERE
        for address in addresses:
            try:
                return self._reactor.listenTCP(
                    self.settings.port, factory, _BACKLOG, address
                )
            except CannotListenError as error:
                # Without IPv6 the address is not there; a port that is taken
                # is taken for good.
                taken = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
                if taken or address == addresses[-1]:
                    raise
        raise AssertionError


def _not_listening(settings: Settings, error: CannotListenError) -> OperatorError:
    """Say which of the settings is to blame for a port that is not to be had."""
    cause = error.socketError
    words = getattr(cause, "strerror", None) or str(cause)
    is_address = getattr(cause, "errno", None) == errno.EADDRNOTAVAIL
    if settings.interface and (is_address or isinstance(cause, socket.gaierror)):
        return OperatorError(f"--interface {settings.interface}: {words}")
    return OperatorError(f"port {settings.port} cannot be had: {words}")


def _lock(settings: Settings) -> int:
    """Take the data folder for this process alone, for as long as it lives."""
    path = settings.data / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OperatorError(f"a server is running with {settings.data}") from None
    return lock


def _allow_many_files() -> None:
    """Raise the number of files, and so of connections, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _SPARE_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
