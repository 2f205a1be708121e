"""How long a packet and its acknowledgement take: RFC 9002 section 5."""

from __future__ import annotations

from securerecv.wire.lanepackets import MAX_ACK_DELAY_S

INITIAL_RTT_S = 0.333
GRANULARITY_S = 0.001


class RoundTrip:
    """
    The estimate.

    Attributes:
        latest_s: the last sample, without what the other end waited.
        smoothed_s: the running mean.
        is_known: there was a sample.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.latest_s = self.smoothed_s = INITIAL_RTT_S
        self._variation_s = INITIAL_RTT_S / 2
        self._least_s = INITIAL_RTT_S
        self.is_known = False

    def sample(self, raw_s: float, delay_s: float) -> None:
        """
        Take a sample.

        Args:
            raw_s: from sending a packet to hearing that it came.
            delay_s: what the other end says that it waited.
        """
        if not self.is_known:
            self.is_known = True
            self.latest_s = self.smoothed_s = self._least_s = raw_s
            self._variation_s = raw_s / 2
            return
        self._least_s = min(self._least_s, raw_s)
        delay_s = min(delay_s, MAX_ACK_DELAY_S)
        # Nobody can have waited so long that less than the least is left.
        self.latest_s = max(raw_s - delay_s, min(raw_s, self._least_s))
        deviation_s = abs(self.smoothed_s - self.latest_s)
        self._variation_s += (deviation_s - self._variation_s) / 4
        self.smoothed_s += (self.latest_s - self.smoothed_s) / 8

    def probe_timeout_s(self) -> float:
        """Give the time after which a silence means something (section 6.2.1)."""
        spread_s = max(4 * self._variation_s, GRANULARITY_S)
        return self.smoothed_s + spread_s + MAX_ACK_DELAY_S
