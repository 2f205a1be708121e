"""
Answers to tagged requests, kept for when a request comes a second time.

Where datagrams get lost, a peer that has no answer sends its request again.
It cannot know whether the request or the answer was lost: so the request is
not carried out again, and the answer is given again.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from attrs import define

MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 64 * 1024
"""Of answers; requests whose answer alone is longer are those that only read."""

_DIGEST_BYTES = 16


@define
class _Exchange:
    digest: bytes
    answers_before: int = 0
    answer: Sequence[bytes] = ()


class AnswerMemory:
    """
    The last answers of one conversation, by tag.

    A tag that is used for another request stands for that one from then on.
    What has no answer yet is never forgotten: who asks for it must see to it
    that not too much is under way.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, _Exchange] = {}
        self._answered: OrderedDict[str, _Exchange] = OrderedDict()
        self._bytes = 0

    def begin(self, tag: str, request: bytes) -> bool:
        """
        Note a request.

        Returns:
            False if it has come before; then `answer_to` has its answer, if
            there is one already.
        """
        digest = hashlib.blake2b(request, digest_size=_DIGEST_BYTES).digest()
        before = self._under_way.get(tag)
        known = before or self._answered.get(tag)
        if known is not None and known.digest == digest:
            return False
        self._forget(tag)
        answers_before = before.answers_before + 1 if before else 0
        self._under_way[tag] = _Exchange(digest, answers_before)
        return True

    def answer_to(self, tag: str) -> Sequence[bytes]:
        """Give the answer again: nothing while it is being worked out."""
        known = self._answered.get(tag)
        return known.answer if known else ()

    def finish(self, tag: str, answer: Sequence[bytes]) -> None:
        """
        Keep the answer to a request.

        Answers to requests with the same tag must come in their order.
        """
        exchange = self._under_way.get(tag)
        if exchange is None:
            return
        if exchange.answers_before:
            exchange.answers_before -= 1
            return
        del self._under_way[tag]
        size = _size(answer)
        if size > MAX_REMEMBERED_BYTES:
            return
        exchange.answer = answer
        self._answered[tag] = exchange
        self._bytes += size
        while self._bytes > MAX_REMEMBERED_BYTES or len(self._answered) > (
            MAX_REMEMBERED
        ):
            self._forget(next(iter(self._answered)))

    def _forget(self, tag: str) -> None:
        known = self._answered.pop(tag, None)
        if known is not None:
            self._bytes -= _size(known.answer)


def _size(answer: Sequence[bytes]) -> int:
    return sum(map(len, answer))
