"""Taking turns: nobody's work waits for all that somebody else has brought."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred


@frozen
class Party:
    """
    Whose work it is.

    Attributes:
        name: parties of one name take turns with all others as if they were one.
        member: and among themselves by this.
    """

    name: str
    member: str = ""


_Work = Callable[[], Any]
_Job = tuple[_Work, "Deferred[Any]"]


class Turns:
    """
    Does work in so many places at once, in turn for those who brought it.

    A place that becomes free goes to a name of which the least is under way, of
    several to the one that has waited longest for its turn.  So a thousand jobs of
    one hold up another by those that are under way and one more.

    Args:
        places: how much is under way at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._under_way: Counter[str] = Counter()
        # Names and members in the order of their turns, while they have jobs.
        self._waiting: dict[str, dict[str, deque[_Job]]] = {}

    def run(self, party: Party, work: _Work) -> "Deferred[Any]":
        """
        Do some work when it is its turn.

        Args:
            party: whose it is; work of one party is begun in its order.
            work: may return a Deferred.

        Returns:
            What the work comes to.
        """
        done: Deferred[Any] = Deferred()
        members = self._waiting.setdefault(party.name, {})
        members.setdefault(party.member, deque()).append((work, done))
        self._go_on()
        return done

    def clear(self) -> None:
        """Forget what was not begun; nobody hears of it."""
        self._waiting.clear()

    def _go_on(self) -> None:
        while self._free and self._waiting:
            # Of several the first.
            name = min(self._waiting, key=self._under_way.__getitem__)
            work, done = self._next(name)
            self._free -= 1
            self._under_way[name] += 1
            doing = maybeDeferred(work).addBoth(self._over, name)
            doing.chainDeferred(done)

    def _next(self, name: str) -> _Job:
        """Take the next job of a name; who has more goes to the end."""
        members = self._waiting.pop(name)
        member = next(iter(members))
        jobs = members.pop(member)
        job = jobs.popleft()
        if jobs:
            members[member] = jobs
        if members:
            self._waiting[name] = members
        return job

    def _over(self, result: Any, name: str) -> Any:
        self._free += 1
        self._under_way[name] -= 1
        if not self._under_way[name]:
            del self._under_way[name]
        self._go_on()
        return result
