"""How much public-key work strangers may cause."""

from collections import OrderedDict

from attrs import define

OPENING_COST_S = 0.0005
"""Processor time of one opening: 480 µs were measured."""

MAX_SHARE = 0.2
"""Of one core, for the openings of everybody together."""

MAX_SHARE_PER_ADDRESS = 0.1

BURST_S = 0.25
"""Openings that may come at once after a pause, in processor time."""

BURST_PER_ADDRESS_S = 0.1

HANDSHAKE_COST_S = 0.0005
"""Of a DTLS handshake: 250 µs for its first half were measured."""

HANDSHAKE_SHARE = 0.5
HANDSHAKE_SHARE_PER_ADDRESS = 0.2
"""Of one core; as much as comes in a second may be used at once."""

RESERVED_SHARE = 0.05
RESERVED_SHARE_PER_SENDER = 0.02
RESERVED_BURST_S = 0.05
RESERVED_BURST_PER_SENDER_S = 0.02
"""The same for what strangers cannot use up, see `reserve`."""


@define
class _Bucket:
    """Processor time that may be used: it fills with time, up to the burst."""

    share: float
    burst_s: float
    left_s: float
    at_s: float

    def now(self, now_s: float) -> float:
        """Processor seconds there are; a clock that is set back adds none."""
        passed_s = max(0.0, now_s - self.at_s)
        return min(self.burst_s, self.left_s + passed_s * self.share)

    def spend(self, cost_s: float, now_s: float) -> None:
        self.left_s = self.now(now_s) - cost_s
        self.at_s = now_s


class OpeningBudget:
    """
    Shares out the processor time for openings, to each address and in all.

    For openings of sealed datagrams, and in the same way for DTLS handshakes.

    Addresses of datagrams can be made up, so the limit for one keeps a single
    sender from starving the others, and the limit in all keeps everybody
    together from slowing down the rest of the server.

    An address is remembered from an opening until its bucket must be full again,
    ``burst_per_address_s / share_per_address`` seconds later.  Only openings that
    are granted make one remembered, so there are never more than the limit in all
    grants in that time: with the defaults 1 second, and
    ``(0.25 + 1 * 0.2) / 0.0005`` = 900 addresses.

    Args:
        share: of one core, in all.
        share_per_address: of one core.
        burst_s: processor seconds that may be used at once after a pause.
        burst_per_address_s: the same for one address.
        cost_s: processor seconds charged for one opening.
    """

    def __init__(
        self,
        *,
        share: float = MAX_SHARE,
        share_per_address: float = MAX_SHARE_PER_ADDRESS,
        burst_s: float = BURST_S,
        burst_per_address_s: float = BURST_PER_ADDRESS_S,
        cost_s: float = OPENING_COST_S,
    ) -> None:
        self._cost_s = cost_s
        self._share_per_address = share_per_address
        self._burst_per_address_s = burst_per_address_s
        self._forget_after_s = burst_per_address_s / share_per_address
        self._all = _Bucket(share, burst_s, burst_s, 0.0)
        # Those charged last are last.
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)

    def take(self, address: str, now_s: float) -> bool:
        """Charge one opening; False, and nothing charged, if it must not be done."""
        self._forget_full(now_s)
        bucket = self._addresses.get(address)
        if bucket is None:
            burst_s = self._burst_per_address_s
            bucket = _Bucket(self._share_per_address, burst_s, burst_s, now_s)
        if min(self._all.now(now_s), bucket.now(now_s)) < self._cost_s:
            return False
        self._all.spend(self._cost_s, now_s)
        bucket.spend(self._cost_s, now_s)
        self._addresses[address] = bucket
        self._addresses.move_to_end(address)
        return True

    def _forget_full(self, now_s: float) -> None:
        while self._addresses:
            address, bucket = next(iter(self._addresses.items()))
            if 0 <= now_s - bucket.at_s < self._forget_after_s:
                return
            del self._addresses[address]


def for_handshakes() -> OpeningBudget:
    """Make the budget for DTLS handshakes, of addresses that cookies have proven."""
    return OpeningBudget(
        share=HANDSHAKE_SHARE,
        share_per_address=HANDSHAKE_SHARE_PER_ADDRESS,
        burst_s=HANDSHAKE_SHARE,
        burst_per_address_s=HANDSHAKE_SHARE_PER_ADDRESS,
        cost_s=HANDSHAKE_COST_S,
    )


def reserve() -> OpeningBudget:
    """
    Make the budget of those who are no strangers, by who they are.

    Whoever makes up addresses can use up what everybody shares, since forged
    datagrams cost as much as genuine ones.  They cannot make up what only a
    sender, and whoever sees its datagrams, knows: the id of a token, or an
    ``enc`` under which something was taken.
    """
    return OpeningBudget(
        share=RESERVED_SHARE,
        share_per_address=RESERVED_SHARE_PER_SENDER,
        burst_s=RESERVED_BURST_S,
        burst_per_address_s=RESERVED_BURST_PER_SENDER_S,
    )
