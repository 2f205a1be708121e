"""How much of a link a lane gets, and what it leaves to another: in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.lanenet import Lane, Link, Net

MBIT_PER_S = 125_000


def share_of_link(net: Net, there: Link, size: int) -> float:
    """Send a file; give the part of the link that its bytes took."""
    back = Link(net, delay_s=there.delay_s, loss=there.loss)
    transfer = Lane(net, there, back, bytes(size))
    transfer.start()
    took_s = net.run(lambda: transfer.is_done)
    return size / took_s / there.rate


class ShareTests(SynchronousTestCase):
    """The aims of docs/decisions/0010-congestion.md."""

    def test_random_loss(self) -> None:
        """What gets lost by chance costs little more than itself."""
        for loss, least in ((0.0, 0.85), (0.01, 0.85), (0.05, 0.85), (0.2, 0.6)):
            net = Net(3)
            there = Link(
                net,
                rate=100 * MBIT_PER_S,
                delay_s=0.01,
                queue_bytes=250_000,
                loss=loss,
                longest=1472,
            )
            share = share_of_link(net, there, 15_000_000)
            self.assertGreater(share, least * (1 - loss), loss)

    def test_long_path_with_loss(self) -> None:
        """Bytes that are missing for some round trips do not hold up the others."""
        net = Net(1)
        rate = 800 * MBIT_PER_S
        there = Link(net, rate=rate, delay_s=0.025, queue_bytes=2_000_000, loss=0.05)
        there.longest = 1472
        # The first of 1.2 seconds are for finding out what the path carries.
        self.assertGreater(share_of_link(net, there, 60_000_000), 0.45)

    def test_short_queue(self) -> None:
        """A queue of a fifth of the round trip is enough."""
        net = Net(4)
        rate = 100 * MBIT_PER_S
        there = Link(net, rate=rate, delay_s=0.01, queue_bytes=50_000, longest=1472)
        self.assertGreater(share_of_link(net, there, 15_000_000), 0.85)

    def test_packets_that_overtake(self) -> None:
        """Packets that overtake each other are not taken for lost for long."""
        net = Net(5)
        rate = 100 * MBIT_PER_S
        there = Link(net, rate=rate, delay_s=0.01, jitter_s=0.01, longest=1472)
        self.assertGreater(share_of_link(net, there, 15_000_000), 0.85)

    def test_little_waits(self) -> None:
        """A queue that could hold seconds is not filled with more than a round trip."""
        net = Net(6)
        rate = 10 * MBIT_PER_S
        there = Link(net, rate=rate, delay_s=0.05, longest=1472)
        transfer = Lane(net, there, Link(net, delay_s=0.05), bytes(10_000_000))
        transfer.start()
        began = net.now
        net.run(lambda: net.now > began + 2)
        while not transfer.is_done:
            until = net.now + 0.1
            net.run(lambda until=until: net.now > until or transfer.is_done)  # type: ignore[misc]  # mypy cannot tell what a lambda's default is
            self.assertLess(there.waits_s, 0.15)


class FairnessTests(SynchronousTestCase):
    """Two lanes over one bottleneck."""

    def halves(
        self, queue_bytes: int, loss: float, late_s: float, seed: int, megabits: int
    ) -> float:
        """Give the first one's share, from when they have found each other."""
        net = Net(seed)
        there = Link(
            net,
            rate=megabits * MBIT_PER_S,
            delay_s=0.01,
            queue_bytes=queue_bytes,
            loss=loss,
            longest=1472,
        )
        content = bytes(40 * megabits * MBIT_PER_S)
        transfers = [
            Lane(net, there, Link(net, delay_s=0.01, loss=loss), content, lane_id=name)
            for name in (b"\x00ane-id.", b"\x03ane-id.")
        ]
        transfers[0].start()
        net.later(net.now + late_s, transfers[1].start)
        settled = net.now + late_s + 8
        net.run(lambda: net.now > settled)
        before = [len(transfer.received) for transfer in transfers]
        net.run(lambda: net.now > settled + 8)
        first, second = (
            len(transfer.received) - was
            for transfer, was in zip(transfers, before, strict=True)
        )
        self.assertGreater(first + second, 0.8 * 8 * there.rate * (1 - loss))
        return first / (first + second)

    def test_halves(self) -> None:
        """Each gets a third at least, whoever came first, whatever the queue."""
        for queue_bytes in (10_000, 25_000, 100_000):
            for loss, late_s in ((0.0, 0.0), (0.0, 3.0), (0.02, 3.0)):
                share = self.halves(queue_bytes, loss, late_s, 1, 10)
                self.assertGreater(share, 1 / 3, (queue_bytes, loss, late_s))
                self.assertLess(share, 2 / 3, (queue_bytes, loss, late_s))
