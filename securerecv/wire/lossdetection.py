"""
What is under way, what has arrived and what is lost: RFC 9002 section 6.

Packets are kept in runs rather than one by one: those that left together, with
successive numbers and equal sizes, so that an acknowledgement of many costs little
more than that of one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence

from attrs import define, field

from securerecv.wire.congestion import Departure
from securerecv.wire.lanepackets import OVERHEAD_BYTES, Kind
from securerecv.wire.roundtrip import GRANULARITY_S, RoundTrip

PACKET_THRESHOLD = 3
MAX_PACKET_THRESHOLD = 1000
TIME_THRESHOLD = 9 / 8
MAX_TIME_THRESHOLD = 2.0
MAX_RECENTLY_LOST = 256


@define(eq=False)
class Run:
    """
    Packets that left together, of the same kind and size; the last may be shorter.

    Attributes:
        first: the number of the first packet.
        end: one behind that of the last.
        kind: DATA or PROBE.
        offset: where in the file the first packet's piece belongs.
        piece_bytes: of the file in each packet but the last.
        size: bytes of the file in all; of a probe, its padding.
        departure: when they left, and what was known then.
    """

    first: int
    end: int
    kind: Kind
    offset: int
    piece_bytes: int
    size: int
    departure: Departure

    @property
    def wire_bytes(self) -> int:
        """Of their datagrams together."""
        return self.size + OVERHEAD_BYTES * (self.end - self.first)

    def cut(self, number: int) -> Run:
        """Take off the packets before a number, and give them."""
        size = (number - self.first) * self.piece_bytes
        head = Run(
            self.first,
            number,
            self.kind,
            self.offset,
            self.piece_bytes,
            size,
            self.departure,
        )
        self.first = number
        self.offset += size
        self.size -= size
        return head


@define
class _LostRun:
    first: int
    end: int
    distance: int
    until: float


@define
class Arrivals:
    """
    What an acknowledgement has told.

    Attributes:
        runs: those that it is the first to speak of, oldest first.
        largest_is_new: it is the first to speak of its largest packet.
        spurious_packets: how many of them had been taken for lost.
    """

    runs: list[Run] = field(factory=list)
    largest_is_new: bool = False
    spurious_packets: int = 0


class LossDetection:
    """
    The packets that are under way.

    How far packets may overtake each other before one counts as lost is learnt:
    when one arrives after all, the thresholds grow to what would have let it
    (RFC 9002 section 6.1 allows that, RFC 8985 does it).

    Args:
        round_trip: the estimate that the time threshold goes by.

    Attributes:
        in_flight_bytes: of the datagrams under way.
        largest_acked: the largest number acknowledged; -1 before there is one.
    """

    def __init__(self, round_trip: RoundTrip) -> None:
        self.in_flight_bytes = 0
        self.largest_acked = -1
        self._round_trip = round_trip
        self._runs: list[Run] = []
        self._recently_lost: deque[_LostRun] = deque()
        self._told: frozenset[tuple[int, int]] = frozenset()
        self._packet_threshold = PACKET_THRESHOLD
        self._time_threshold = TIME_THRESHOLD

    def sent(self, run: Run) -> None:
        """Note what left; numbers only rise."""
        self._runs.append(run)
        self.in_flight_bytes += run.wire_bytes

    @property
    def oldest(self) -> Run | None:
        """What has been under way for longest."""
        return self._runs[0] if self._runs else None

    @property
    def last_sent_s(self) -> float:
        """When the newest of what is under way left; there must be some."""
        return self._runs[-1].departure.time_s

    def acknowledged(self, ranges: Sequence[tuple[int, int]], now: float) -> Arrivals:
        """
        Take the ranges of an acknowledgement, the newest first.

        Numbers that are not under way are passed over: they are known already, or
        belong to packets that ask for no acknowledgement.
        """
        arrivals = Arrivals()
        # Nearly all ranges are the same as last time.
        fresh = [one for one in ranges if one not in self._told]
        self._told = frozenset(ranges)
        if not fresh:
            return arrivals
        while self._recently_lost and self._recently_lost[0].until < now:
            self._recently_lost.popleft()
        self._look_for_spurious(fresh, arrivals)
        self._walk(reversed(fresh), arrivals.runs)
        if arrivals.runs:
            last = arrivals.runs[-1].end
            arrivals.largest_is_new = last == ranges[0][1]
            self.largest_acked = max(self.largest_acked, last - 1)
            self.in_flight_bytes -= sum([run.wire_bytes for run in arrivals.runs])
        return arrivals

    def _walk(self, ranges: Iterable[tuple[int, int]], arrived: list[Run]) -> None:
        """Go through ranges, the oldest first, and the runs beside them."""
        runs = self._runs
        kept: list[Run] = []
        at = 0
        count = len(runs)
        for first, end in ranges:
            while at < count and runs[at].end <= first:
                kept.append(runs[at])
                at += 1
            while at < count and runs[at].first < end:
                run = runs[at]
                if run.first < first:
                    kept.append(run.cut(first))
                if run.end > end:
                    arrived.append(run.cut(end))
                    break
                arrived.append(run)
                at += 1
        runs[:at] = kept

    def _look_for_spurious(
        self, ranges: Sequence[tuple[int, int]], arrivals: Arrivals
    ) -> None:
        oldest = ranges[-1][0]
        ends = [end for _, end in reversed(ranges)]
        firsts = [first for first, _ in reversed(ranges)]
        came: list[_LostRun] = []
        for lost in reversed(self._recently_lost):
            if lost.end <= oldest:
                break
            at = bisect_left(ends, lost.first + 1)
            if at < len(ends) and firsts[at] < lost.end:
                came.append(lost)
        for lost in came:
            self._recently_lost.remove(lost)
            arrivals.spurious_packets += lost.end - lost.first
            wanted = min(lost.distance + 1, MAX_PACKET_THRESHOLD)
            self._packet_threshold = max(self._packet_threshold, wanted)
            self._time_threshold = min(self._time_threshold + 1 / 8, MAX_TIME_THRESHOLD)

    def lost(self, now: float) -> list[Run]:
        """Give, once, what counts as lost now."""
        runs = self._runs
        largest = self.largest_acked
        before_number = largest - self._packet_threshold + 1
        before_s = now - self._wait_s()
        lost: list[Run] = []
        at = 0
        while at < len(runs) and runs[at].first < largest:
            run = runs[at]
            if run.end <= before_number or run.departure.time_s <= before_s:
                lost.append(run)
                at += 1
            else:
                if run.first < before_number:
                    lost.append(run.cut(before_number))
                break
        del runs[:at]
        for run in lost:
            self.in_flight_bytes -= run.wire_bytes
            self._remember(run, now)
        return lost

    def _remember(self, run: Run, now: float) -> None:
        until = now + 4 * self._round_trip.smoothed_s
        distance = self.largest_acked - run.first
        self._recently_lost.append(_LostRun(run.first, run.end, distance, until))
        if len(self._recently_lost) > MAX_RECENTLY_LOST:
            self._recently_lost.popleft()

    def next_loss_s(self) -> float:
        """Tell when `lost` will have more to give by time; never is infinite."""
        oldest = self.oldest
        if oldest is None or oldest.first > self.largest_acked:
            return float("inf")
        return oldest.departure.time_s + self._wait_s()

    def _wait_s(self) -> float:
        longest_s = max(self._round_trip.smoothed_s, self._round_trip.latest_s)
        return max(self._time_threshold * longest_s, GRANULARITY_S)

    def forget(self) -> list[Run]:
        """Take everything for lost, and give it."""
        runs, self._runs = self._runs, []
        self.in_flight_bytes = 0
        self._recently_lost.clear()
        return runs
