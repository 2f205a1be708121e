"""The boxes of users as this project keeps them: sealed to their owners."""

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from securerecv.access.realm import Avatar
from securerecv.intake.mailboxes import Mailboxes
from securerecv.vault.store import Store
from securerecv.wire.lines import Message


class SealedBoxes:
    """
    Keeps messages in the store, and opens boxes for their owners.

    See `securerecv.intake.messages.Boxes`.

    Args:
        store: where they are kept.
        mailboxes: opens boxes.
        keep: how many messages a box keeps.
    """

    def __init__(self, store: Store, mailboxes: Mailboxes, keep: int) -> None:
        self.keep = store.keep
        self._store = store
        self._mailboxes = mailboxes
        self._most = keep

    @inlineCallbacks
    def last(
        self, avatar: Avatar, address: str, count: int | None
    ) -> Generator[Any, Any, list[Message]]:
        """Read the newest messages, oldest first."""
        account, key = yield self._mailboxes.open(avatar, address)
        wanted = self._most if count is None else count
        messages: list[Message] = yield self._store.last(account, key, wanted)
        return messages

    @inlineCallbacks
    def read(
        self, avatar: Avatar, address: str, message_id: str
    ) -> Generator[Any, Any, Message]:
        """Read one message."""
        account, key = yield self._mailboxes.open(avatar, address)
        message: Message = yield self._store.read(account, key, message_id)
        return message

    @inlineCallbacks
    def drop(self, avatar: Avatar, message_id: str) -> Generator[Any, Any, None]:
        """Delete one message."""
        account = yield self._mailboxes.account(avatar)
        yield self._store.drop(account, message_id)
