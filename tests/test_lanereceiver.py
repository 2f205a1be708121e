"""The receiving end of a lane, against a sender that does what it likes."""

from __future__ import annotations

import os
import struct

from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import (
    IDLE_TIMEOUT_S,
    MAX_ACK_DELAY_S,
    MAX_DATAGRAM_BYTES,
    LaneDrop,
)
from securerecv.wire.lanereceiver import (
    ACK_AT_ONCE_PACKETS,
    ACK_EVERY_PACKETS,
    ACK_EVERY_S,
    LaneReceiver,
)
from tests.lanekit import (
    ACK,
    CHALLENGE,
    CLOSE,
    DATA,
    LANE_ID,
    PROBE,
    RESPONSE,
    SECRET,
    Direction,
    ack_text,
)

NOW = 1000.0
CONTENT = bytes(range(256)) * 40


class Case(SynchronousTestCase):
    """A receiver of `CONTENT`, whose sender is the test."""

    def setUp(self) -> None:
        """Begin."""
        self.receiver = LaneReceiver(
            LANE_ID, derive(SECRET), 0, len(CONTENT), "here", NOW, os.urandom, 4096
        )
        self.data = Direction("data")
        self.acks = Direction("acks")

    def piece(self, number: int, first: int, end: int) -> bytes:
        """Make a packet with a piece of the file."""
        return self.data.seal(DATA, number, CONTENT[first:end], first)

    def take(self, *packets: bytes, address: str = "here", now: float = NOW) -> str:
        """Have packets received; give the reasons of drops, with blanks between."""
        drops = self.receiver.receive(packets, address, now)
        return " ".join(drop.value for drop in drops)

    def said(self, now: float = NOW) -> list[tuple[int, bytes]]:
        """Give kinds and texts of what the receiver sends."""
        opened = [self.acks.open(packet) for packet in self.receiver.to_send(now)]
        return [(kind, text) for kind, _, _, text in opened]

    def read(self) -> bytes:
        """Use up what there is."""
        read = b""
        while piece := self.receiver.readable():
            read += piece
            self.receiver.consumed(len(piece), NOW)
        return read


class DropTests(Case):
    """What is not good changes nothing."""

    def test_forged(self) -> None:
        """A forged packet is dropped; what it spoilt counts as missing."""
        good = self.piece(0, 0, 1000)
        for at in range(0, len(good), 7):
            if at not in range(2, 10):
                bad = bytearray(good)
                bad[at] ^= 1
                drops = self.take(bytes(bad))
                self.assertIn(drops, {"forged", "malformed", "beyond-window", ""})
        self.assertEqual(self.read(), b"")
        self.assertEqual(self.take(good), "")
        self.assertEqual(self.read(), CONTENT[:1000])

    def test_good_bytes_stay(self) -> None:
        """No packet, forged or genuine, writes over bytes that are there."""
        self.take(self.piece(0, 0, 1000), self.piece(1, 2000, 3000))
        junk = os.urandom(3000)
        forged = Direction("data", bytes(32)).seal(DATA, 5, junk, 0)
        self.assertEqual(self.take(forged), "forged")
        changed_mind = self.data.seal(DATA, 6, junk, 0)
        self.assertEqual(self.take(changed_mind), "")
        there = self.read()
        self.assertEqual(there[:1000], CONTENT[:1000])
        self.assertEqual(there[1000:2000], junk[1000:2000])
        self.assertEqual(there[2000:], CONTENT[2000:3000])

    def test_repeated(self) -> None:
        """A packet that comes again is dropped, early and late."""
        first, second = self.piece(0, 0, 1000), self.piece(1, 1000, 2000)
        self.assertEqual(self.take(first, first), "repeated")
        self.assertEqual(self.take(second, first, second), "repeated repeated")
        self.assertEqual(self.read(), CONTENT[:2000])

    def test_beyond_the_window(self) -> None:
        """Nothing is taken for which there is no room."""
        self.assertEqual(self.take(self.piece(0, 4000, 4097)), "beyond-window")
        self.assertEqual(self.take(self.piece(1, 0, 4096)), "")
        self.assertEqual(self.take(self.piece(2, 4096, 4097)), "beyond-window")
        far = self.data.seal(DATA, 3, b"x", (1 << 64) - 1)
        self.assertEqual(self.take(far), "beyond-window")
        self.read()
        self.assertEqual(self.take(self.piece(4, 4096, 4097)), "")

    def test_behind_the_end(self) -> None:
        """Nothing is taken behind the end of the file."""
        for at in range(0, len(CONTENT), 4096):
            self.take(self.piece(at // 4096, at, min(at + 4096, len(CONTENT))))
            self.read()
        self.assertTrue(self.receiver.is_complete)
        more = self.data.seal(DATA, 9, b"more", len(CONTENT))
        self.assertEqual(self.take(more), "beyond-window")

    def test_malformed(self) -> None:
        """What cannot be a packet is not decrypted."""
        for packet in (
            self.data.seal(DATA, 0, b"")[:-1],
            self.data.seal(DATA, 0, b""),
            self.data.seal(ACK, 0, ack_text(0, 0)),
            self.data.seal(99, 0, b"x"),
            self.data.seal(PROBE, 1 << 23, b""),
            self.data.seal(PROBE, 0, bytes(MAX_DATAGRAM_BYTES)),
        ):
            self.assertEqual(self.take(packet), "malformed")

    def test_last_number(self) -> None:
        """The last number is taken, and the next in order is not."""
        self.take(self.piece((1 << 23) - 2, 0, 10))
        last, over = self.piece((1 << 23) - 1, 10, 20), self.piece(1 << 23, 20, 30)
        self.assertEqual(self.take(last, over), "malformed")
        self.assertEqual(self.read(), CONTENT[:20])

    def test_reflected(self) -> None:
        """Its own packets do not open in the other direction."""
        self.take(*[self.piece(n, n * 10, n * 10 + 10) for n in range(9)])
        (own,) = self.receiver.to_send(NOW + MAX_ACK_DELAY_S)
        as_probe = bytes([own[0], PROBE]) + own[2:]
        self.assertEqual(self.take(as_probe), "repeated")
        number = struct.pack(">I", 50)
        self.assertEqual(self.take(as_probe[:10] + number + own[14:]), "forged")

    def test_over(self) -> None:
        """After the end nothing is heard, and nothing is said."""
        self.assertEqual(self.take(self.data.seal(CLOSE, 0, b"")), "")
        self.assertTrue(self.receiver.is_over)
        self.assertEqual(self.take(self.piece(1, 0, 10)), LaneDrop.UNKNOWN.value)
        self.assertEqual(self.said(), [])
        self.assertEqual(self.receiver.deadline(), float("inf"))

    def test_tiny_pieces(self) -> None:
        """Pieces of one byte with gaps between are taken up to a most."""
        receiver = LaneReceiver(
            LANE_ID, derive(SECRET), 0, 1 << 20, "here", NOW, os.urandom
        )
        packets = [self.data.seal(DATA, n, b"x", 2 * n + 1) for n in range(4200)]
        drops = receiver.receive(packets, "here", NOW)
        self.assertEqual(drops, [LaneDrop.BEYOND] * (4200 - 4096))


class AckTests(Case):
    """When acknowledgements leave, and what they say."""

    def test_every_few(self) -> None:
        """Few wait a while, more for the last one's sake, many not at all."""
        packets = [self.piece(n, n * 10, n * 10 + 10) for n in range(100)]
        few = ACK_EVERY_PACKETS
        self.take(*packets[: few - 1])
        self.assertEqual(self.said(), [])
        self.assertAlmostEqual(self.receiver.deadline(), NOW + MAX_ACK_DELAY_S)
        later = NOW + MAX_ACK_DELAY_S
        count = few - 1
        text = ack_text(count * 10, 4096, (0, count), delay_us=5000)
        self.assertEqual(self.said(later), [(ACK, text)])
        self.take(*packets[count : count + few], now=later)
        self.assertEqual(self.said(later), [])
        self.assertAlmostEqual(self.receiver.deadline(), later + ACK_EVERY_S)
        self.assertEqual(len(self.said(later + ACK_EVERY_S)), 1)
        count += few
        much_later = later + 1
        self.take(*packets[count : count + few], now=much_later)
        self.assertEqual(len(self.said(much_later)), 1)
        count += few
        self.take(*packets[count : count + ACK_AT_ONCE_PACKETS], now=much_later)
        self.assertEqual(len(self.said(much_later)), 1)

    def test_gap(self) -> None:
        """Of a gap the sender hears soon, and of a packet that comes late."""
        now = NOW + ACK_EVERY_S
        self.take(self.piece(0, 0, 10), self.piece(2, 20, 30), now=now)
        self.assertEqual(self.said(now), [(ACK, ack_text(10, 4096, (2, 3), (0, 1)))])
        self.take(self.piece(1, 10, 20), now=now)
        self.assertEqual(self.said(now), [])
        now += ACK_EVERY_S
        self.assertAlmostEqual(self.receiver.deadline(), now)
        text = ack_text(30, 4096, (0, 3), delay_us=1000)
        self.assertEqual(self.said(now), [(ACK, text)])

    def test_end(self) -> None:
        """That all is there is said at once, and again whenever something comes."""
        receiver = LaneReceiver(LANE_ID, derive(SECRET), 0, 5, "here", NOW, os.urandom)
        text = CONTENT[:5]
        receiver.receive([self.data.seal(DATA, 0, text)], "here", NOW)
        (packet,) = receiver.to_send(NOW)
        self.assertEqual(self.acks.open(packet)[3], ack_text(5, 5, (0, 1)))
        receiver.receive([self.data.seal(DATA, 1, text)], "here", NOW)
        (packet,) = receiver.to_send(NOW)
        self.assertEqual(self.acks.open(packet)[1:], (1, 0, ack_text(5, 5, (0, 2))))

    def test_probe(self) -> None:
        """A probe is acknowledged soon."""
        now = NOW + ACK_EVERY_S
        self.take(self.data.seal(PROBE, 0, bytes(1400)), now=now)
        self.assertEqual(self.said(now), [(ACK, ack_text(0, 4096, (0, 1)))])

    def test_room_again(self) -> None:
        """When a good part of the window is free again, the sender hears of it."""
        self.take(*[self.piece(n, n * 1024, (n + 1) * 1024) for n in range(4)])
        self.said()
        self.receiver.consumed(1023, NOW)
        self.assertEqual(self.said(), [])
        self.receiver.consumed(1, NOW)
        self.assertEqual(self.said(), [(ACK, ack_text(4096, 5120, (0, 4)))])

    def test_silence(self) -> None:
        """A receiver that waits for more says each second what it has."""
        self.take(self.piece(0, 0, 10))
        self.said(NOW + 0.01)
        for number in range(1, 4):
            now = self.receiver.deadline()
            self.assertAlmostEqual(now, NOW + 0.01 + number, places=1)
            self.receiver.expire(now)
            self.assertEqual([kind for kind, _ in self.said(now)], [ACK])

    def test_idle(self) -> None:
        """Silence ends it, and what does not authenticate does not keep it."""
        self.take(self.piece(0, 0, 10))
        late = NOW + IDLE_TIMEOUT_S
        self.take(self.piece(1, 0, 10)[:-1] + b"x", now=late - 1)
        self.receiver.expire(late - 0.1)
        self.assertFalse(self.receiver.is_over)
        self.receiver.expire(late)
        self.assertTrue(self.receiver.is_over)


class MovingTests(Case):
    """The sender's address changes."""

    def challenge(self, now: float = NOW) -> bytes:
        """Take the token that the receiver wants repeated."""
        tokens = [text for kind, text in self.said(now) if kind == CHALLENGE]
        self.assertEqual(len(tokens), 1)
        return tokens[0]

    def test_newest_decides(self) -> None:
        """The newest packet says where the sender is; a late copy does not."""
        self.take(self.piece(5, 0, 1000))
        self.take(self.piece(3, 1000, 2000), address="copy")
        self.assertEqual(self.receiver.path.address, "here")
        self.take(self.piece(6, 2000, 3000), address="there")
        self.assertEqual(self.receiver.path.address, "there")

    def test_challenged(self) -> None:
        """A new address must repeat a token; a wrong one is none."""
        self.take(self.piece(0, 0, 1000), address="there")
        token = self.challenge()
        self.assertFalse(self.receiver.path.is_certain)
        self.take(self.data.seal(RESPONSE, 1, bytes(8)), address="there")
        self.assertFalse(self.receiver.path.is_certain)
        self.take(self.data.seal(RESPONSE, 2, token), address="there")
        self.assertTrue(self.receiver.path.is_certain)

    def test_little_before(self) -> None:
        """Before that, no more than three times what came from there goes there."""
        came = sent = 0
        for number in range(40):
            packet = self.piece(number, number, number + 1)
            now = NOW + number * 0.05
            self.take(packet, address="there", now=now)
            came += len(packet)
            while (deadline := self.receiver.deadline()) <= now:
                self.assertGreater(deadline, 0)
                sent += sum(map(len, self.receiver.to_send(now)))
                self.assertLessEqual(sent, 3 * came)
        self.assertGreater(sent, 0)

    def test_nobody_there(self) -> None:
        """An address where nobody answers is given up for the one before."""
        self.take(self.piece(0, 0, 1000))
        self.take(self.piece(1, 1000, 2000), address="there")
        self.challenge()
        self.receiver.expire(NOW + 1.9)
        self.assertEqual(self.receiver.path.address, "there")
        self.receiver.expire(NOW + 2)
        self.assertEqual(self.receiver.path.address, "here")
        self.assertTrue(self.receiver.path.is_certain)

    def test_back_again(self) -> None:
        """Back at the address that is certain, nothing has to be repeated."""
        self.take(self.piece(0, 0, 1000), address="there")
        self.take(self.piece(1, 1000, 2000))
        self.assertEqual(self.receiver.path.address, "here")
        self.assertTrue(self.receiver.path.is_certain)

    def test_asked(self) -> None:
        """It repeats the token of a sender that asks."""
        self.take(self.data.seal(CHALLENGE, 0, b"repeat-8"))
        self.assertEqual(self.said(), [(RESPONSE, b"repeat-8")])
        self.take(self.data.seal(CHALLENGE, 1, b"not of 8 bytes"))
        self.assertEqual(self.said(), [])
