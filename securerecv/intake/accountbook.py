"""
The accounts of a data folder, for whoever runs the server.

Works beside a running server, which notices what changes.  All calls wait for
slow hashes and the disk.
"""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from securerecv.access.passwords import check_new_password, matches
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.locksmith import Locksmith, WorkFactors
from securerecv.intake.vaultopening import open_vault
from securerecv.names import normalise_user_name
from securerecv.settings import Settings
from securerecv.vault import accounts, schema
from securerecv.vault.accounts import Account, AccountExistsError, UnknownAccountError
from securerecv.vault.database import shrink_log, storage_error
from securerecv.vault.mailboxkeys import (
    MailboxPrivateKey,
    WrongSecretError,
    new_recovery_code,
    unwrap_with_code,
    unwrap_with_password,
    wrap_with_code,
)

_T = TypeVar("_T")


def open_account_book(
    settings: Settings,
    work: WorkFactors | None = None,
    *,
    make: bool = True,
    write: bool = True,
) -> "AccountBook":
    """
    Open the accounts of a data folder.

    Args:
        settings: say where it is.
        work: how slow passwords are to guess.
        make: whether to make folder, keys and store if there are none.
        write: False, together with ``make``, if they are only looked at.

    Raises:
        OperatorError: the folder or the store must be mended first.
        StorageError: the store cannot be read.
    """
    vault = open_vault(settings, make=make, write=write, work=work)
    return AccountBook(vault.engine, vault.keyring.name_key, vault.locksmith)


def _keep_quiet(_code: str) -> None:
    """Tell nobody: the caller takes what is returned."""


class AccountBook:
    """
    Adds, changes and removes accounts.

    Every method raises `PeerError` when the name, password or code is not
    what it should be, and `StorageError` when the store cannot be used.

    Args:
        engine: the store.
        name_key: finds accounts by name.
        locksmith: makes what is stored of passwords.
    """

    def __init__(self, engine: Engine, name_key: bytes, locksmith: Locksmith) -> None:
        self._engine = engine
        self._name_key = name_key
        self._locksmith = locksmith

    def close(self) -> None:
        """Let go of the store."""
        self._engine.dispose()

    def count(self) -> int:
        """Count the accounts."""
        query = select(func.count()).select_from(schema.account)
        return self._do(lambda connection: connection.scalar(query)) or 0

    def check_free(self, name: str) -> None:
        """Raise what `add` would because of the name."""
        if self._find(normalise_user_name(name)) is not None:
            raise AccountExistsError

    def check_there(self, name: str) -> None:
        """Raise what the others would because of the name."""
        self._get(normalise_user_name(name))

    def is_there(self, name: str) -> bool:
        """Tell whether there is an account of that name."""
        return self._find(normalise_user_name(name)) is not None

    def check_password(self, name: str, password: str) -> None:
        """Raise ``auth`` if it is not the password of that account."""
        name = normalise_user_name(name)
        self._check_password(self._get(name), name, password)

    def add(self, name: str, password: str) -> str:
        """
        Make an account.

        Returns:
            Its recovery code, which is stored nowhere.
        """
        name = normalise_user_name(name)
        check_new_password(password)
        self.check_free(name)
        key = MailboxPrivateKey.generate()
        code = new_recovery_code()
        locks = self._locksmith.make(name, password, key)
        self._do(
            lambda connection: accounts.add(
                connection,
                lookup=accounts.lookup_of(self._name_key, name),
                password_hash=locks.password_hash,
                public_key=key.public_key(),
                wrapped_by_password=locks.wrapped_by_password,
                wrapped_by_code=wrap_with_code(key, code),
            )
        )
        return code

    def change_password(self, name: str, old: str, new: str) -> None:
        """Set a new password; the old one is needed, since it opens the box."""
        name = normalise_user_name(name)
        check_new_password(new)
        account = self._get(name)
        self._check_password(account, name, old)
        mixer = self._locksmith.mixer
        key = unwrap_with_password(
            account.wrapped_by_password, mixer.mailbox_secret(name, old)
        )
        self._lock_anew(account, name, new, key, None)

    def recover(
        self, name: str, code: str, new: str, tell: Callable[[str], None] = _keep_quiet
    ) -> str:
        """
        Set a new password with the recovery code.

        Args:
            name: whose.
            code: the recovery code.
            new: the new password.
            tell: is given the new recovery code just before the old one
                becomes void; if it raises, nothing is changed.

        Returns:
            The new recovery code.
        """
        name = normalise_user_name(name)
        check_new_password(new)
        account = self._get(name)
        try:
            key = unwrap_with_code(account.wrapped_by_code, code)
        except WrongSecretError:
            raise PeerError(ErrorCode.AUTH, "that is not the recovery code") from None
        new_code = new_recovery_code()
        tell(new_code)
        self._lock_anew(account, name, new, key, wrap_with_code(key, new_code))
        return new_code

    def remove(self, name: str) -> None:
        """Delete an account and everything in its box."""
        lookup = accounts.lookup_of(self._name_key, normalise_user_name(name))
        self._do(lambda connection: accounts.remove(connection, lookup), deletes=True)

    def _find(self, name: str) -> Account | None:
        lookup = accounts.lookup_of(self._name_key, name)
        return self._do(lambda connection: accounts.find(connection, lookup))

    def _get(self, name: str) -> Account:
        account = self._find(name)
        if account is None:
            raise UnknownAccountError
        return account

    def _check_password(self, account: Account, name: str, password: str) -> None:
        secret = self._locksmith.mixer.bcrypt_secret(name, password)
        if not matches(secret, account.password_hash):
            raise PeerError(ErrorCode.AUTH, "that is not the password")

    def _lock_anew(
        self,
        account: Account,
        name: str,
        password: str,
        key: MailboxPrivateKey,
        wrapped_by_code: bytes | None,
    ) -> None:
        locks = self._locksmith.make(name, password, key)
        self._do(
            lambda connection: accounts.set_password(
                connection,
                account.id,
                before=account.password_hash,
                password_hash=locks.password_hash,
                wrapped_by_password=locks.wrapped_by_password,
                wrapped_by_code=wrapped_by_code,
            ),
            deletes=True,
        )

    def _do(self, work: Callable[[Connection], _T], *, deletes: bool = False) -> _T:
        """Do something in a transaction; what it deletes is gone from the disk."""
        try:
            with self._engine.connect() as connection:
                with connection.begin():
                    result = work(connection)
                if deletes:
                    # A server that runs but is idle would not do it.
                    shrink_log(connection)
                return result
        except SQLAlchemyError as error:
            raise storage_error(error) from error
