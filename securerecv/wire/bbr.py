"""
Congestion control in the manner of BBR.

Cardwell et al., draft-ietf-ccwg-bbr: what the path carries (the largest rate that
was measured lately) and how long it is (the smallest round trip lately) are what
counts; losses say nothing by themselves, since paths lose packets that are not
full.  Only when a great part of a round is lost is the path taken to carry less.
"""

from __future__ import annotations

from enum import Enum

from securerecv.wire.congestion import Sample
from securerecv.wire.lanepackets import BASE_DATAGRAM_BYTES, MAX_ACK_DELAY_S

INITIAL_WINDOW_BYTES = 10 * BASE_DATAGRAM_BYTES
"""RFC 9002 section 7.2."""

INITIAL_PERIOD_S = 0.001
"""In which the first of it may leave."""

MIN_WINDOW_PACKETS = 4

STARTUP_GAIN = 2.77
DRAIN_GAIN = 0.35
WINDOW_GAIN = 2.0
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Probing for more, making up for it, and cruising."""

MIN_PHASE_S = 2 * MAX_ACK_DELAY_S
"""On very short paths less would be over before anything is heard of it."""

GROWTH = 1.25
ROUNDS_WITHOUT_GROWTH = 3
"""So many rounds without it, and the path is full."""

STARTUP_LOSS_CEILING = 0.2
"""Of a round without growth: then the path is full."""

LOSS_CEILING = 0.5
"""
Of any round: then the path is taken to carry what it carried in this one.

A low ceiling would be unjust.  Where two share a full queue, the one with less loses
a greater part of what it sends, so it is the one that would give way.
"""

MIN_RTT_WINDOW_S = 5.0
PROBE_RTT_S = 0.2
PROBE_RTT_GAIN = 0.5

LEAST_SLACK_BYTES = 10 * BASE_DATAGRAM_BYTES
"""The same for everybody, so that whoever has little of a full path gets more."""

PACING_MARGIN = 0.99
"""A little less than the path carries, so that queues run empty."""

QUANTUM_S = 0.001
MAX_QUANTUM_BYTES = 65_536
QUANTA = 3
"""How much leaves at once, and how many such bursts are under way beyond the path:
one on each end, and one in a queue on the way."""


class _Phase(Enum):
    STARTUP = "startup"
    DRAIN = "drain"
    PROBE_BW = "probe-bw"
    PROBE_RTT = "probe-rtt"


class Bbr:
    """
    See `securerecv.wire.congestion.Controller`.

    Args:
        spread: any number; senders with different ones probe at different times.
    """

    def __init__(self, spread: int) -> None:
        self._spread = spread
        self._phase = _Phase.STARTUP
        self._phase_began = 0.0
        self._at = 0
        self._rates = [0.0, 0.0]
        self._min_rtt_s = float("inf")
        self._min_rtt_at = 0.0
        self._round_ends_at = 0
        self._round_rate = 0.0
        self._round_arrived = self._round_lost = 0
        self._best_rate = 0.0
        self._rounds_without_growth = 0
        self._is_full = False
        self.rate = INITIAL_WINDOW_BYTES / INITIAL_PERIOD_S
        self.window_bytes: float = INITIAL_WINDOW_BYTES

    @property
    def bandwidth(self) -> float:
        """Bytes a second that the path carries; 0 when nothing is known."""
        return max(self._rates)

    def lost(self, size: int) -> None:
        """See `securerecv.wire.congestion.Controller`."""
        self._round_lost = max(0, self._round_lost + size)

    def arrived(self, sample: Sample, now: float) -> None:
        """See `securerecv.wire.congestion.Controller`."""
        self._measure_path(sample, now)
        self._round_arrived += sample.arrived_bytes
        if sample.sent_at_bytes >= self._round_ends_at:
            self._round_ends_at = sample.delivered_bytes
            self._end_round(sample)
        self._measure_rate(sample)
        self._change_phase(sample, now)
        self._decide()

    # -- what the path is like --------------------------------------------------

    def _measure_path(self, sample: Sample, now: float) -> None:
        is_old = now > self._min_rtt_at + MIN_RTT_WINDOW_S
        if sample.rtt_s <= self._min_rtt_s:
            self._min_rtt_s = sample.rtt_s
            self._min_rtt_at = now
        elif is_old and self._phase is _Phase.PROBE_BW:
            self._phase = _Phase.PROBE_RTT
            self._phase_began = now
            self._min_rtt_s = sample.rtt_s
            self._min_rtt_at = now

    def _measure_rate(self, sample: Sample) -> None:
        # Where less than a round trip is measured, the rate says how
        # acknowledgements are bunched.
        if sample.interval_s < self._min_rtt_s:
            return
        rate = sample.rate
        self._round_rate = max(self._round_rate, rate)
        if not sample.is_limited or rate > self.bandwidth:
            self._rates[0] = max(self._rates[0], rate)

    def _end_round(self, sample: Sample) -> None:
        total = self._round_arrived + self._round_lost
        loss = self._round_lost / total
        if self._round_lost < MIN_WINDOW_PACKETS * BASE_DATAGRAM_BYTES:
            loss = 0.0
        if not self._is_full:
            self._look_for_end_of_growth(sample, loss)
        elif loss > LOSS_CEILING and self._round_rate:
            self._rates = [self._round_rate, 0.0]
        self._round_arrived = self._round_lost = 0
        self._round_rate = 0.0

    def _look_for_end_of_growth(self, sample: Sample, loss: float) -> None:
        if self.bandwidth >= GROWTH * self._best_rate:
            self._best_rate = self.bandwidth
            self._rounds_without_growth = 0
        elif loss > STARTUP_LOSS_CEILING:
            self._is_full = True
        elif not sample.is_limited:
            self._rounds_without_growth += 1
            self._is_full = self._rounds_without_growth >= ROUNDS_WITHOUT_GROWTH

    # -- what follows from it ---------------------------------------------------

    def _change_phase(self, sample: Sample, now: float) -> None:
        elapsed_s = now - self._phase_began
        capacity = self.bandwidth * self._min_rtt_s
        if self._phase is _Phase.STARTUP:
            if self._is_full:
                self._phase = _Phase.DRAIN
        elif self._phase is _Phase.DRAIN:
            if sample.in_flight_bytes <= capacity:
                # Not with probing, which comes when others have drained too.
                self._begin_cycle(2 + self._spread % (len(CYCLE) - 2), now)
        elif self._phase is _Phase.PROBE_RTT:
            if elapsed_s > PROBE_RTT_S + self._min_rtt_s:
                self._min_rtt_at = now
                self._begin_cycle(2 + self._spread % (len(CYCLE) - 2), now)
        elif elapsed_s > max(self._min_rtt_s, MIN_PHASE_S):
            self._begin_cycle((self._at + 1) % len(CYCLE), now)
        elif CYCLE[self._at] < 1 and sample.in_flight_bytes <= capacity:
            self._begin_cycle(self._at + 1, now)

    def _begin_cycle(self, at: int, now: float) -> None:
        self._phase = _Phase.PROBE_BW
        self._phase_began = now
        self._at = at
        if at == 0 and self._rates[0]:
            # What was measured in this cycle and in the one before is what counts.
            self._rates = [0.0, self._rates[0]]

    def _decide(self) -> None:
        bandwidth = self.bandwidth
        if not bandwidth:
            return
        gain = {
            _Phase.STARTUP: STARTUP_GAIN,
            _Phase.DRAIN: DRAIN_GAIN,
            _Phase.PROBE_BW: CYCLE[self._at],
            _Phase.PROBE_RTT: 1.0,
        }[self._phase]
        rate = gain * bandwidth * PACING_MARGIN
        if self._is_full or rate > self.rate:
            self.rate = rate
        quantum = min(bandwidth * QUANTUM_S, MAX_QUANTUM_BYTES)
        slack = QUANTA * quantum + bandwidth * MAX_ACK_DELAY_S + LEAST_SLACK_BYTES
        window_gain = WINDOW_GAIN
        if self._phase is _Phase.PROBE_RTT:
            window_gain = PROBE_RTT_GAIN
            slack = 0.0
        elif not self._is_full:
            window_gain = STARTUP_GAIN
        least = MIN_WINDOW_PACKETS * BASE_DATAGRAM_BYTES
        window = window_gain * bandwidth * self._min_rtt_s + slack
        if not self._is_full:
            window = max(window, self.window_bytes)
        self.window_bytes = max(window, least)
