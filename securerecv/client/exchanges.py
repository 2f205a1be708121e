"""
Requests that are under way where datagrams get lost.

An `Exchanges` has no socket and no clock: it says what to send and when, and is
told the time and what came.  Each request has a tag of its own, so that one
that is sent again is answered again and not carried out again.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from attrs import define, field
from twisted.internet.defer import Deferred

from securerecv.client.errors import DisconnectedError
from securerecv.errors import PeerError
from securerecv.wire.heardrecord import Heard
from securerecv.wire.lines import Answer
from securerecv.wire.replies import NotUnderstoodError, error_of

FIRST_WAIT_S = 0.3
MAX_WAIT_S = 8.0
"""Until a request is sent again: the first time, and at the most."""

JITTER = 0.25
"""So much shorter or longer a wait may be, so that many clients spread out."""

MAX_UNDER_WAY = 16
"""
Requests that are sent, from the oldest without an answer on; others wait for their
turn.  So the server has not forgotten what it answered when one is sent again.
"""

MAX_HEARD_LINES = 16384
"""Of one answer: the server is not trusted with this end's memory."""

_MESSAGES = ("SAY", "SEND")

_COUNTED = {"LAST": "MSG", "FILES": "FILE", "TOKEN": "TOKEN"}
"""By verb: which lines the ``<n>`` of ``+OK <n> …`` counts."""

_SINGLE = {"READ": "MSG", "NOTICE": "NOTICE", "GET": "LANE"}
"""By verb: of which lines there is one before ``+OK``."""


@define(eq=False)
class Exchange:
    """
    One request and its answer.

    Attributes:
        tag: with its ``#``.
        verb: in capitals.
        record: what is sent.
        patience_s: how long it may take, from the first time it is sent.
        answer: fires when its turn has come and the answer is whole.
        begin: called once with the words of the first of two answers, as to
            ``PUT``; the second is the answer then.
    """

    tag: str
    verb: str
    record: bytes = field(repr=False)
    patience_s: float
    answer: "Deferred[Answer]" = field(factory=Deferred)
    begin: Callable[[str], None] | None = None
    give_up_at: float = 0.0
    send_at: float = 0.0
    wait_s: float = FIRST_WAIT_S
    _lines: dict[str, bytes | None] = field(factory=dict)
    _followers: dict[str | None, str] = field(factory=dict)
    _previous: str | None = None
    _last_line: Heard | None = None

    def take(self, heard: Heard) -> Answer | PeerError | None:
        """
        Take one line of the answer.

        Records may be lost and overtake each other; when the request is sent
        again, its answer comes again, so what is there is kept.

        Returns:
            The answer when it is whole.
        """
        if heard.mark != "*":
            self._last_line = heard
            self._previous = None
        elif len(self._lines) < MAX_HEARD_LINES:
            self._keep(heard)
        last = self._last_line
        if last is None or self._is_first_of_two(last):
            return None
        if last.mark == "-ERR":
            return error_of(last.text)
        wanted = self._wanted(last.text)
        if wanted is None:
            return Answer(last.text, tuple(self._in_order()))
        kind, number = wanted
        heard_number = sum(text.startswith(kind) for text in self._lines)
        if heard_number > number:
            # Two answers that differ, since the first was too long to be kept.
            self._lines.clear()
            self._followers.clear()
            self._last_line = None
            return None
        if heard_number < number:
            return None
        return Answer(last.text, tuple(sorted(self._in_order(), key=_moment)))

    def _keep(self, heard: Heard) -> None:
        """Keep a line, and behind which one it came."""
        text = heard.text
        if text not in self._lines:
            follower = self._followers.get(self._previous)
            if follower is not None:
                self._followers[text] = follower
            self._followers[self._previous] = text
        self._lines[text] = heard.payload
        self._previous = text

    def _in_order(self) -> Iterator[tuple[str, bytes | None]]:
        """Give the lines: one that was lost at first stands where it came then."""
        text: str | None = None
        while text in self._followers:
            text = self._followers[text]
            yield text, self._lines[text]

    def _is_first_of_two(self, last: Heard) -> bool:
        if self.verb != "PUT" or last.mark != "+OK" or not last.text.startswith("go "):
            return False
        self._last_line = None
        begin, self.begin = self.begin, None
        if begin is not None:
            begin(last.text)
        return True

    def _wanted(self, words: str) -> tuple[str, int] | None:
        """Give the beginning of the lines that must be there, and how many."""
        if self.verb in _SINGLE:
            return f"{_SINGLE[self.verb]} ", 1
        number, _, rest = words.partition(" ")
        if self.verb not in _COUNTED or not rest:
            return None
        if not (number.isascii() and number.isdecimal()):
            raise NotUnderstoodError("the server does not count its answer")
        return f"{_COUNTED[self.verb]} ", int(number)


def _moment(line: tuple[str, bytes | None]) -> str:
    """Sort messages by time, since their records may have overtaken each other."""
    text, _ = line
    return text.split(" ")[3] if text.startswith("MSG ") else ""


class Exchanges:
    """
    All requests of one conversation.

    Messages may be under way together, and then arrive in any order.  Every
    other request waits until all before it are answered, and those behind it
    wait for it: what it changes would otherwise be changed too late for them.

    Args:
        random: gives numbers from 0 to 1, for the jitter.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._numbers = count(1)
        self._waiting: deque[Exchange] = deque()
        self._sent: deque[Exchange] = deque()
        self._results: dict[str, Answer | PeerError] = {}

    def next_tag(self) -> str:
        """Give a tag that was not used yet."""
        return f"#{next(self._numbers)}"

    def add(self, exchange: Exchange) -> None:
        """Take a request; `to_send` says when."""
        self._waiting.append(exchange)

    def to_send(self, now: float) -> list[bytes]:
        """
        Give the records that are to be sent now.

        Raises:
            DisconnectedError: a request is not answered for too long.
        """
        while self._waiting and self._is_free(self._waiting[0]):
            exchange = self._waiting.popleft()
            exchange.send_at = now
            exchange.give_up_at = now + exchange.patience_s
            self._sent.append(exchange)
        records = []
        for exchange in self._unanswered():
            if now >= exchange.give_up_at:
                raise DisconnectedError(
                    f"the server did not answer within {exchange.patience_s:.0f}"
                    " seconds"
                )
            if now >= exchange.send_at:
                jitter = 1 + JITTER * (2 * self._random() - 1)
                exchange.send_at = now + exchange.wait_s * jitter
                exchange.wait_s = min(2 * exchange.wait_s, MAX_WAIT_S)
                records.append(exchange.record)
        return records

    def _is_free(self, exchange: Exchange) -> bool:
        """Tell whether a request may be sent while others are under way."""
        if not self._sent:
            return True
        verbs = {sent.verb for sent in self._sent} | {exchange.verb}
        return len(self._sent) < MAX_UNDER_WAY and verbs.issubset(_MESSAGES)

    def _unanswered(self) -> list[Exchange]:
        return [sent for sent in self._sent if sent.tag not in self._results]

    def be_patient(self, exchange: Exchange, now: float) -> None:
        """Give the server as much time again: what it is to answer is moving."""
        exchange.give_up_at = now + exchange.patience_s

    def ask_again(self, exchange: Exchange, now: float) -> None:
        """Ask soon whether there is an answer by now."""
        exchange.wait_s = FIRST_WAIT_S
        exchange.send_at = now + FIRST_WAIT_S

    def next_time(self) -> float | None:
        """Tell when `to_send` is to be asked again."""
        times = [min(e.send_at, e.give_up_at) for e in self._unanswered()]
        return min(times, default=None)

    def take(self, heard: Heard) -> None:
        """
        Take a tagged line; what is to no request that is under way is ignored.

        Answers fire in the order of the requests.

        Raises:
            NotUnderstoodError: the server's fault.
        """
        for exchange in self._unanswered():
            if exchange.tag == heard.tag:
                result = exchange.take(heard)
                if result is not None:
                    self._results[exchange.tag] = result
        while self._sent and self._sent[0].tag in self._results:
            exchange = self._sent.popleft()
            result = self._results.pop(exchange.tag)
            if isinstance(result, Answer):
                exchange.answer.callback(result)
            else:
                exchange.answer.errback(result)

    @property
    def is_leaving(self) -> bool:
        """Whether ``QUIT`` was sent: silence answers it as well as words."""
        return any(exchange.verb == "QUIT" for exchange in self._sent)

    def end(self, reason: Exception) -> None:
        """Tell everybody who waits that there will be no answer."""
        sent, waiting = list(self._sent), list(self._waiting)
        self._sent.clear()
        self._waiting.clear()
        for exchange in [*sent, *waiting]:
            if exchange.verb == "QUIT" and exchange in sent:
                exchange.answer.callback(Answer())
            else:
                exchange.answer.errback(reason)
