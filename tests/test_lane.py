"""Files on a lane, between two real ends, over every kind of bad way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.lanepackets import IDLE_TIMEOUT_S, LaneDrop
from securerecv.wire.outgoing import CHUNK_BYTES, READ_AHEAD_BYTES
from tests.lanenet import Lane, Link, Net, lane

MBIT_PER_S = 125_000
SEGMENT_BYTES = 1024 * 1024
PIECE_BYTES = 1232 - 38


class ArrivalTests(SynchronousTestCase):
    """What arrives is what was sent."""

    def send(self, content: bytes, seed: int = 1, **way: float) -> Lane:
        """Send it, and see that it has arrived."""
        net = Net(seed)
        transfer = lane(net, content, **way)
        transfer.start()
        net.run(lambda: transfer.is_done)
        self.assertEqual(bytes(transfer.received), content)
        self.assertTrue(transfer.sender.is_over)
        return transfer

    def test_sizes(self) -> None:
        """Of every size about which somebody could be wrong."""
        for size in (
            0,
            1,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            SEGMENT_BYTES - 1,
            SEGMENT_BYTES,
            SEGMENT_BYTES + 1,
        ):
            content = Net(size).random.randbytes(size)
            self.send(content, delay_s=0.01)
            self.send(content, delay_s=0.01, loss=0.1)

    def test_from_an_offset(self) -> None:
        """A transfer that goes on sends the rest alone."""
        net = Net()
        content = net.random.randbytes(100_000)
        link = Link(net, delay_s=0.01)
        transfer = Lane(net, link, link, content, offset=60_001)
        transfer.start()
        net.run(lambda: transfer.is_done)
        self.assertEqual(bytes(transfer.received), content[60_001:])
        self.assertLess(transfer.there.carried_bytes, 60_000)

    @settings(max_examples=60, deadline=None)
    @given(
        size=st.integers(0, 300_000),
        seed=st.integers(0, 1 << 32),
        loss=st.floats(0, 0.3),
        jitter_s=st.sampled_from([0.0, 0.001, 0.05]),
        doubled=st.sampled_from([0.0, 0.3]),
        spoilt=st.sampled_from([0.0, 0.3]),
        rate=st.sampled_from([1 * MBIT_PER_S, 100 * MBIT_PER_S, float("inf")]),
        window_bytes=st.sampled_from([65_536, 100_001, 1 << 20]),
        longest=st.sampled_from([1232, 1500, 65_507]),
    )
    def test_whatever_the_way_does(
        self,
        size: int,
        seed: int,
        loss: float,
        jitter_s: float,
        doubled: float,
        spoilt: float,
        rate: float,
        window_bytes: int,
        longest: int,
    ) -> None:
        """Losses, delays, copies, forgeries in both directions change nothing."""
        net = Net(seed)
        content = net.random.randbytes(size)

        def link() -> Link:
            return Link(
                net,
                rate=rate,
                delay_s=0.01,
                queue_bytes=50_000,
                loss=loss,
                jitter_s=jitter_s,
                doubled=doubled,
                spoilt=spoilt,
                longest=longest,
            )

        transfer = Lane(net, link(), link(), content, window_bytes=window_bytes)
        transfer.start()
        net.run(lambda: transfer.is_done)
        assert bytes(transfer.received) == content

    def test_lost_acknowledgements(self) -> None:
        """When half of the way back is lost, hardly anything is sent twice."""
        net = Net(5)
        content = net.random.randbytes(2_000_000)
        there = Link(net, rate=100 * MBIT_PER_S, delay_s=0.01)
        back = Link(net, rate=100 * MBIT_PER_S, delay_s=0.01, loss=0.5)
        transfer = Lane(net, there, back, content)
        transfer.start()
        net.run(lambda: transfer.is_done, within_s=4.0)
        self.assertEqual(bytes(transfer.received), content)
        self.assertLess(there.carried_bytes, 2_150_000)

    def test_slow_reader(self) -> None:
        """A reader who is slower than the way holds the sender up, without loss."""
        net = Net(6)
        content = net.random.randbytes(3_000_000)
        link = Link(net, rate=100 * MBIT_PER_S, delay_s=0.01)
        transfer = Lane(
            net, link, link, content, read_rate=500_000, window_bytes=256 * 1024
        )
        transfer.start()
        net.run(lambda: len(transfer.received) > 1_000_000)
        self.assertLess(transfer.sender.arrived, 1_000_000 + 400_000)
        took_s = net.run(lambda: transfer.is_done)
        self.assertLess(took_s, 4.5)
        self.assertEqual(bytes(transfer.received), content)
        self.assertNotIn(LaneDrop.BEYOND, transfer.drops)

    def test_reader_who_stops(self) -> None:
        """A reader who takes nothing for a minute finds the lane alive."""
        net = Net(7)
        content = net.random.randbytes(300_000)
        link = Link(net, delay_s=0.01, loss=0.2)
        transfer = Lane(net, link, link, content, window_bytes=65_536, read_rate=1.0)
        transfer.start()
        reads_again = net.now + 2 * IDLE_TIMEOUT_S
        net.run(lambda: net.now >= reads_again)
        self.assertFalse(transfer.sender.is_over or transfer.receiver.is_over)
        transfer.read_rate = float("inf")
        transfer.reads_from(net.now)
        net.run(lambda: transfer.is_done)
        self.assertEqual(bytes(transfer.received), content)

    def test_little_is_held(self) -> None:
        """A sender holds what is under way and a little more, never the file."""
        net = Net(8)
        content = net.random.randbytes(8_000_000)
        link = Link(net, rate=100 * MBIT_PER_S, delay_s=0.01)
        transfer = Lane(net, link, link, content, window_bytes=512 * 1024)
        transfer.start()
        most = 0
        while not transfer.is_done:
            until = net.now + 0.01
            net.run(lambda until=until: net.now >= until or transfer.is_done)  # type: ignore[misc]  # mypy cannot tell what a lambda's default is
            held = sum(map(len, transfer.sender._file._chunks))
            most = max(most, held)
        self.assertLess(most, 512 * 1024 + READ_AHEAD_BYTES + 2 * CHUNK_BYTES)

    def test_peer_that_vanishes(self) -> None:
        """Both ends give up after the time for that, and not before."""
        net = Net(9)
        transfer = lane(net, bytes(1_000_000), rate=1 * MBIT_PER_S)
        transfer.start()
        net.run(lambda: len(transfer.received) > 100_000)
        transfer.there.lose = transfer.back.lose = lambda _: True
        early = net.now + IDLE_TIMEOUT_S - 1
        net.run(lambda: net.now >= early)
        self.assertFalse(transfer.sender.is_over or transfer.receiver.is_over)
        net.run(
            lambda: transfer.sender.is_over and transfer.receiver.is_over, within_s=3.0
        )

    def test_refused(self) -> None:
        """A receiver who wants no more says so, and the sender stops."""
        net = Net(10)
        transfer = lane(net, bytes(1_000_000), rate=1 * MBIT_PER_S, delay_s=0.01)
        transfer.start()
        net.run(lambda: len(transfer.received) > 100_000)
        transfer.receiver.close()
        transfer.pump()
        net.run(lambda: transfer.sender.is_over, within_s=0.5)
        self.assertFalse(transfer.sender.is_complete)

    def test_outage(self) -> None:
        """After ten seconds without a way the transfer goes on by itself."""
        net = Net(11)
        content = net.random.randbytes(2_000_000)
        transfer = lane(net, content, rate=10 * MBIT_PER_S, delay_s=0.01)
        transfer.start()
        net.run(lambda: len(transfer.received) > 500_000)
        gone_until = net.now + 10
        transfer.there.lose = transfer.back.lose = lambda _: net.now < gone_until
        net.run(lambda: net.now >= gone_until)
        net.run(lambda: transfer.is_done, within_s=6.0)
        self.assertEqual(bytes(transfer.received), content)


class MovingTests(SynchronousTestCase):
    """An end has another address all of a sudden."""

    def half_done(self) -> tuple[Net, Lane]:
        """Begin a transfer, and stop in its middle."""
        net = Net(12)
        content = net.random.randbytes(2_000_000)
        transfer = lane(net, content, rate=100 * MBIT_PER_S, delay_s=0.01)
        transfer.start()
        net.run(lambda: len(transfer.received) > 1_000_000)
        return net, transfer

    def finish(self, net: Net, transfer: Lane) -> None:
        """See that it goes on without much ado, with both ends certain."""
        net.run(lambda: transfer.is_done, within_s=3.0)
        self.assertEqual(bytes(transfer.received), transfer.content)
        self.assertTrue(transfer.receiver.path.is_certain)
        self.assertTrue(transfer.sender.path.is_certain)

    def test_sender_moves(self) -> None:
        """An upload goes on from the new address."""
        net, transfer = self.half_done()
        transfer.sender_address = "elsewhere"
        self.finish(net, transfer)
        self.assertEqual(transfer.receiver.path.address, "elsewhere")

    def test_receiver_moves(self) -> None:
        """A download goes on to the new address, once the receiver has spoken."""
        net, transfer = self.half_done()
        transfer.receiver_address = "elsewhere"
        self.finish(net, transfer)
        self.assertEqual(transfer.sender.path.address, "elsewhere")

    def test_copies_from_elsewhere(self) -> None:
        """Copies that somebody sends from another address do not stop it."""
        net, transfer = self.half_done()

        def copy(datagram: bytes) -> bool:
            if net.random.random() < 0.1:
                transfer.receiver.receive([datagram], "attacker", net.now)
            return False

        transfer.there.lose = copy
        net.run(lambda: transfer.is_done, within_s=5.0)
        self.assertEqual(bytes(transfer.received), transfer.content)


class SizeOfDatagramTests(SynchronousTestCase):
    """The longest datagrams that come through are found, and lost again."""

    def test_found(self) -> None:
        """Nothing longer than the way takes is used, and nothing much shorter."""
        for longest, found in ((1300, 1232), (1472, 1472), (9000, 8952)):
            net = Net(1)
            link = Link(net, rate=1000 * MBIT_PER_S, delay_s=0.01, longest=longest)
            transfer = Lane(net, link, link, bytes(20_000_000))
            transfer.start()
            net.run(lambda transfer=transfer: transfer.is_done, within_s=5.0)  # type: ignore[misc]  # as above
            self.assertEqual(transfer.sender.datagram_bytes, found)

    def test_black_hole(self) -> None:
        """Where long datagrams suddenly vanish, shorter ones take their place."""
        net = Net(2)
        content = net.random.randbytes(20_000_000)
        there = Link(net, rate=100 * MBIT_PER_S, delay_s=0.01, longest=9000)
        back = Link(net, delay_s=0.01)
        transfer = Lane(net, there, back, content)
        transfer.start()
        net.run(lambda: len(transfer.received) > 5_000_000)
        self.assertEqual(transfer.sender.datagram_bytes, 8952)
        there.longest = 1460
        net.run(lambda: transfer.is_done, within_s=4.0)
        self.assertEqual(transfer.sender.datagram_bytes, 1452)
        self.assertEqual(bytes(transfer.received), content)

    def test_too_long_for_this_machine(self) -> None:
        """What the machine itself refuses is not tried again."""
        net = Net(3)
        transfer = lane(net, bytes(1_000_000), rate=100 * MBIT_PER_S, delay_s=0.01)
        transfer.sender.too_long(1472)
        transfer.start()
        net.run(lambda: transfer.is_done)
        self.assertEqual(transfer.sender.datagram_bytes, 1452)
