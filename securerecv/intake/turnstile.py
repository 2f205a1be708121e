"""Counting what is under way at once, in all and for one address."""

from collections import Counter

from securerecv.errors import ErrorCode, PeerError


class Turnstile:
    """
    Lets so many in at once.

    Args:
        total: of all addresses.
        for_one: of one address.
        what: what is counted, in words for a peer.
    """

    def __init__(self, total: int, for_one: int, what: str) -> None:
        self._total = total
        self._for_one = for_one
        self._what = what
        self._inside: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """
        Count one more.

        Raises:
            PeerError: ``busy``; there are too many.
        """
        if self._inside.total() >= self._total:
            words = f"too many {self._what} are under way; try again in a while"
            raise PeerError(ErrorCode.BUSY, words)
        if self._inside[address] >= self._for_one:
            words = f"{self._for_one} {self._what} of yours are under way already"
            raise PeerError(ErrorCode.BUSY, words)
        self._inside[address] += 1

    def leave(self, address: str) -> None:
        """Count one less."""
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]
