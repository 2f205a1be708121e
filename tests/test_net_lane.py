"""What drives one end of a lane, with a clock of the tests."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securerecv.client.incoming import Incoming
from securerecv.client.lanes import ClientLanes
from securerecv.client.outgoing import Outgoing, ignore
from securerecv.errors import MisuseError
from securerecv.limits import (
    LANE_WINDOW_BYTES,
    LEAST_LANE_WINDOW_BYTES,
    MAX_LANE_BYTES,
    MAX_LANES,
    MAX_LANES_PER_ADDRESS,
)
from securerecv.net.lane import PROGRESS_S, ReceivingLane, SendingLane
from securerecv.net.lanes import Lanes
from securerecv.net.outbox import Address
from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import IDLE_TIMEOUT_S
from securerecv.wire.lanereceiver import LaneReceiver
from securerecv.wire.lanesender import LaneSender
from securerecv.wire.reassembly import CHUNK_BYTES
from securerecv.wire.replies import NotUnderstoodError
from tests.lanekit import ACK, CLOSE, DATA, LANE_ID, PROBE, SECRET, Direction, ack_text
from tests.memoryfiles import MemoryDownload, MemoryFiles, MemoryUpload

PEER = ("192.0.2.1", 7)
SIZE = 1_000_000


class Case(SynchronousTestCase):
    """What the cases here have in common."""

    def setUp(self) -> None:
        """Note what happens."""
        self.clock = Clock()
        self.sent: list[bytes] = []
        self.overs: list[Failure | None] = []
        self.completions = 0
        self.data = Direction("data")
        self.acks = Direction("acks")
        self.too_long = 1 << 20

    def send(self, datagrams: Sequence[bytes], address: Address) -> int:
        """Take what is sent."""
        self.assertEqual(address, PEER)
        fits = [one for one in datagrams if len(one) <= self.too_long]
        self.sent += fits
        return len(datagrams) - len(fits)

    def complete(self) -> None:
        """Count."""
        self.completions += 1

    def kinds(self, direction: Direction) -> list[int]:
        """Take the kinds of what was sent."""
        sent, self.sent = self.sent, []
        return [direction.open(packet)[0] for packet in sent]


class Writer:
    """Takes what comes, at once or later."""

    def __init__(self) -> None:
        self.taken = b""
        self.busy: Deferred[None] | None = None
        self.failure: Exception | None = None

    def write(self, data: memoryview) -> Deferred[None] | None:
        """See `securerecv.net.lane.Writer`."""
        if self.failure is not None:
            raise self.failure
        self.taken += data
        return self.busy


class ReceivingCase(Case):
    """A file that comes in."""

    def begin(self, size: int = SIZE) -> ReceivingLane:
        """Begin a lane."""
        self.writer = Writer()
        end = LaneReceiver(LANE_ID, derive(SECRET), 0, size, PEER, 0.0, os.urandom)
        lane = ReceivingLane(
            end, self.clock, self.send, self.overs.append, self.writer, self.complete
        )
        lane.proceed()
        return lane


class ReceivingTests(ReceivingCase):
    """A file that comes in."""

    def test_one_piece_at_a_time(self) -> None:
        """While the writer is busy nothing is written; the lane goes on."""
        lane = self.begin()
        busy: Deferred[None] = Deferred()
        self.writer.busy = busy
        lane.received([self.data.seal(DATA, 0, b"one", 0)], PEER)
        lane.received([self.data.seal(DATA, 1, b"two", 3)], PEER)
        self.assertEqual(self.writer.taken, b"one")
        self.writer.busy = None
        busy.callback(None)
        self.assertEqual(self.writer.taken, b"onetwo")

    def test_closed_early(self) -> None:
        """What has come before the sender left is still written."""
        lane = self.begin(6)
        busy: Deferred[None] = Deferred()
        self.writer.busy = busy
        packets = [
            self.data.seal(DATA, 0, b"one", 0),
            self.data.seal(DATA, 1, b"two", 3),
        ]
        lane.received(packets[:1], PEER)
        lane.received([packets[1], self.data.seal(CLOSE, 2, b"")], PEER)
        self.assertEqual((self.completions, self.overs), (0, []))
        self.writer.busy = None
        busy.callback(None)
        self.assertEqual((self.completions, self.overs), (1, [None]))
        self.assertEqual(self.writer.taken, b"onetwo")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_left_amid(self) -> None:
        """A sender that leaves before the end leaves an incomplete file."""
        lane = self.begin()
        packets = [self.data.seal(DATA, 0, b"one", 0), self.data.seal(CLOSE, 1, b"")]
        lane.received(packets, PEER)
        self.assertEqual((self.completions, self.overs), (0, [None]))

    def test_writer_fails(self) -> None:
        """What goes wrong with the file ends the lane, and the sender is told."""
        lane = self.begin()
        self.writer.failure = OSError("no room")
        lane.received([self.data.seal(DATA, 0, b"one", 0)], PEER)
        (failure,) = self.overs
        assert failure is not None
        self.assertIs(failure.value, self.writer.failure)
        self.assertIn(CLOSE, self.kinds(self.acks))

    def test_writer_fails_later(self) -> None:
        """The same, where that is known only later."""
        lane = self.begin()
        busy: Deferred[None] = Deferred()
        self.writer.busy = busy
        lane.received([self.data.seal(DATA, 0, b"one", 0)], PEER)
        busy.errback(OSError("no room"))
        self.assertEqual(len(self.overs), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence(self) -> None:
        """A sender that says nothing more is given up."""
        self.begin()
        for _ in range(int(IDLE_TIMEOUT_S) - 1):
            self.clock.advance(1.0)
        self.assertEqual(self.overs, [])
        self.clock.pump([0.5] * 4)
        self.assertEqual(self.overs, [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StuckTests(ReceivingCase):
    """Lanes on which nothing moves."""

    def test_drip(self) -> None:
        """Who sends a byte now and then, to hold a place, loses it."""
        lane = self.begin()
        for number in range(int(PROGRESS_S)):
            self.clock.advance(1.0)
            lane.received([self.data.seal(DATA, number, b"x", number)], PEER)
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.overs, [None])

    def test_stays_behind_the_end(self) -> None:
        """Who goes on and on when all is there, to hold a place, loses it."""
        lane = self.begin(1)
        lane.received([self.data.seal(DATA, 0, b"x", 0)], PEER)
        self.assertEqual(self.completions, 1)
        for number in range(1, int(PROGRESS_S + IDLE_TIMEOUT_S)):
            if number <= PROGRESS_S:
                self.assertEqual(self.overs, [])
            self.clock.advance(1.0)
            lane.received([self.data.seal(PROBE, number, b"")], PEER)
        self.assertEqual((self.overs, self.completions), ([None], 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_busy_writer(self) -> None:
        """That it is this side which is slow is held against nobody."""
        lane = self.begin()
        self.writer.busy = Deferred()
        for number in range(int(2 * PROGRESS_S)):
            self.clock.advance(1.0)
            lane.received([self.data.seal(DATA, number, b"x", number)], PEER)
        self.assertEqual(self.overs, [])
        lane.close()


class Reader:
    """Gives what is wanted, at once or later."""

    def __init__(self) -> None:
        self.later: Deferred[bytes] | None = None
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        """See `securerecv.net.lane.Reader`."""
        self.reads.append((offset, size))
        return succeed(bytes(size)) if self.later is None else self.later


class SendingTests(Case):
    """A file that goes out."""

    def begin(self, size: int = SIZE) -> SendingLane:
        """Begin a lane."""
        self.reader = Reader()
        self.moves: list[int] = []
        end = LaneSender(LANE_ID, derive(SECRET), 0, size, PEER, 0.0, os.urandom)
        return SendingLane(
            end,
            self.clock,
            self.send,
            self.overs.append,
            self.reader,
            self.moves.append,
        )

    def test_to_the_end(self) -> None:
        """When the receiver has it all, the lane says goodbye and is over."""
        lane = self.begin(100)
        lane.proceed()
        self.assertEqual(self.kinds(self.data), [DATA])
        lane.received([self.acks.seal(ACK, 0, ack_text(100, 100, (0, 1)))], PEER)
        self.assertEqual(self.kinds(self.data), [CLOSE])
        self.assertEqual((self.overs, self.moves), ([None], [100]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_reader(self) -> None:
        """One piece is read at a time, and what comes after the end is let go."""
        lane = self.begin()
        later: Deferred[bytes] = Deferred()
        self.reader.later = later
        lane.proceed()
        lane.proceed()
        self.assertEqual(self.reader.reads, [(0, SIZE)])
        lane.close()
        later.callback(bytes(SIZE))
        self.assertEqual(self.overs, [None])

    def test_reader_fails(self) -> None:
        """What goes wrong with the file ends the lane, and the receiver is told."""
        lane = self.begin()
        later: Deferred[bytes] = Deferred()
        self.reader.later = later
        lane.proceed()
        later.errback(OSError("damaged"))
        (failure,) = self.overs
        assert failure is not None
        self.assertEqual(self.kinds(self.data), [CLOSE])

    def test_too_long_here(self) -> None:
        """Datagrams that do not leave this machine are not tried again."""
        self.too_long = 1300
        lane = self.begin()
        lane.proceed()
        for number in range(300):
            self.clock.advance(0.01)
            count = len(self.sent)
            largest = max(self.data.open(packet)[1] for packet in self.sent) + 1
            text = ack_text(0, SIZE, (0, largest))
            lane.received([self.acks.seal(ACK, number, text)], PEER)
            self.assertLess(count, 5000)
        self.assertIsNone(lane._sender._mtu.next_probe(1e9))
        lane.close()

    def test_receiver_takes_nothing(self) -> None:
        """A receiver that lives and takes nothing loses its place."""
        lane = self.begin()
        lane.proceed()
        for number in range(int(PROGRESS_S) + 5):
            self.clock.advance(1.0)
            text = ack_text(0, 65_536)
            lane.received([self.acks.seal(ACK, number, text)], PEER)
        self.assertEqual(self.overs, [None])


class ClientLanesTests(Case):
    """What the client holds of lanes."""

    def test_used_twice(self) -> None:
        """A lane that was used is refused: its nonces would come again."""
        lanes = ClientLanes(self.clock, lambda _: 0, lambda _: derive(SECRET))
        file = io.BytesIO(b"x")
        source = Outgoing(file, "x", 1, progress=ignore, is_own=False)
        first = lanes.send_file(LANE_ID, 0, source, lambda: None)
        lanes.close()
        self.failureResultOf(first)
        self.assertRaises(
            NotUnderstoodError, lanes.send_file, LANE_ID, 0, source, lambda: None
        )
        sink = Incoming(io.BytesIO())
        self.assertRaises(NotUnderstoodError, lanes.receive_file, LANE_ID, 0, 1, sink)


class WindowTests(Case):
    """How much of a file the server's lanes may hold."""

    def setUp(self) -> None:
        """Make lanes, and a file."""
        super().setUp()
        self.lanes = Lanes(self.send, self.clock, os.urandom)
        self.files = MemoryFiles()
        self.number = self.files.add("bob", b"", "x")

    def begin(self, host: str, size: int = 1 << 30) -> bytes:
        """Let a file go out."""
        download = MemoryDownload(self.files, self.number, size, "", "x", b"")
        return self.lanes.send(
            download, 0, lambda _: SECRET, host, PEER, over=lambda: None
        )

    def receive(self, host: str) -> bytes:
        """Let a file come in."""
        kept = self.files.kept[self.number]
        upload = MemoryUpload(self.files, kept, self.number, 1 << 30, 0)
        return self.lanes.receive(
            upload,
            lambda _: SECRET,
            host,
            PEER,
            complete=lambda: None,
            over=lambda: None,
        )

    def window(self, lane_id: bytes) -> int:
        """Tell what a lane may hold."""
        return self.lanes._lanes[lane_id]._end.window_bytes

    def test_many(self) -> None:
        """Many lanes hold no more than there is, each has a part, and some more."""
        hosts = range(MAX_LANES // MAX_LANES_PER_ADDRESS)
        windows = []
        for host in map(str, hosts):
            mine = []
            for _ in range(MAX_LANES_PER_ADDRESS // 2):
                mine += [self.begin(host), self.receive(host)]
            windows += [self.window(lane_id) for lane_id in mine]
            self.assertEqual(self.window(mine[0]), LANE_WINDOW_BYTES)
            self.assertEqual(self.window(mine[1]), LANE_WINDOW_BYTES)
        self.assertEqual(len(windows), MAX_LANES)
        # A window may begin amid a chunk, which is held as a whole.
        held = [window + CHUNK_BYTES for window in windows]
        self.assertEqual(sum(held), MAX_LANE_BYTES)
        self.assertEqual(min(windows), LEAST_LANE_WINDOW_BYTES)

    def test_not_begun(self) -> None:
        """A lane that could not be begun takes nothing away from others."""

        def fail(_: bytes) -> bytes:
            raise MisuseError

        download = MemoryDownload(self.files, self.number, 1 << 30, "", "x", b"")
        for _ in range(MAX_LANES_PER_ADDRESS):
            self.assertRaises(
                MisuseError,
                self.lanes.send,
                download,
                0,
                fail,
                "here",
                PEER,
                over=lambda: None,
            )
        self.assertEqual(self.window(self.begin("here")), LANE_WINDOW_BYTES)

    def test_given_back(self) -> None:
        """What a lane had, the next one has when it is over."""
        for _ in range(MAX_LANES_PER_ADDRESS):
            first, *others = [self.begin("here") for _ in range(8)]
            self.assertEqual(self.window(first), LANE_WINDOW_BYTES)
            for lane_id in (first, *others):
                self.lanes.cut_off(lane_id)

    def test_whole_chunks(self) -> None:
        """What is left over by a short file does not make a window end amid a chunk."""
        self.begin("here", LEAST_LANE_WINDOW_BYTES + 1000)
        windows = [self.window(self.receive("here")) for _ in range(6)]
        self.assertLess(LEAST_LANE_WINDOW_BYTES, windows[3])
        self.assertLess(windows[3], LANE_WINDOW_BYTES)
        self.assertEqual([window % CHUNK_BYTES for window in windows], [0] * 6)

    def test_short_file(self) -> None:
        """A short file takes nothing away from others."""
        for _ in range(MAX_LANES_PER_ADDRESS - 1):
            lane_id = self.begin("here", 1000)
            self.assertEqual(self.window(lane_id), LEAST_LANE_WINDOW_BYTES)
        self.assertEqual(self.window(self.begin("here")), LANE_WINDOW_BYTES)
