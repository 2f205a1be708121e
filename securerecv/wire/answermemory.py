"""
Answers to tagged requests, kept for when a request comes a second time.

Where datagrams get lost, a peer that has no answer sends its request again.
It cannot know whether the request or the answer was lost: so the request is
not carried out again, and the answer is given again.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence

MAX_REMEMBERED = 256
"""Answers of each kind, short and long."""

MAX_REMEMBERED_BYTES = 32 * 1024
"""Of the answers of each kind."""

SHORT_BYTES = 512
"""
The longest short answer.

Requests that change something have short ones, and of these 64 are always
remembered: a client does not go on further than that without an answer.  What
only reads may have longer ones, which must not push the others out.
"""


_Known = tuple[int, Sequence[bytes], int]
"""The mark of a request, its answer, and the bytes of that."""


class _Answers:
    """The last answers of one kind, by tag, each with the mark of its request."""

    def __init__(self) -> None:
        self.by_tag: OrderedDict[str, _Known] = OrderedDict()
        self._bytes = 0

    def keep(self, tag: str, digest: int, answer: Sequence[bytes], size: int) -> None:
        """Keep an answer; those that are too many, or too much, are forgotten."""
        self.by_tag[tag] = digest, answer, size
        self._bytes += size
        while self._bytes > MAX_REMEMBERED_BYTES or len(self.by_tag) > MAX_REMEMBERED:
            _, known = self.by_tag.popitem(last=False)
            self._bytes -= known[2]

    def forget(self, tag: str) -> None:
        """Forget an answer."""
        self._bytes -= self.by_tag.pop(tag)[2]


class AnswerMemory:
    """
    The last answers of one conversation, by tag.

    A tag that is used for another request stands for that one from then on.
    What has no answer yet is never forgotten: who asks for it must see to it
    that not too much is under way.

    Requests with one tag are told apart by `hash`: 64 bits, and nobody knows
    beforehand which requests have the same.  A peer that used a tag twice would
    have to be that unlucky to get the first answer again, and nobody else would.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, int] = {}
        # Requests whose tag was used again before they were answered.
        self._answers_before: Counter[str] = Counter()
        # Those that will have another answer; they are not forgotten either.
        self._half_answered: dict[str, _Known] = {}
        self._short = _Answers()
        self._long = _Answers()
        self._kinds = (self._short, self._long)

    def begin(self, tag: str, request: bytes) -> bool:
        """
        Note a request.

        Returns:
            False if it has come before; then `answer_to` has its answer, if
            there is one already.
        """
        digest = hash(request)
        half = self._half_answered.get(tag)
        if half is not None:
            if half[0] == digest:
                return False
            del self._half_answered[tag]
        before = self._under_way.get(tag)
        if before is not None:
            if before == digest:
                return False
            self._answers_before[tag] += 1
        else:
            for answers in self._kinds:
                if tag in answers.by_tag:
                    if answers.by_tag[tag][0] == digest:
                        return False
                    answers.forget(tag)
        self._under_way[tag] = digest
        return True

    def answer_to(self, tag: str) -> Sequence[bytes]:
        """Give the answer again: nothing while it is being worked out."""
        known = (
            self._half_answered.get(tag)
            or self._short.by_tag.get(tag)
            or self._long.by_tag.get(tag)
        )
        return known[1] if known else ()

    def expect_another(self, tag: str) -> None:
        """
        Note that the answer just kept is the first of two.

        It stands until `replace` has the second.
        """
        known = self._short.by_tag.get(tag)
        if known is not None:
            self._short.forget(tag)
            self._half_answered[tag] = known

    def replace(self, tag: str, answer: Sequence[bytes]) -> None:
        """Keep the second answer in place of the first."""
        known = self._half_answered.pop(tag, None)
        if known is not None:
            self._short.keep(tag, known[0], answer, _size(answer))

    def finish(self, tag: str, answer: Sequence[bytes]) -> None:
        """
        Keep the answer to a request.

        Answers to requests with the same tag must come in their order.
        """
        if self._answers_before and tag in self._answers_before:
            self._answers_before[tag] -= 1
            if not self._answers_before[tag]:
                del self._answers_before[tag]
            return
        digest = self._under_way.pop(tag, None)
        if digest is None:
            return
        size = _size(answer)
        if size <= SHORT_BYTES:
            self._short.keep(tag, digest, answer, size)
        elif size <= MAX_REMEMBERED_BYTES:
            self._long.keep(tag, digest, answer, size)


def _size(answer: Sequence[bytes]) -> int:
    return sum(map(len, answer))
