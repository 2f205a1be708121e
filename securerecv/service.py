"""The receiver, assembled: settings in, a Twisted service out."""

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Generator
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from securerecv.access.checker import BcryptChecker
from securerecv.access.passwords import (
    HashingPool,
    PasswordMixer,
    dummy_hash,
)
from securerecv.access.realm import ReceiverRealm
from securerecv.access.throttle import LoginThrottle
from securerecv.errors import OperatorError
from securerecv.intake.accountbook import AccountBook
from securerecv.intake.announcer import Announcer
from securerecv.intake.desk import Desk
from securerecv.intake.locksmith import Locksmith, WorkFactors
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Messages
from securerecv.intake.passwordchange import PasswordChange
from securerecv.limits import MAX_BUFFERED_PAYLOAD_BYTES, MAX_CONNECTIONS
from securerecv.net.gate import Gate
from securerecv.net.tcp import tcp_factory
from securerecv.net.tls import ServerTls
from securerecv.settings import Settings
from securerecv.vault.database import claim, database_url, open_database
from securerecv.vault.keyring import Keyring, open_keyring
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
        keyring = open_keyring(
            self.settings.data, self.settings.cert, self.settings.key
        )
        self._lock = _lock(self.settings)
        tls = ServerTls(keyring.certificate, keyring.certificate_key)
        self.identity = Identity(tls.pin, keyring.sealing_public_key)
        _allow_many_files()
        desk = self._assemble(keyring)
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
        self._hashing.start()
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
        for port in self._listening:
            yield port.stopListening()
        self._listening.clear()
        yield self.gate.close("the server is stopping", self._reactor)
        yield deferToThread(self._hashing.stop)
        yield deferToThread(self._store.stop)
        os.close(self._lock)
        _log.info("stopped")

    def _assemble(self, keyring: Keyring) -> Desk:
        seconds: Callable[[], float] = self._reactor.seconds
        engine = open_database(database_url(self.settings.store, self.settings.data))
        claim(engine, keyring.name_key)
        self._store = Store(engine, keyring.name_key, self.settings.keep, self._reactor)
        self._hashing = HashingPool(self._reactor)
        mixer = PasswordMixer(keyring.password_key, keyring.mailbox_key)
        checkers: list[Any] = [
            BcryptChecker(
                self._store, mixer, self._hashing, dummy_hash(self._work.bcrypt_rounds)
            )
        ]
        if self.settings.anonymous:
            checkers.append(AllowAnonymousAccess())
        announcer = Announcer()
        mailboxes = Mailboxes(self._store, self._hashing)
        locksmith = Locksmith(mixer, self._work)
        book = AccountBook(engine, keyring.name_key, locksmith)
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
            seconds=seconds,
        )

    def _listen_tcp(self, factory: Any) -> tuple[str, int]:
        try:
            port = self._listen_on_first(factory)
        except CannotListenError as error:
            raise OperatorError(
                f"port {self.settings.port} cannot be had: {error.socketError}"
            ) from None
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
