"""
Where the other end of a lane is, and whether that is certain.

Addresses change under a transfer: a telephone leaves a building, an address
translator forgets.  Whoever holds the keys may speak from anywhere; but anybody can
send on a copied packet from an address of their choice, and the holder of the keys
can write somebody else's address on a packet (RFC 9000 section 9).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from securerecv.wire.lanepackets import TOKEN_BYTES

AMPLIFICATION = 3
"""To an address that is not certain go so many bytes for each from there."""

CHALLENGE_EVERY_S = 0.25
VALIDATION_TIMEOUT_S = 2.0
"""From the first packet until an address that does not answer is given up."""


class LanePath:
    """
    The address of the other end.

    The newest packet decides, that is the one with the largest number: a copy
    that comes later than the packet itself changes nothing.  Until whoever is
    there has repeated a random token, it gets at most three times what came from
    there, and if it never does, the last certain address counts again.  That an
    acknowledgement comes from there would prove nothing: packet numbers can be
    guessed, and so a whole file be sent to somebody who did not ask for it.

    Args:
        address: of the other end; certain, because DTLS shook hands with it.
        random_bytes: draws tokens.

    Attributes:
        address: the one that packets go to now.
        changes: how often it has changed.
    """

    def __init__(self, address: Hashable, random_bytes: Callable[[int], bytes]) -> None:
        self.address = address
        self.changes = 0
        self._certain = address
        self._random_bytes = random_bytes
        self._token = b""
        self._allowance = 0
        self._next_challenge = 0.0
        self._give_up = 0.0

    @property
    def is_certain(self) -> bool:
        """Whether somebody with the keys receives at the address."""
        return not self._token

    def heard(
        self, address: Hashable, size: int, now: float, *, is_newest: bool
    ) -> None:
        """
        Take note of where authentic packets came from.

        Args:
            address: of all of them.
            size: their bytes together.
            now: seconds.
            is_newest: one of them has the largest number so far.
        """
        if address != self.address:
            if not is_newest:
                return
            self.address = address
            self.changes += 1
            self._allowance = 0
            self._token = b""
            if address != self._certain:
                self._token = self._random_bytes(TOKEN_BYTES)
                self._next_challenge = now
                self._give_up = now + VALIDATION_TIMEOUT_S
        if self._token:
            self._allowance += AMPLIFICATION * size

    def answered(self, address: Hashable, token: bytes) -> None:
        """Take a response to a challenge."""
        if self._token and token == self._token and address == self.address:
            self._token = b""
            self._certain = address

    def challenge(self, now: float) -> bytes | None:
        """Give the token to ask for now, if one is to be asked for."""
        if not self._token or now < self._next_challenge:
            return None
        self._next_challenge = now + CHALLENGE_EVERY_S
        return self._token

    def take(self, size: int) -> bool:
        """Tell whether so many bytes may be sent there, and count them."""
        if not self._token:
            return True
        if size > self._allowance:
            return False
        self._allowance -= size
        return True

    @property
    def allowance(self) -> float:
        """Bytes that may be sent there now."""
        return self._allowance if self._token else float("inf")

    def deadline(self) -> float:
        """Tell when `expire` is to be called; never is infinite."""
        if not self._token:
            return float("inf")
        return min(self._next_challenge, self._give_up)

    def expire(self, now: float) -> None:
        """Go back to the last certain address if nobody answers at this one."""
        if self._token and now >= self._give_up:
            self._token = b""
            self.address = self._certain
            self.changes += 1
