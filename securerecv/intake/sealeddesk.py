"""
The desk for sealed datagrams: one request each, no conversation.

What is opened here goes the way of every other message.  That a datagram was
taken is stored in the same transaction as its message, so that a restart does
not let it in again.
"""

from collections.abc import Callable, Iterable, Sequence

from attrs import define

from securerecv.access.realm import Avatar
from securerecv.access.tokens import Token
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.messages import Messages, Outcome
from securerecv.names import ANONYMOUS
from securerecv.wire.budget import Share
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.lines import Post, refusal, usage
from securerecv.wire.reader import Item, Reader, Refused
from securerecv.wire.replay import ReplayRecord
from securerecv.wire.sealed import Opened, SealedReceiver
from securerecv.wire.verbs import VERBS, Standing, Verb

_TAKEN = frozenset({"SAY", "SEND"})

Reply = Callable[[Sequence[bytes]], object]
"""Sends datagrams to where the requests came from."""


@define
class _Letter:
    """A message in a datagram, and the budget that its body is taken from."""

    opened: Opened[Token]
    post: Post
    budget: Share


class SealedDesk:
    """
    Takes sealed datagrams.

    Args:
        receiver: opens them.
        messages: where messages go.
        share_of: gives the allowance for payloads of an address.
        seconds: the clock, seconds since 1970.
        max_message: bytes of the largest message taken.
        anonymous: whether senders without a token are heard.
    """

    def __init__(
        self,
        receiver: SealedReceiver[Token],
        messages: Messages,
        share_of: Callable[[str], Share],
        seconds: Callable[[], float],
        max_message: int,
        *,
        anonymous: bool,
    ) -> None:
        self._receiver = receiver
        self._messages = messages
        self._share_of = share_of
        self._seconds = seconds
        self._max_message = max_message
        self._anonymous = anonymous

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
        Take datagrams that came together.

        Args:
            datagrams: from one peer.
            address: where they say they are from, for limits.
            reply: sends the answers to those that ask for one by a tag.

        Returns:
            Why some were dropped.
        """
        dropped: list[DropReason] = []
        letters: dict[str, list[_Letter]] = {}
        now_s = self._seconds()
        budget = self._share_of(address)
        reader = Reader(self._max_message, budget, _check)
        for datagram in datagrams:
            try:
                opened = self._receiver.open(datagram, address, now_s)
            except Dropped as drop:
                dropped.append(drop.reason)
                continue
            letter = self._read(opened, reader, budget, reply)
            if letter is not None:
                sender = opened.token.owner if opened.token else ""
                letters.setdefault(sender, []).append(letter)
        for sender, group in letters.items():
            self._post(sender, group, reply)
        return dropped

    def _read(
        self, opened: Opened[Token], reader: Reader, budget: Share, reply: Reply
    ) -> _Letter | None:
        """Understand what was opened; what is no message is refused."""
        item: Item | None = reader.post_of(opened.request)
        if not isinstance(item, Post) or not budget.take(len(item.body)):
            item = _only_request(reader, budget, opened.request)
        if isinstance(item, Post) and opened.token is None and not self._anonymous:
            budget.give_back(len(item.body))
            item = Refused(PeerError(ErrorCode.NOT_ALLOWED, _WANTS_TOKEN), item.tag)
        if isinstance(item, Post):
            return _Letter(opened, item, budget)
        if item is None:
            item = Refused(usage(VERBS["SAY"].usage))
        self._refuse(opened, item, reply)
        return None

    def _post(self, sender: str, letters: Sequence[_Letter], reply: Reply) -> None:
        if sender:
            avatar = Avatar(Standing.USER, sender)
        else:
            avatar = Avatar(Standing.ANONYMOUS, ANONYMOUS)
        # A record holds all that was taken under its enc: one of each will do.
        by_enc = {letter.opened.enc: letter.opened for letter in letters}
        records = [opened.replay_record for opened in by_enc.values()]
        posts = [letter.post for letter in letters]

        def answer(outcome: Outcome) -> None:
            replies: list[bytes] = []
            for index, letter in enumerate(letters):
                letter.budget.give_back(len(letter.post.body))
                tag = letter.post.tag
                error = outcome.refusals.get(index)
                line = f"{tag}+OK {outcome.ids[index].hex()}\n"
                if error is not None:
                    line = refusal(error, tag)
                # What is not stored may come again, and be answered again.
                if tag and outcome.is_stored:
                    replies.append(_sealed_reply(letter.opened, line))
            if replies:
                reply(replies)

        self._messages.post(avatar, posts, records).addCallback(answer)

    def _refuse(self, opened: Opened[Token], item: object, reply: Reply) -> None:
        """Say no to a request that wants an answer, once that is stored."""
        if not isinstance(item, Refused):
            item = Refused(PeerError(ErrorCode.NOT_ALLOWED, _ONLY))
        if not item.tag:
            return
        line = refusal(item.error, item.tag)

        def answer(outcome: Outcome) -> None:
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
