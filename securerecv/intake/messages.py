"""What happens to messages: into boxes, out of them, and live to who watches."""

import os
from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from securerecv.access.realm import Avatar
from securerecv.errors import PeerError
from securerecv.intake.announcer import Announcer
from securerecv.intake.faults import explain
from securerecv.intake.mailboxes import Mailboxes
from securerecv.names import ANONYMOUS, is_anonymous_address
from securerecv.vault.arrivals import Delivery, Refusals
from securerecv.vault.epochs import MESSAGE_ID_BYTES
from securerecv.vault.store import Store
from securerecv.wire.lines import Answer, Message
from securerecv.wire.reader import Post
from securerecv.wire.verbs import Standing

_ID_CHARACTERS = 2 * MESSAGE_ID_BYTES

Results = list[str | PeerError]
"""For each message its id, or why it was not taken."""


class Messages:
    """
    The messages of all boxes.

    Args:
        store: where they are kept.
        announcer: who is told of them.
        mailboxes: opens boxes for their owners.
        seconds: the clock, seconds since 1970.
        keep: how many messages a box keeps.
    """

    def __init__(
        self,
        store: Store,
        announcer: Announcer,
        mailboxes: Mailboxes,
        seconds: Callable[[], float],
        keep: int,
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._mailboxes = mailboxes
        self._seconds = seconds
        self._keep = keep

    def post(self, sender: Avatar, posts: Sequence[Post]) -> "Deferred[Results]":
        """
        Take messages that were sent together.

        Returns:
            Fires when all of them are durable, or have reached the anonymous
            session that they are for.
        """
        name = sender.name if sender.standing is Standing.USER else ANONYMOUS
        when_ms = int(self._seconds() * 1000)
        ids = os.urandom(MESSAGE_ID_BYTES * len(posts)).hex()
        results: Results = []
        group: list[Delivery] = []
        places: list[int] = []
        for place, post in enumerate(posts):
            at = place * _ID_CHARACTERS
            message = Message(ids[at : at + _ID_CHARACTERS], name, when_ms, post.body)
            if is_anonymous_address(post.to):
                results.append(self._hand_over(post.to, message))
            else:
                results.append(message.id)
                group.append(Delivery(post.to, message))
                places.append(place)
        if not group:
            return succeed(results)
        return self._store.keep(group).addCallbacks(
            self._announce,
            _refuse_all,
            callbackArgs=(group, places, results),
            errbackArgs=(places, results),
        )

    def _hand_over(self, address: str, message: Message) -> str | PeerError:
        try:
            self._announcer.hand_over(address, message)
        except PeerError as error:
            return error
        return message.id

    def _announce(
        self,
        refusals: Refusals,
        group: Sequence[Delivery],
        places: Sequence[int],
        results: Results,
    ) -> Results:
        for index, refusal in refusals.items():
            results[places[index]] = refusal
        for index, (to, message) in enumerate(group):
            if index not in refusals:
                self._announcer.announce(to, message)
        return results

    @inlineCallbacks
    def last(
        self, avatar: Avatar, address: str, count: int | None
    ) -> Generator[Any, Any, Answer]:
        """Answer ``LAST``: the newest messages, oldest first."""
        messages: Sequence[Message] = ()
        if avatar.standing is Standing.USER:
            account, key = yield self._mailboxes.open(avatar, address)
            wanted = self._keep if count is None else count
            messages = yield self._store.last(account, key, wanted)
        return Answer(f"{len(messages)} messages", tuple(map(_line, messages)))

    @inlineCallbacks
    def read(
        self, avatar: Avatar, address: str, message_id: str
    ) -> Generator[Any, Any, Answer]:
        """Answer ``READ``: one message."""
        account, key = yield self._mailboxes.open(avatar, address)
        message = yield self._store.read(account, key, message_id)
        return Answer("", (_line(message),))

    @inlineCallbacks
    def drop(self, avatar: Avatar, message_id: str) -> Generator[Any, Any, Answer]:
        """Answer ``DROP``: delete one message."""
        account = yield self._mailboxes.account(avatar)
        yield self._store.drop(account, message_id)
        return Answer()


def _line(message: Message) -> tuple[str, bytes]:
    return message.line(), message.body


def _refuse_all(failure: Failure, places: Sequence[int], results: Results) -> Results:
    error = explain(failure)
    for place in places:
        results[place] = error
    return results
