"""Who is inside: every conversation of every user, and whether they still may be."""

from collections.abc import Callable, Generator
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import inlineCallbacks

from securerecv.access.realm import Avatar
from securerecv.errors import StorageError
from securerecv.vault.accounts import Account
from securerecv.vault.store import Store

CHECK_EVERY_S = 5.0
"""How long a session can outlive a change that was made beside the server."""

Lock = tuple[int, bytes] | None
"""An account's number and password hash; None where there is no account."""

Dismiss = Callable[[str], None]
"""Ends a conversation, with words for the peer."""


class Presence:
    """
    Conversations of users, by user.

    Args:
        store: where accounts are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inside: dict[str, dict[Avatar, Dismiss]] = {}

    @inlineCallbacks
    def lock_of(self, name: str) -> Generator[Any, Any, Lock]:
        """Give what stands for a user's account and password as they are now."""
        account = yield self._store.find_account(name)
        return lock_of(account)

    @inlineCallbacks
    def enter(
        self, avatar: Avatar, lock: Lock, dismiss: Dismiss
    ) -> Generator[Any, Any, None]:
        """
        Note that a user came in.

        Args:
            avatar: the user.
            lock: from `lock_of`, before the password was checked.
            dismiss: ends the conversation.

        Raises:
            UnauthorizedLogin: the password was changed while it was checked.
        """
        now = yield self.lock_of(avatar.name)
        if now != lock:
            raise UnauthorizedLogin
        avatar.lock = lock
        self._inside.setdefault(avatar.name, {})[avatar] = dismiss

    def leave(self, avatar: Avatar) -> None:
        """Note that somebody has gone."""
        others = self._inside.get(avatar.name, {})
        others.pop(avatar, None)
        if not others:
            self._inside.pop(avatar.name, None)

    def password_changed(self, avatar: Avatar, account: Account) -> None:
        """Send home every other conversation of a user who changed the password."""
        avatar.lock = lock_of(account)
        for other, dismiss in tuple(self._inside.get(avatar.name, {}).items()):
            if other is not avatar:
                dismiss("the password was changed; log in again")

    @inlineCallbacks
    def check(self) -> Generator[Any, Any, None]:
        """Send home whose account was removed, or whose password was changed."""
        if not self._inside:
            return
        try:
            accounts = yield self._store.find_accounts(list(self._inside))
        except StorageError:
            # Commits will have said so; whoever is inside stays for now.
            return
        for name, account in accounts.items():
            lock = lock_of(account)
            for avatar, dismiss in tuple(self._inside.get(name, {}).items()):
                if avatar.lock != lock:
                    dismiss("your account was changed; log in again")


def lock_of(account: Account | None) -> Lock:
    """Give what changes when an account is replaced or gets another password."""
    return (account.id, account.password_hash) if account else None
