"""
Answers to tagged requests, kept for when a request comes a second time.

Where datagrams get lost, a peer that has no answer sends its request again.
It cannot know whether the request or the answer was lost: so the request is
not carried out again, and the answer is.
"""

import hashlib
from collections import OrderedDict

from attrs import define

MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 256 * 1024
_DIGEST_BYTES = 16


@define
class _Exchange:
    digest: bytes
    answer: list[bytes] | None = None


class AnswerMemory:
    """
    The last answers of one conversation, by tag.

    A tag that is used for another request stands for that one from then on.
    """

    def __init__(self) -> None:
        self._exchanges: OrderedDict[str, _Exchange] = OrderedDict()
        self._bytes = 0

    def begin(self, tag: str, request: bytes) -> bool:
        """
        Note a request.

        Returns:
            False if it has come before; then `answer_to` may have its answer.
        """
        digest = hashlib.blake2b(request, digest_size=_DIGEST_BYTES).digest()
        known = self._exchanges.get(tag)
        if known is not None and known.digest == digest:
            return False
        self._drop(tag)
        self._exchanges[tag] = _Exchange(digest)
        while len(self._exchanges) > MAX_REMEMBERED:
            self._drop(next(iter(self._exchanges)))
        return True

    def answer_to(self, tag: str) -> list[bytes] | None:
        """Give the answer again, or None while it is being worked out."""
        known = self._exchanges.get(tag)
        return known.answer if known else None

    def finish(self, tag: str, answer: list[bytes]) -> None:
        """Keep the answer to a request; unless it was forgotten meanwhile."""
        known = self._exchanges.get(tag)
        if known is None or known.answer is not None:
            return
        known.answer = answer
        self._bytes += sum(map(len, answer))
        while self._bytes > MAX_REMEMBERED_BYTES and len(self._exchanges) > 1:
            self._drop(next(iter(self._exchanges)))

    def _drop(self, tag: str) -> None:
        known = self._exchanges.pop(tag, None)
        if known is not None and known.answer is not None:
            self._bytes -= sum(map(len, known.answer))
