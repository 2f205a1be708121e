"""Opening mailboxes for their owners, only when they are needed."""

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from securerecv.access.passwords import HashingPool
from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.presence import lock_of
from securerecv.vault.accounts import Account
from securerecv.vault.mailboxkeys import (
    MailboxPrivateKey,
    WrongSecretError,
    unwrap_with_password,
)
from securerecv.vault.store import Store
from securerecv.wire.verbs import Standing

Opened = tuple[Account, MailboxPrivateKey]


class Mailboxes:
    """
    Unwraps mailbox keys.

    Someone who only sends never has the key unwrapped: it takes a second slow
    hash, and what is not in memory cannot be taken from there.

    Args:
        store: where accounts are.
        pool: where slow hashes are computed.
    """

    def __init__(self, store: Store, pool: HashingPool) -> None:
        self._store = store
        self._pool = pool

    @inlineCallbacks
    def account(self, avatar: Avatar) -> Generator[Any, Any, Account]:
        """
        Find a user's account.

        Raises:
            PeerError: ``no-such-id`` for an anonymous session, which has no
                box; ``no-mailbox`` if the account was removed meanwhile; ``auth``
            if it is another one now, or has another password.
        """
        if avatar.standing is not Standing.USER:
            words = "an anonymous session has no box: nothing is kept for it"
            raise PeerError(ErrorCode.NO_SUCH_ID, words)
        account: Account | None = yield self._store.find_account(avatar.name)
        if account is None:
            raise PeerError(ErrorCode.NO_MAILBOX, "your account has been removed")
        if avatar.lock is not None and lock_of(account) != avatar.lock:
            # Perhaps another's by now: the name is the same, the box is not.
            words = "the account was changed; log in again"
            raise PeerError(ErrorCode.AUTH, words)
        return account

    @inlineCallbacks
    def open(self, avatar: Avatar, address: str) -> Generator[Any, Any, Opened]:
        """
        Open a user's box; the key stays open until the user leaves.

        Args:
            avatar: whose box.
            address: where the user is, for the queue of slow hashes.

        Raises:
            PeerError: as `account`; ``auth`` if the password was changed
                since the login; ``busy`` if too many hashes wait.
        """
        account = yield self.account(avatar)
        if avatar.mailbox is None:
            if avatar.secret is None:
                words = "this login does not open the box"
                raise PeerError(ErrorCode.NOT_ALLOWED, words)
            try:
                avatar.mailbox = yield self._pool.run(
                    address,
                    unwrap_with_password,
                    account.wrapped_by_password,
                    avatar.secret,
                )
            except WrongSecretError:
                words = "the password was changed; log in again"
                raise PeerError(ErrorCode.AUTH, words) from None
        return account, avatar.mailbox
