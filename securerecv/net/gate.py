"""
How many may be connected at once.

When the limit is reached, the newcomer that has been silent for longest gives
way to the next, then the anonymous session that is oldest: connections that
say nothing cannot keep anybody out, and no user is thrown out for them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from securerecv.limits import (
    GOODBYE_S,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_HANDSHAKES,
)
from securerecv.wire.verbs import Standing


class Guest(Protocol):
    """One connection, as the gate sees it."""

    address: str

    def make_way(self) -> None:
        """Hang up, because others want in."""

    def dismiss(self, words: str) -> None:
        """Finish what is being done, say why, and hang up."""

    def abort(self) -> None:
        """Hang up at once."""


class Gate:
    """
    Counts connections and decides who must go.

    Args:
        total: connections at once.
        per_address: of these from one address.
        handshakes: of these still shaking hands.
        handshakes_per_address: of these from one address; what comes beyond
            that does not get in.
    """

    def __init__(
        self,
        total: int = MAX_CONNECTIONS,
        per_address: int = MAX_CONNECTIONS_PER_ADDRESS,
        handshakes: int = MAX_HANDSHAKES,
        handshakes_per_address: int = MAX_HANDSHAKES,
    ) -> None:
        self.total = total
        self._per_address = per_address
        self._handshakes = handshakes
        self._handshakes_per_address = handshakes_per_address
        # Dictionaries for their order: the first has been there for longest.
        self._inside: dict[Guest, None] = {}
        self._shaking_hands: dict[Guest, None] = {}
        self._newcomers: dict[Guest, None] = {}
        self._anonymous: dict[Guest, None] = {}
        self._by_address: Counter[str] = Counter()
        self._shaking_by_address: Counter[str] = Counter()
        self._emptied: Deferred[None] | None = None

    def __len__(self) -> int:
        """Count the connections that are open."""
        return len(self._inside)

    def arrive(self, guest: Guest) -> bool:
        """
        Let somebody in, if need be in place of a silent newcomer.

        Returns:
            False if there is no room; then the guest is not counted.
        """
        if self._shaking_by_address[guest.address] >= self._handshakes_per_address:
            return False
        if len(self._shaking_hands) >= self._handshakes:
            self._make_room(self._shaking_hands)
        if not self._has_room_for(guest.address):
            return False
        if len(self) >= self.total:
            self._make_room(self._who_may_go())
        if len(self) >= self.total:
            return False
        self._by_address[guest.address] += 1
        self._inside[guest] = None
        self._shaking_hands[guest] = None
        self._shaking_by_address[guest.address] += 1
        return True

    def move(self, guest: Guest, address: str) -> bool:
        """
        Count somebody for another address, since a proxy has told it by now.

        Returns:
            False if there is no room for that address; then nothing has changed.
        """
        if address == guest.address:
            return True
        if not self._has_room_for(address):
            return False
        self._by_address[address] += 1
        self._uncount(guest.address)
        guest.address = address
        return True

    def shook_hands(self, guest: Guest) -> None:
        """Note that a handshake has finished."""
        if self._stop_shaking(guest):
            self._newcomers[guest] = None

    def _stop_shaking(self, guest: Guest) -> bool:
        if self._shaking_hands.pop(guest, self) is not None:
            return False
        self._shaking_by_address[guest.address] -= 1
        if not self._shaking_by_address[guest.address]:
            del self._shaking_by_address[guest.address]
        return True

    def came_in(self, guest: Guest, standing: Standing) -> None:
        """
        Note that somebody is no newcomer any more.

        Users are not asked to make way, anonymous sessions only when there
        are no newcomers left.
        """
        if self._newcomers.pop(guest, self) is None and (
            standing is Standing.ANONYMOUS
        ):
            self._anonymous[guest] = None

    def leave(self, guest: Guest) -> None:
        """Note that somebody has gone, or is about to."""
        self._stop_shaking(guest)
        self._newcomers.pop(guest, None)
        self._anonymous.pop(guest, None)
        if self._inside.pop(guest, self) is not None:
            return
        self._uncount(guest.address)
        if self._emptied is not None and not self._inside:
            self._emptied.callback(None)
            self._emptied = None

    def close(self, words: str, clock: IReactorTime) -> "Deferred[None]":
        """
        Send everybody home.

        Args:
            words: why.
            clock: those who have not gone after `GOODBYE_S` are cut off.

        Returns:
            Fires when all have gone.
        """
        if not self._inside:
            return succeed(None)
        emptied = self._emptied = Deferred()
        cut_off = clock.callLater(GOODBYE_S, self._abort)
        for guest in tuple(self._inside):
            guest.dismiss(words)

        def done(_: None) -> None:
            if cut_off.active():
                cut_off.cancel()

        return emptied.addCallback(done)

    def _abort(self) -> None:
        for guest in tuple(self._inside):
            guest.abort()

    def _has_room_for(self, address: str) -> bool:
        """Make room for one more from an address, if need be and if that helps."""
        if self._by_address[address] >= self._per_address:
            self._make_room(
                other for other in self._who_may_go() if other.address == address
            )
        return self._by_address[address] < self._per_address

    def _uncount(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _who_may_go(self) -> Iterator[Guest]:
        return chain(self._shaking_hands, self._newcomers, self._anonymous)

    def _make_room(self, guests: Iterable[Guest]) -> None:
        """Send the first of them home, if there is one."""
        guest = next(iter(guests), None)
        if guest is not None:
            self.leave(guest)
            guest.make_way()
