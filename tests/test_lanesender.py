"""The sending end of a lane, against a receiver that does what it likes."""

from __future__ import annotations

import os
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import MisuseError
from securerecv.wire import lanesender
from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import IDLE_TIMEOUT_S, LaneDrop
from securerecv.wire.lanesender import LaneSender
from securerecv.wire.outgoing import CHUNK_BYTES
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
CONTENT = bytes(range(256)) * 4000
PIECE_BYTES = 1194
WINDOW_BYTES = 1 << 20


class Case(SynchronousTestCase):
    """A sender of `CONTENT`, whose receiver is the test."""

    def setUp(self) -> None:
        """Begin."""
        self.sender = LaneSender(
            LANE_ID, derive(SECRET), 0, len(CONTENT), "here", NOW, os.urandom
        )
        self.data = Direction("data")
        self.acks = Direction("acks")
        self.ack_number = 0
        self.supply()

    def supply(self) -> None:
        """Read what is wanted."""
        while wanted := self.sender.wanted():
            offset, size = wanted
            self.sender.supply(CONTENT[offset : offset + size])

    def sent(self, now: float = NOW) -> list[tuple[int, int, int, bytes]]:
        """Give kind, number, offset and text of what the sender sends."""
        return [self.data.open(packet) for packet in self.sender.to_send(now)]

    def take(self, *packets: bytes, address: str = "here", now: float = NOW) -> str:
        """Have packets received; give the reasons of drops, with blanks between."""
        drops = self.sender.receive(packets, address, now)
        return " ".join(drop.value for drop in drops)

    def packet(self, kind: int, text: bytes) -> bytes:
        """Make the receiver's next packet."""
        self.ack_number += 1
        return self.acks.seal(kind, self.ack_number - 1, text)

    def ack(
        self, *ranges: tuple[int, int], contiguous: int = 0, now: float = NOW + 0.02
    ) -> str:
        """Acknowledge; give the reason of the drop, if there is one."""
        text = ack_text(contiguous, contiguous + WINDOW_BYTES, *ranges)
        return self.take(self.packet(ACK, text), now=now)


class SendingTests(Case):
    """What leaves, and when."""

    def test_first_packets(self) -> None:
        """The first ten packets leave, in order, and then it waits to be heard."""
        sent = self.sent()
        sent += self.sent(NOW + 0.001)
        self.assertEqual([number for _, number, _, _ in sent], list(range(10)))
        self.assertEqual({kind for kind, _, _, _ in sent}, {DATA})
        together = b"".join(text for _, _, _, text in sent)
        self.assertEqual(together, CONTENT[: 10 * PIECE_BYTES])
        self.assertEqual(self.sent(NOW + 0.1), [])

    def test_lost_one(self) -> None:
        """What three later packets have overtaken is sent again, with a new number."""
        self.sent()
        self.sent(NOW + 0.001)
        self.ack((4, 10), (0, 3), contiguous=3 * PIECE_BYTES)
        sent = [packet for packet in self.sent(NOW + 0.03) if packet[0] == DATA]
        (again,) = [packet for packet in sent if packet[2] < 10 * PIECE_BYTES]
        piece = CONTENT[3 * PIECE_BYTES : 4 * PIECE_BYTES]
        self.assertEqual(again[2:], (3 * PIECE_BYTES, piece))
        self.assertGreaterEqual(again[1], 10)

    def test_silence(self) -> None:
        """When nothing is heard, the oldest packet goes once more, ever more rarely."""
        self.sent()
        self.sent(NOW + 0.001)
        times: list[float] = []
        while len(times) < 5:
            now = self.sender.deadline()
            self.sender.expire(now)
            sent = self.sent(now)
            self.assertLessEqual(len(sent), 1)
            if sent:
                self.assertEqual(sent[0][2], 0)
                times.append(now)
        waits = [b - a for a, b in zip([NOW, *times], times, strict=False)]
        self.assertEqual([round(wait) for wait in waits], [1, 2, 2, 2, 2])

    def test_limit(self) -> None:
        """Nothing is sent for which the receiver has no room."""
        now, arrived = NOW, 0
        for _ in range(100):
            now += 0.02
            self.sent(now)
            arrived = self.sender._file.sent
            number = self.sender._next_number
            text = ack_text(arrived, arrived, (0, number))
            self.take(self.packet(ACK, text), now=now + 0.01)
        self.assertEqual(arrived, 65_536)

    def test_blocked(self) -> None:
        """A sender that may send nothing asks from time to time whether it may."""
        sender = LaneSender(
            LANE_ID, derive(SECRET), 0, 100, "here", NOW, os.urandom, limit=10
        )
        sender.supply(CONTENT[:100])
        sender.to_send(NOW)
        text = ack_text(10, 10, (0, 1))
        sender.receive([self.acks.seal(ACK, 0, text)], "here", NOW + 0.02)
        now = sender.deadline()
        self.assertLess(now, NOW + 1)
        sender.expire(now)
        (packet,) = sender.to_send(now)
        self.assertEqual(self.data.open(packet)[0], PROBE)
        self.assertGreater(sender.deadline(), now)

    def test_end(self) -> None:
        """When the receiver has all, the sender says that it goes."""
        sender = LaneSender(LANE_ID, derive(SECRET), 0, 100, "", NOW, os.urandom)
        sender.supply(CONTENT[:100])
        sender.to_send(NOW)
        sender.receive([self.acks.seal(ACK, 0, ack_text(100, 100, (0, 1)))], "", NOW)
        self.assertTrue(sender.is_complete)
        (packet,) = sender.to_send(NOW)
        self.assertEqual(self.data.open(packet), (CLOSE, 1, 0, b""))
        self.assertTrue(sender.is_over)

    def test_numbers_run_out(self) -> None:
        """Rather than use a number twice, the lane ends."""
        with patch.object(lanesender, "MAX_PACKETS", 5):
            sent = self.sent() + self.sent(NOW + 0.001)
        self.assertEqual(sent, [])
        self.assertTrue(self.sender.is_over)
        self.assertFalse(self.sender.is_complete)

    def test_wrong_piece(self) -> None:
        """Parts are taken; more than was wanted is a mistake of the caller."""
        sender = LaneSender(LANE_ID, derive(SECRET), 0, 100, "", NOW, os.urandom)
        self.assertRaises(MisuseError, sender.supply, bytes(101))
        self.assertRaises(MisuseError, sender.supply, b"")
        sender.supply(bytes(60))
        self.assertEqual(sender.wanted(), (60, 40))
        sender.supply(bytes(40))
        self.assertRaises(MisuseError, sender.supply, bytes(1))

    def test_greedy_receiver(self) -> None:
        """A receiver that would take everything, and has nothing, gets a window."""
        size = 1 << 30
        window = 4 * CHUNK_BYTES
        sender = LaneSender(
            LANE_ID, derive(SECRET), 0, size, "", NOW, os.urandom, window
        )
        chunk = bytes(1 << 20)
        now = NOW
        for number in range(2000):
            while wanted := sender.wanted():
                sender.supply(chunk[: wanted[1]])
            sender.to_send(now)
            text = ack_text(0, size, (0, sender._next_number))
            sender.receive([self.acks.seal(ACK, number, text)], "", now + 0.005)
            now += 0.01
        self.assertEqual(sender._file.sent, window)
        held = sum(map(len, sender._file._chunks))
        self.assertLessEqual(held, window + 2 * CHUNK_BYTES)


class DropTests(Case):
    """What is not good changes nothing."""

    def test_forged(self) -> None:
        """Whatever bit is changed, nothing comes of it."""
        self.sent()
        good = self.packet(ACK, ack_text(0, WINDOW_BYTES, (0, 5)))
        for at in range(len(good)):
            if at not in {0, *range(2, 10)}:
                bad = bytearray(good)
                bad[at] ^= 1
                self.assertIn(self.take(bytes(bad)), {"forged", "malformed"})
        self.assertEqual(self.sender._losses.largest_acked, -1)
        self.assertEqual(self.take(good), "")
        self.assertEqual(self.take(good), "repeated")

    def test_never_sent(self) -> None:
        """What was never sent cannot be acknowledged."""
        self.sent()
        self.sent(NOW + 0.001)
        self.assertEqual(self.ack((0, 11)), "malformed")
        self.assertEqual(
            self.ack((0, 10), contiguous=10 * PIECE_BYTES + 1), "malformed"
        )
        self.assertEqual(self.ack((0, 10), contiguous=10 * PIECE_BYTES), "")

    def test_malformed(self) -> None:
        """What cannot be a packet is not decrypted, or not understood."""
        for packet in (
            b"\xc3",
            self.acks.seal(DATA, 0, b"x"),
            self.acks.seal(PROBE, 0, b"x"),
            self.acks.seal(ACK, 1 << 23, ack_text(0, 0)),
            self.acks.seal(ACK, 0, b"nonsense"),
        ):
            self.assertEqual(self.take(packet), "malformed")

    def test_overtaken(self) -> None:
        """An acknowledgement that a newer one has overtaken does no harm."""
        self.sent()
        old = self.packet(ACK, ack_text(0, 1, (0, 2)))
        self.ack((0, 9), contiguous=9 * PIECE_BYTES)
        limit = self.sender._file.limit
        self.assertEqual(self.take(old), "")
        self.assertEqual(self.sender._file.limit, limit)
        self.assertEqual(self.sender.arrived, 9 * PIECE_BYTES)

    def test_over(self) -> None:
        """After the end nothing is heard."""
        self.take(self.packet(CLOSE, b""))
        self.assertTrue(self.sender.is_over)
        self.assertEqual(self.ack(), LaneDrop.UNKNOWN.value)
        self.assertIsNone(self.sender.wanted())
        self.assertEqual(self.sent(), [])

    def test_idle(self) -> None:
        """Silence ends it."""
        self.sender.expire(NOW + IDLE_TIMEOUT_S - 0.1)
        self.assertFalse(self.sender.is_over)
        self.sender.expire(NOW + IDLE_TIMEOUT_S)
        self.assertTrue(self.sender.is_over)


class MovingTests(Case):
    """The receiver's address changes."""

    def test_little_before(self) -> None:
        """Before it has repeated a token, a new address gets little."""
        self.sent()
        text = ack_text(0, WINDOW_BYTES, (0, 9))
        packet = self.packet(ACK, text)
        self.take(packet, address="there", now=NOW + 0.1)
        self.assertEqual(self.sender.path.address, "there")
        sent = []
        now = NOW + 0.1
        while now < NOW + 1.5:
            self.sender.expire(now)
            sent += self.sender.to_send(now)
            now = max(now + 0.001, self.sender.deadline())
        self.assertLessEqual(sum(map(len, sent)), 3 * len(packet))
        kinds = [self.data.open(packet)[0] for packet in sent]
        self.assertIn(CHALLENGE, kinds)

    def test_guessed_acknowledgements(self) -> None:
        """Acknowledging numbers that were not received proves no address."""
        self.sent()
        for number in range(1, 10):
            self.take(
                self.packet(ACK, ack_text(0, WINDOW_BYTES, (0, number))),
                address="victim",
            )
        self.assertFalse(self.sender.path.is_certain)

    def test_goes_on(self) -> None:
        """With the token repeated, what was under way is sent there."""
        self.sent()
        self.take(
            self.packet(ACK, ack_text(0, WINDOW_BYTES)), address="there", now=NOW + 1
        )
        sent = self.sent(NOW + 1)
        tokens = [text for kind, _, _, text in sent if kind == CHALLENGE]
        self.take(self.packet(RESPONSE, tokens[0]), address="there", now=NOW + 1.1)
        self.assertTrue(self.sender.path.is_certain)
        again = [packet for packet in self.sent(NOW + 1.2) if packet[0] == DATA]
        self.assertEqual(again[0][2], 0)
        self.assertGreater(len(again), 5)

    def test_asked(self) -> None:
        """It repeats the token of a receiver that asks."""
        self.take(self.packet(CHALLENGE, b"repeat-8"))
        self.assertEqual(self.sent()[0][0::3], (RESPONSE, b"repeat-8"))
