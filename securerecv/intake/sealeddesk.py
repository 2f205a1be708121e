"""
The desk for sealed datagrams: one request each, no conversation.

What is opened here goes the way of every other message.  That a datagram was
taken is stored in the same transaction as its message, so that a restart does
not let it in again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from attrs import Factory, define

from securerecv.access.realm import Avatar
from securerecv.access.tokens import Token
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.messages import Messages, Outcome
from securerecv.names import ANONYMOUS
from securerecv.wire.budget import Share
from securerecv.wire.drops import DropReason
from securerecv.wire.lines import Post, refusal, usage
from securerecv.wire.reader import Item, Reader, Refused
from securerecv.wire.replay import ReplayRecord
from securerecv.wire.sealed import Opened, SealedReceiver
from securerecv.wire.verbs import VERBS, Standing, Verb

_TAKEN = frozenset({"SAY", "SEND"})

MESSAGE_BYTES = 512
REFUSAL_BYTES = 2560
"""What a message, and a refusal, takes beside the body until it is stored."""

Reply = Callable[[Sequence[bytes]], object]
"""Sends datagrams to where the requests came from."""


@define(eq=False)
class _Bundle:
    """
    Messages of one sender from one address.

    Attributes:
        reply: sends the answers.
        budget: what the messages are taken from.
        held: bytes that were taken.
        posts: the messages.
        asking: the datagrams of those that ask for an answer by a tag, by index.
        last: of each ``enc`` the last datagram, by its ``enc``.
    """

    reply: Reply
    budget: Share
    held: int = 0
    posts: list[Post] = Factory(list)
    asking: dict[int, Opened[Token]] = Factory(dict)
    last: dict[bytes, Opened[Token]] = Factory(dict)

    def add(self, opened: Opened[Token], post: Post) -> None:
        """Add the message that was in a datagram."""
        if post.tag:
            self.asking[len(self.posts)] = opened
        self.held += len(post.body) + MESSAGE_BYTES
        self.posts.append(post)
        self.last[opened.enc] = opened

    def settle(self, outcome: Outcome, begin: int) -> None:
        """Answer, when it is known what became of the messages from an index on."""
        self.budget.give_back(self.held)
        # What is not stored may come again, and be answered again.
        if outcome.is_stored and self.asking:
            self.reply(list(self._replies(outcome, begin)))

    def _replies(self, outcome: Outcome, begin: int) -> Iterator[bytes]:
        for index, opened in self.asking.items():
            tag = self.posts[index].tag
            error = outcome.refusals.get(begin + index)
            line = f"{tag}+OK {outcome.ids[begin + index].hex()}\n"
            yield _sealed_reply(opened, refusal(error, tag) if error else line)


class SealedDesk:
    """
    Takes sealed datagrams.

    What `received` has taken is kept when `post` is called: what is done once for
    all of a sender's messages, and of all senders without a token, costs more than
    what is done for one.

    Args:
        receiver: opens them.
        messages: where messages go.
        share_of: gives the allowance of an address, for what is under way.
        seconds: the clock, seconds since 1970.
        max_message: bytes of the largest message taken.
        refused: is told the code of each request that was refused, since whoever
            wanted no answer hears nothing of it.
        anonymous: whether senders without a token are heard.
    """

    def __init__(
        self,
        receiver: SealedReceiver[Token],
        messages: Messages,
        share_of: Callable[[str], Share],
        seconds: Callable[[], float],
        max_message: int,
        refused: Callable[[ErrorCode], object],
        *,
        anonymous: bool,
    ) -> None:
        self._receiver = receiver
        self._messages = messages
        self._share_of = share_of
        self._seconds = seconds
        self._max_message = max_message
        self._refused = refused
        self._anonymous = anonymous
        # By the sender's name, which is empty for those without a token.
        self._bundles: dict[str, list[_Bundle]] = {}

    def restore(self, records: Iterable[ReplayRecord], expired_s: int | None) -> None:
        """
        Remember what was taken before a restart; before anything else.

        Args:
            records: those that have not expired.
            expired_s: when the last of the others did.
        """
        for record in records:
            self._receiver.restore(record.digest, record.expires_s, record.state)
        if expired_s is not None:
            self._receiver.restore_forgotten(expired_s)

    def received(
        self, datagrams: Sequence[bytes], address: str, reply: Reply
    ) -> list[DropReason]:
        """
        Take datagrams that came together; `post` has them kept.

        Args:
            datagrams: from one peer.
            address: where they say they are from, for limits.
            reply: sends the answers to those that ask for one by a tag.

        Returns:
            Why some were dropped.
        """
        budget = self._share_of(address)
        # Bodies are shorter than the datagrams that they come in.
        left = sum(map(len, datagrams)) + REFUSAL_BYTES * len(datagrams)
        if not budget.take(left):
            # They are not opened, and may come again.
            return [DropReason.OVER_BUDGET] * len(datagrams)
        now_s = self._seconds()
        taken, dropped = self._receiver.open_all(datagrams, address, now_s)
        reader = Reader(self._max_message, budget, _check)
        bundles: dict[str, _Bundle] = defaultdict(partial(_Bundle, reply, budget))
        refusals: list[tuple[Opened[Token], Refused]] = []
        for opened in taken:
            token = opened.token
            item: Post | Refused | None = reader.post_of(opened.request)
            if item is None or (token is None and not self._anonymous):
                item = self._read(opened, reader, budget)
            if isinstance(item, Refused):
                refusals.append((opened, item))
            else:
                bundles[token.owner if token else ""].add(opened, item)
        for sender, bundle in bundles.items():
            left -= bundle.held
            self._bundles.setdefault(sender, []).append(bundle)
        budget.give_back(left)
        for opened, refused in refusals:
            self._refuse(opened, refused, budget, reply)
        return dropped

    def post(self) -> None:
        """Have what was received kept, and answered."""
        gathered, self._bundles = self._bundles, {}
        for sender, bundles in gathered.items():
            self._post(sender, bundles)

    def _read(
        self, opened: Opened[Token], reader: Reader, budget: Share
    ) -> Post | Refused:
        """Understand what was opened; what is no message is to be refused."""
        item = _only_request(reader, budget, opened.request)
        if isinstance(item, Post):
            # There is room for it in what was taken for the datagram.
            budget.give_back(len(item.body))
            if opened.token is not None or self._anonymous:
                return item
            return Refused(PeerError(ErrorCode.NOT_ALLOWED, _WANTS_TOKEN), item.tag)
        if item is None:
            return Refused(usage(VERBS["SAY"].usage))
        if not isinstance(item, Refused):
            return Refused(PeerError(ErrorCode.NOT_ALLOWED, _ONLY))
        return item

    def _post(self, sender: str, bundles: Sequence[_Bundle]) -> None:
        """Have messages kept, which are taken from the budget."""
        if sender:
            avatar = Avatar(Standing.USER, sender)
        else:
            avatar = Avatar(Standing.ANONYMOUS, ANONYMOUS)
        # A record holds all that was taken under its enc: one of each will do.
        last: dict[bytes, Opened[Token]] = {}
        posts: list[Post] = []
        for bundle in bundles:
            last |= bundle.last
            posts += bundle.posts
        records = [opened.replay_record for opened in last.values()]

        def answer(outcome: Outcome) -> None:
            for error in outcome.refusals.values():
                self._refused(error.code)
            begin = 0
            for bundle in bundles:
                bundle.settle(outcome, begin)
                begin += len(bundle.posts)

        awaited = any(bundle.asking for bundle in bundles)
        done = self._messages.post(avatar, posts, records, awaited=awaited)
        done.addCallback(answer)

    def _refuse(
        self, opened: Opened[Token], item: Refused, budget: Share, reply: Reply
    ) -> None:
        """Say no to a request that wants an answer, once that is stored."""
        self._refused(item.error.code)
        if not item.tag:
            return
        # It is there: so much was taken for the datagram, and given back.
        budget.take(REFUSAL_BYTES)
        line = refusal(item.error, item.tag)

        def answer(outcome: Outcome) -> None:
            budget.give_back(REFUSAL_BYTES)
            if outcome.is_stored:
                reply([_sealed_reply(opened, line)])

        nobody = Avatar(Standing.ANONYMOUS, ANONYMOUS)
        self._messages.post(nobody, [], [opened.replay_record]).addCallback(answer)


_ONLY = "only SAY and SEND come sealed"
_WANTS_TOKEN = "this server wants a token"  # noqa: S105 - words, no secret


def _only_request(reader: Reader, budget: Share, plaintext: bytes) -> Item | None:
    """Read the one request of a datagram; with another behind it, it is refused."""
    reader.begin_record(plaintext)
    item = reader.next()
    another = reader.next() if item is not None else None
    unfinished = reader.end_record()
    if item is None:
        return unfinished
    if another is None and unfinished is None:
        return item
    for post in (item, another):
        if isinstance(post, Post):
            budget.give_back(len(post.body))
    if isinstance(item, Refused):
        return item
    return Refused(usage(f"{VERBS['SAY'].usage}: one request a datagram"), item.tag)


def _check(verb: Verb) -> None:
    if verb.name not in _TAKEN:
        raise PeerError(ErrorCode.NOT_ALLOWED, _ONLY)


def _sealed_reply(opened: Opened[Token], line: str) -> bytes:
    # Cut rather than longer than the request, so that nobody can be flooded.
    return opened.reply(line.encode()[: opened.max_reply_bytes])
