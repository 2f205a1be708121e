"""
How fast a path carries packets: what every controller of congestion works with.

The rate is measured at each acknowledgement, between two states of the connection,
as draft-cheng-iccrg-delivery-rate-estimation says: what arrived, over the time in
which it was sent or the time in which it was acknowledged, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen


@frozen
class Departure:
    """
    When packets left, and what was known then.

    Attributes:
        time_s: when.
        delivered_bytes: what had arrived in all.
        delivered_s: when the last of that was heard of.
        first_sent_s: when the newest packet of that had left.
        is_limited: there was less to send than the path would have carried.
    """

    time_s: float
    delivered_bytes: int
    delivered_s: float
    first_sent_s: float
    is_limited: bool


class Carried(Protocol):
    """Packets that have arrived."""

    @property
    def wire_bytes(self) -> int:
        """Of their datagrams."""

    @property
    def departure(self) -> Departure:
        """When they left."""


@frozen
class Sample:
    """
    What an acknowledgement has told.

    Attributes:
        arrived_bytes: newly.
        delivered_bytes: in all, now.
        sent_at_bytes: in all, when the newest of them left.
        interval_s: in which the difference arrived.
        rtt_s: of the newest of them.
        in_flight_bytes: now.
        is_limited: the rate says what there was to send, not what can be sent.
    """

    arrived_bytes: int
    delivered_bytes: int
    sent_at_bytes: int
    interval_s: float
    rtt_s: float
    in_flight_bytes: int
    is_limited: bool

    @property
    def rate(self) -> float:
        """Bytes a second; 0 where nothing can be said."""
        if self.interval_s <= 0:
            return 0.0
        return (self.delivered_bytes - self.sent_at_bytes) / self.interval_s


class DeliveryRate:
    """Measures at what rate packets arrive."""

    def __init__(self) -> None:
        self._delivered_bytes = 0
        self._delivered_s = 0.0
        self._first_sent_s = 0.0
        self._limited_until = -1

    def departing(self, now: float, in_flight_bytes: int) -> Departure:
        """Say what is known as packets leave."""
        if not in_flight_bytes:
            self._first_sent_s = self._delivered_s = now
        return Departure(
            now,
            self._delivered_bytes,
            self._delivered_s,
            self._first_sent_s,
            self._delivered_bytes <= self._limited_until,
        )

    def limited(self, in_flight_bytes: int) -> None:
        """Note that there is nothing to send, though there could be more."""
        self._limited_until = self._delivered_bytes + in_flight_bytes

    def arrived(
        self, runs: Sequence[Carried], rtt_s: float, in_flight_bytes: int, now: float
    ) -> Sample:
        """
        Take note of what has arrived.

        Args:
            runs: at least one, the oldest first.
            rtt_s: of the newest.
            in_flight_bytes: of what is still under way.
            now: seconds.
        """
        arrived_bytes = sum([run.wire_bytes for run in runs])
        newest = runs[-1].departure
        self._delivered_bytes += arrived_bytes
        self._delivered_s = now
        self._first_sent_s = newest.time_s
        interval_s = max(newest.time_s - newest.first_sent_s, now - newest.delivered_s)
        return Sample(
            arrived_bytes,
            self._delivered_bytes,
            newest.delivered_bytes,
            interval_s,
            rtt_s,
            in_flight_bytes,
            newest.is_limited,
        )


class Controller(Protocol):
    """
    Decides how much may be under way, and how fast it leaves.

    Attributes:
        rate: bytes a second.
        window_bytes: of datagrams that may be under way.
    """

    @property
    def rate(self) -> float:
        """Bytes a second to send at."""

    @property
    def window_bytes(self) -> float:
        """What may be under way."""

    def arrived(self, sample: Sample, now: float) -> None:
        """Take note of an acknowledgement that told something new."""

    def lost(self, size: int) -> None:
        """Take note that so many bytes were lost (fewer, if negative)."""
