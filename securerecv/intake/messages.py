"""What happens to messages: into boxes, out of them, and live to who watches."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from securerecv.access.realm import Avatar
from securerecv.errors import PeerError
from securerecv.intake.announcer import Announcer
from securerecv.intake.faults import explain
from securerecv.interfaces import ReceivedMessage
from securerecv.names import (
    ANONYMOUS,
    is_anonymous_address,
    normalise_user_name,
)
from securerecv.vault.arrivals import Group, Refusals
from securerecv.vault.epochs import MESSAGE_ID_BYTES
from securerecv.wire.lines import Answer, Message, Post
from securerecv.wire.replay import ReplayRecord
from securerecv.wire.verbs import Standing

_IDS_AT_A_TIME = 256


@define
class Outcome:
    """
    What became of messages.

    Attributes:
        ids: one for each.
        refusals: why some were not taken, by their index.
        is_stored: False if the store failed; then none was taken.
    """

    ids: list[bytes]
    refusals: Refusals
    is_stored: bool = True


class Boxes(Protocol):
    """Where the messages of users are kept."""

    def keep(self, group: Group) -> "Deferred[Refusals]":
        """See `securerecv.vault.store.Store.keep`."""

    def last(
        self, avatar: Avatar, address: str, count: int | None
    ) -> "Deferred[list[Message]]":
        """Read a user's newest messages, oldest first; all that are kept for None."""

    def read(
        self, avatar: Avatar, address: str, message_id: str
    ) -> "Deferred[Message]":
        """Read one message of a user; fails with `PeerError` ``no-such-id``."""

    def drop(self, avatar: Avatar, message_id: str) -> "Deferred[None]":
        """Delete one message of a user; fails with `PeerError` ``no-such-id``."""


class _RandomIds:
    """Ids of messages, of which the system is asked for many at a time."""

    def __init__(self) -> None:
        self._ready: list[bytes] = []

    def draw(self, count: int) -> list[bytes]:
        """Give ids that were never given before."""
        while len(self._ready) < count:
            random = os.urandom(_IDS_AT_A_TIME * MESSAGE_ID_BYTES)
            self._ready += [
                random[at : at + MESSAGE_ID_BYTES]
                for at in range(0, len(random), MESSAGE_ID_BYTES)
            ]
        drawn = self._ready[:count]
        del self._ready[:count]
        return drawn


Tell = Callable[[Sequence[ReceivedMessage]], "Deferred[None] | None"]
"""Is told what was kept.  Its Deferred holds back the answer to the sender."""


class Messages:
    """
    The messages of all boxes.

    Args:
        boxes: where they are kept.
        announcer: who is told of them.
        seconds: the clock, seconds since 1970.
        tell: is told of those that were kept, if there is anybody.
    """

    def __init__(
        self,
        boxes: Boxes,
        announcer: Announcer,
        seconds: Callable[[], float],
        tell: Tell | None = None,
    ) -> None:
        self._boxes = boxes
        self._announcer = announcer
        self._seconds = seconds
        self._tell = tell
        self._ids = _RandomIds()

    def post(
        self,
        sender: Avatar,
        posts: Sequence[Post],
        seen: Sequence[ReplayRecord] = (),
        *,
        awaited: bool = True,
    ) -> "Deferred[Outcome]":
        """
        Take messages that were sent together.

        Args:
            sender: of all of them.
            posts: what was sent.
            seen: what must be stored together with them.
            awaited: whether the sender waits to hear of it.

        Returns:
            Fires when all of them are durable, or have reached the anonymous
            session that they are for.
        """
        group = Group(
            sender.name if sender.standing is Standing.USER else ANONYMOUS,
            int(self._seconds() * 1000),
            self._ids.draw(len(posts)),
            posts,
            seen,
            awaited,
        )
        if not any(map(is_anonymous_address, {post.to for post in posts})):
            return self._keep(group)
        live = {
            index: post.to
            for index, post in enumerate(posts)
            if is_anonymous_address(post.to)
        }
        return self._hand_over(group, live)

    def _hand_over(self, group: Group, live: Mapping[int, str]) -> "Deferred[Outcome]":
        """Deliver what is for anonymous sessions, and keep the rest."""
        refusals: Refusals = {}
        for index, address in live.items():
            try:
                self._announcer.hand_over(address, group.message(index))
            except PeerError as error:
                refusals[index] = error
        rest = [index for index in range(len(group.posts)) if index not in live]
        if not rest and not group.seen:
            return succeed(Outcome(group.ids, refusals))

        def merge(kept: Outcome) -> Outcome:
            for index, error in kept.refusals.items():
                refusals[rest[index]] = error
            return Outcome(group.ids, refusals, kept.is_stored)

        return self._keep(group.part(rest)).addCallback(merge)

    def _keep(self, group: Group) -> "Deferred[Outcome]":
        return self._boxes.keep(group).addCallbacks(
            self._announce, _refuse_all, callbackArgs=(group,), errbackArgs=(group,)
        )

    def _announce(self, refusals: Refusals, group: Group) -> Any:
        if self._announcer.is_heard:
            for index, post in enumerate(group.posts):
                if index not in refusals:
                    self._announcer.announce(post.to, group.message(index))
        outcome = Outcome(group.ids, refusals)
        if self._tell is None or not group.posts:
            return outcome
        told = self._tell(received(group, refusals))
        return outcome if told is None else told.addCallback(lambda _: outcome)

    @inlineCallbacks
    def last(
        self, avatar: Avatar, address: str, count: int | None
    ) -> Generator[Any, Any, Answer]:
        """Answer ``LAST``: the newest messages, oldest first."""
        messages: Sequence[Message] = ()
        if avatar.standing is Standing.USER:
            messages = yield self._boxes.last(avatar, address, count)
        return Answer(f"{len(messages)} messages", tuple(map(_line, messages)))

    @inlineCallbacks
    def read(
        self, avatar: Avatar, address: str, message_id: str
    ) -> Generator[Any, Any, Answer]:
        """Answer ``READ``: one message."""
        message = yield self._boxes.read(avatar, address, message_id)
        return Answer("", (_line(message),))


def received(group: Group, refusals: Refusals) -> list[ReceivedMessage]:
    """Give those of a group's messages that were not refused."""
    return [
        ReceivedMessage(
            group.ids[index].hex(),
            normalise_user_name(post.to),
            group.sender,
            group.when_ms,
            post.body,
        )
        for index, post in enumerate(group.posts)
        if index not in refusals
    ]


def _line(message: Message) -> tuple[str, bytes]:
    return message.line(), message.body


def _refuse_all(failure: Failure, group: Group) -> Outcome:
    error = explain(failure)
    return Outcome(group.ids, dict.fromkeys(range(len(group.ids)), error), False)
