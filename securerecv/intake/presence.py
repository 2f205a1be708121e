"""Who is inside: every conversation of every user, and whether they still may be."""

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from securerecv.access.realm import Avatar
from securerecv.errors import StorageError
from securerecv.vault.accounts import Account
from securerecv.vault.store import Store
from securerecv.wire.verbs import Standing

CHECK_EVERY_S = 5.0
"""How long a session can outlive a change that was made beside the server."""

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
    def enter(self, avatar: Avatar, dismiss: Dismiss) -> Generator[Any, Any, None]:
        """Note that somebody came in."""
        if avatar.standing is Standing.USER:
            account = yield self._store.find_account(avatar.name)
            avatar.lock = _lock(account)
            self._inside.setdefault(avatar.name, {})[avatar] = dismiss

    def leave(self, avatar: Avatar) -> None:
        """Note that somebody has gone."""
        others = self._inside.get(avatar.name, {})
        others.pop(avatar, None)
        if not others:
            self._inside.pop(avatar.name, None)

    def password_changed(self, avatar: Avatar, account: Account) -> None:
        """Send home every other conversation of a user who changed the password."""
        avatar.lock = _lock(account)
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
            lock = _lock(account)
            for avatar, dismiss in tuple(self._inside.get(name, {}).items()):
                if avatar.lock != lock:
                    dismiss("your account was changed; log in again")


def _lock(account: Account | None) -> object:
    return account and (account.id, account.password_hash)
