"""What is under way, and what counts as lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.congestion import Departure
from securerecv.wire.lanepackets import OVERHEAD_BYTES, Kind
from securerecv.wire.lossdetection import LossDetection, Run
from securerecv.wire.roundtrip import RoundTrip

NOW = 1000.0
PIECE_BYTES = 100


def run(first: int, end: int, time_s: float = NOW) -> Run:
    """Make packets that leave together."""
    departure = Departure(time_s, 0, 0.0, 0.0, False)
    size = (end - first) * PIECE_BYTES
    offset = first * PIECE_BYTES
    return Run(first, end, Kind.DATA, offset, PIECE_BYTES, size, departure)


def numbers(runs: list[Run]) -> list[int]:
    """Give the numbers of packets, and see that the file's bytes go with them."""
    for one in runs:
        assert one.offset == one.first * PIECE_BYTES
        assert one.size == (one.end - one.first) * PIECE_BYTES
    return [number for one in runs for number in range(one.first, one.end)]


def ranges_of(came: set[int]) -> list[tuple[int, int]]:
    """Give numbers as ranges, the newest first."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(came):
        if ranges and ranges[-1][1] == number:
            ranges[-1] = ranges[-1][0], number + 1
        else:
            ranges.append((number, number + 1))
    return ranges[::-1]


class LossTests(SynchronousTestCase):
    """Every packet arrives or is lost, once."""

    def setUp(self) -> None:
        """Know a round trip of 20 ms."""
        self.losses = make()

    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=12),
        st.lists(st.sets(st.integers(0, 60)), max_size=8),
    )
    def test_each_once(self, lengths: list[int], acks: list[set[int]]) -> None:
        """Whatever is acknowledged in whatever order, no packet counts twice."""
        losses = make()
        count = 0
        for length in lengths:
            losses.sent(run(count, count + length))
            count += length
        came: set[int] = set()
        arrived: list[int] = []
        lost: list[int] = []
        for ack in acks:
            came |= {number for number in ack if number < count}
            arrived += numbers(losses.acknowledged(ranges_of(came), NOW + 0.02).runs)
            lost += numbers(losses.lost(NOW + 0.02))
        left = numbers(losses.forget())
        assert sorted(arrived + lost + left) == list(range(count))
        assert set(arrived) == came - set(lost)
        assert losses.in_flight_bytes == 0

    def test_packet_threshold(self) -> None:
        """Three later ones, and a packet is lost; two, and it is not."""
        self.losses.sent(run(0, 10))
        self.losses.acknowledged([(1, 3)], NOW + 0.02)
        self.assertEqual(self.losses.lost(NOW + 0.02), [])
        self.losses.acknowledged([(1, 4)], NOW + 0.02)
        self.assertEqual(numbers(self.losses.lost(NOW + 0.02)), [0])
        packet_bytes = PIECE_BYTES + OVERHEAD_BYTES
        self.assertEqual(self.losses.in_flight_bytes, 6 * packet_bytes)

    def test_time_threshold(self) -> None:
        """One later packet, and a little more than a round trip, do as well."""
        self.losses.sent(run(0, 1))
        self.losses.sent(run(1, 2))
        self.losses.acknowledged([(1, 2)], NOW + 0.02)
        when = self.losses.next_loss_s()
        self.assertAlmostEqual(when, NOW + 0.02 * 9 / 8)
        self.assertEqual(self.losses.lost(when - 0.0001), [])
        self.assertEqual(numbers(self.losses.lost(when + 0.0001)), [0])

    def test_nothing_later(self) -> None:
        """By time alone nothing is lost: that is what probes are for."""
        self.losses.sent(run(0, 5))
        self.assertEqual(self.losses.lost(NOW + 100), [])
        self.assertEqual(self.losses.next_loss_s(), float("inf"))

    def test_learns(self) -> None:
        """After a packet that arrived late, others may be as late."""
        self.losses.sent(run(0, 60))
        self.losses.acknowledged([(1, 30)], NOW + 0.02)
        self.assertEqual(numbers(self.losses.lost(NOW + 0.02)), [0])
        arrivals = self.losses.acknowledged([(0, 30)], NOW + 0.021)
        self.assertEqual(arrivals.spurious_packets, 1)
        self.assertEqual(arrivals.runs, [])
        self.losses.acknowledged([(31, 60), (0, 30)], NOW + 0.022)
        self.assertEqual(self.losses.lost(NOW + 0.022), [])

    def test_late_ones(self) -> None:
        """Each that comes late counts once, whatever else is missing still."""
        self.losses.sent(run(0, 60))
        came = [(30, 60), (10, 20)]
        self.losses.acknowledged(came, NOW + 0.02)
        self.assertEqual(len(numbers(self.losses.lost(NOW + 0.02))), 20)
        for late, spurious in (((0, 10), 10), ((20, 30), 10)):
            came = sorted([*came, late], reverse=True)
            arrivals = self.losses.acknowledged(came, NOW + 0.021)
            self.assertEqual(arrivals.spurious_packets, spurious)
            arrivals = self.losses.acknowledged(came, NOW + 0.022)
            self.assertEqual(arrivals.spurious_packets, 0)

    def test_is_told_of_the_largest(self) -> None:
        """Only the first word about the largest packet measures the time it took."""
        self.losses.sent(run(0, 5))
        self.assertTrue(self.losses.acknowledged([(2, 5)], NOW).largest_is_new)
        self.assertFalse(self.losses.acknowledged([(0, 5)], NOW).largest_is_new)


def make() -> LossDetection:
    """Make one that knows a round trip of 20 ms."""
    round_trip = RoundTrip()
    round_trip.sample(0.02, 0.0)
    return LossDetection(round_trip)


class RoundTripTests(SynchronousTestCase):
    """RFC 9002 section 5."""

    def test_waiting_is_not_travelling(self) -> None:
        """What the other end waited is taken off, as far as that can be."""
        round_trip = RoundTrip()
        round_trip.sample(0.02, 0.005)
        self.assertEqual(round_trip.latest_s, 0.02)
        round_trip.sample(0.024, 0.003)
        self.assertAlmostEqual(round_trip.latest_s, 0.021)
        round_trip.sample(0.022, 0.005)
        self.assertAlmostEqual(round_trip.latest_s, 0.02)
        round_trip.sample(0.060, 10.0)
        self.assertAlmostEqual(round_trip.latest_s, 0.055)

    def test_probe_timeout(self) -> None:
        """It follows what was measured, and is a second before that."""
        round_trip = RoundTrip()
        self.assertAlmostEqual(round_trip.probe_timeout_s(), 1.0, places=2)
        for _ in range(100):
            round_trip.sample(0.02, 0.0)
        self.assertAlmostEqual(round_trip.probe_timeout_s(), 0.026)
