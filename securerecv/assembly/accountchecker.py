"""The accounts of a data folder, for twisted.cred in a server that is not ours."""

from collections.abc import Callable, Generator
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from securerecv.access.checker import BcryptChecker, PeerCredentials
from securerecv.access.passwords import HashingPool, dummy_hash
from securerecv.errors import PeerError
from securerecv.intake.vaultopening import open_vault
from securerecv.settings import Settings
from securerecv.vault import accounts
from securerecv.vault.database import storage_error

_log = Logger()


class _PasswordFile:
    """The password hashes of a store; see `securerecv.interfaces.PasswordFile`."""

    def __init__(self, engine: Engine, name_key: bytes, reactor: Any) -> None:
        self._engine = engine
        self._name_key = name_key
        self._reactor = reactor

    def password_hash(self, name: str) -> "Deferred[bytes | None]":
        """Look a user up, in one of the reactor's threads."""
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, self._find, name)

    def _find(self, name: str) -> bytes | None:
        lookup = accounts.lookup_of(self._name_key, name)
        try:
            with self._engine.connect() as connection:
                account = accounts.find(connection, lookup)
        except SQLAlchemyError as error:
            raise storage_error(error) from error
        return account.password_hash if account else None


@implementer(ICredentialsChecker)
class AccountChecker:
    """
    Checks logins of other servers.

    Args:
        make_checker: gives what does the checking; called with its pool when
            the first login comes, since a server may fork before.
        reactor: what it runs on.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self, make_checker: Callable[[HashingPool], BcryptChecker], reactor: Any
    ) -> None:
        self._make_checker = make_checker
        self._reactor = reactor
        self._checker: BcryptChecker | None = None

    @inlineCallbacks
    def requestAvatarId(
        self, credentials: Any
    ) -> Generator[Any, Any, bytes | tuple[()]]:
        """
        Check a login.

        Args:
            credentials: user name and password; not all of Twisted's servers
                give them as bytes.

        Returns:
            The normalised user name, UTF-8.

        Raises:
            UnauthorizedLogin: no such user, not the password, or too many
                logins at once.
        """
        checker = self._started()
        plain = PeerCredentials(
            _bytes(credentials.username), _bytes(credentials.password), ""
        )
        try:
            name: bytes | tuple[()] = yield checker.requestAvatarId(plain)
        except PeerError as error:
            _log.warn("a login was refused: {error}", error=error)
            raise UnauthorizedLogin(str(error)) from None
        return name

    def _started(self) -> BcryptChecker:
        if self._checker is None:
            pool = HashingPool(self._reactor)
            pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
            self._checker = self._make_checker(pool)
        return self._checker


def open_checker(settings: Settings, reactor: Any) -> AccountChecker:
    """
    Open the accounts of a data folder that is there.

    Args:
        settings: say where it is.
        reactor: what the checker runs on.

    Raises:
        OperatorError: the folder or the store must be mended first.
        StorageError: the store cannot be read.
    """
    vault = open_vault(settings, make=False)
    # Connections must not outlive a fork; new ones are made when they are needed.
    vault.engine.dispose()
    passwords = _PasswordFile(vault.engine, vault.keyring.name_key, reactor)
    locksmith = vault.locksmith
    dummy = dummy_hash(locksmith.work.bcrypt_rounds)

    def make_checker(pool: HashingPool) -> BcryptChecker:
        return BcryptChecker(passwords, locksmith.mixer, pool, dummy)

    return AccountChecker(make_checker, reactor)


def _bytes(written: bytes | str) -> bytes:
    return written.encode() if isinstance(written, str) else written
