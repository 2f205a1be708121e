"""The boxes of users as somebody else keeps them, who embeds the receiver."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.messages import received
from securerecv.interfaces import MessageStore, ReceivedMessage
from securerecv.names import normalise_user_name
from securerecv.vault.arrivals import Group, Refusals
from securerecv.wire.lines import Message, Post
from securerecv.wire.verbs import Standing


class BroughtBoxes:
    """
    Keeps messages in a `MessageStore`.

    See `securerecv.intake.messages.Boxes`.

    Args:
        messages: where they are kept.
        keep_group: keeps, in the store of this project, which sealed datagrams
            were taken.
        keep: how many messages a box keeps.
    """

    def __init__(
        self,
        messages: MessageStore,
        keep_group: Callable[[Group], "Deferred[Refusals]"],
        keep: int,
    ) -> None:
        self._messages = messages
        self._keep_group = keep_group
        self._most = keep

    @inlineCallbacks
    def keep(self, group: Group) -> Generator[Any, Any, Refusals]:
        """Make messages durable."""
        refusals: Refusals = {}
        for index, post in enumerate(group.posts):
            if not _is_name(post):
                words = "there is no such user"
                refusals[index] = PeerError(ErrorCode.NO_MAILBOX, words)
        messages = received(group, refusals)
        if messages:
            places = [at for at in range(len(group.posts)) if at not in refusals]
            refused = yield self._messages.keep(messages)
            refusals.update((places[index], error) for index, error in refused.items())
        if group.seen:
            # After the messages: a datagram that comes again after a crash in
            # between is stored twice, which is better than never.
            yield self._keep_group(group.part([]))
        return refusals

    @inlineCallbacks
    def last(
        self, avatar: Avatar, _address: str, count: int | None
    ) -> Generator[Any, Any, list[Message]]:
        """Read the newest messages, oldest first."""
        wanted = self._most if count is None else min(count, self._most)
        found: Sequence[ReceivedMessage] = ()
        if wanted:
            found = yield self._messages.last(avatar.name, wanted)
        return [_message(message) for message in found]

    @inlineCallbacks
    def read(
        self, avatar: Avatar, _address: str, message_id: str
    ) -> Generator[Any, Any, Message]:
        """Read one message."""
        found = yield self._messages.read(_user(avatar), message_id)
        return _message(found)

    @inlineCallbacks
    def drop(self, avatar: Avatar, message_id: str) -> Generator[Any, Any, None]:
        """Delete one message."""
        yield self._messages.drop(_user(avatar), message_id)


def _user(avatar: Avatar) -> str:
    if avatar.standing is not Standing.USER:
        words = "an anonymous session has no box: nothing is kept for it"
        raise PeerError(ErrorCode.NO_SUCH_ID, words)
    return avatar.name


def _is_name(post: Post) -> bool:
    try:
        normalise_user_name(post.to)
    except PeerError:
        return False
    return True


def _message(message: ReceivedMessage) -> Message:
    return Message(message.id, message.sender, message.when_ms, message.body)
