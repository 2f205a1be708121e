"""Changing a password: what logs in and what opens the box change together."""

from collections.abc import Generator
from typing import Any

from attrs import evolve
from sqlalchemy import Connection
from twisted.internet.defer import inlineCallbacks

from securerecv.access.passwords import HashingPool, check_new_password
from securerecv.access.realm import Avatar
from securerecv.intake.locksmith import Locks, Locksmith
from securerecv.intake.mailboxes import Mailboxes
from securerecv.vault import accounts
from securerecv.vault.accounts import Account
from securerecv.vault.store import Store


class PasswordChange:
    """
    Changes the passwords of users who are logged in.

    Args:
        store: where accounts are.
        mailboxes: opens the box with the old password.
        locksmith: makes what is stored of the new one.
        pool: where slow hashes are computed.
    """

    def __init__(
        self,
        store: Store,
        mailboxes: Mailboxes,
        locksmith: Locksmith,
        pool: HashingPool,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._locksmith = locksmith
        self._pool = pool

    @inlineCallbacks
    def change(
        self, avatar: Avatar, address: str, password: str
    ) -> Generator[Any, Any, Account]:
        """
        Set a new password.  Messages that are in the box stay readable.

        Returns:
            The account as it is now.

        Raises:
            PeerError: it is no password, or the box cannot be opened.
        """
        check_new_password(password)
        account, key = yield self._mailboxes.open(avatar, address)
        locks: Locks = yield self._pool.run(
            address, self._locksmith.make, avatar.name, password, key
        )

        def store(connection: Connection) -> None:
            accounts.set_password(
                connection,
                account.id,
                before=account.password_hash,
                password_hash=locks.password_hash,
                wrapped_by_password=locks.wrapped_by_password,
            )

        yield self._store.write(store)
        avatar.secret = self._locksmith.mixer.mailbox_secret(avatar.name, password)
        changed: Account = evolve(account, **locks._asdict())
        return changed
