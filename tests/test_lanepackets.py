"""What is written in packets, and what in keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import MisuseError
from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import (
    BASE_DATAGRAM_BYTES,
    MAX_ACK_RANGES,
    OVERHEAD_BYTES,
    Ack,
)
from tests.lanekit import Direction, ack_text

steps = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(1, 1000)),
    min_size=1,
    max_size=MAX_ACK_RANGES,
)


def ranges_of(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Make ranges, the newest first, of gaps and lengths."""
    found = []
    at = 0
    for gap, length in steps:
        found.append((at + gap, at + gap + length))
        at += gap + length
    return found[::-1]


class AckTests(SynchronousTestCase):
    """Acknowledgements mean what they say."""

    @given(steps, st.integers(0, 1 << 40), st.integers(0, 1 << 40))
    def test_there_and_back(
        self, steps: list[tuple[int, int]], contiguous: int, more: int
    ) -> None:
        """What was written is what is read."""
        ack = Ack(0.004, contiguous, contiguous + more, ranges_of(steps))
        assert Ack.decode(ack.encode()) == ack

    def test_by_hand(self) -> None:
        """The layout is that of the protocol's text, without any range too."""
        ack = Ack(0.001, 7, 9, [(8, 10), (3, 5)])
        self.assertEqual(ack.encode(), ack_text(7, 9, (8, 10), (3, 5), delay_us=1000))
        none = Ack(0.0, 7, 9, [])
        self.assertEqual(none.encode(), ack_text(7, 9))
        self.assertEqual(Ack.decode(none.encode()), none)

    def test_fits(self) -> None:
        """The longest one fits into the shortest datagram; the oldest are left out."""
        ranges = [(n, n + 1) for n in range(1000, 0, -2)]
        text = Ack(0.0, 0, 0, ranges).encode()
        self.assertLessEqual(len(text) + OVERHEAD_BYTES, BASE_DATAGRAM_BYTES)
        self.assertEqual(Ack.decode(text).ranges, ranges[:MAX_ACK_RANGES])

    def test_nonsense(self) -> None:
        """What nobody writes is refused."""
        for text in (
            b"",
            ack_text(0, 1)[:-1],
            ack_text(0, 1)[:-4],
            ack_text(0, 1) + bytes(4),
            ack_text(2, 1),
            ack_text(0, 1, (5, 5)),
            ack_text(0, 1, (0, 5)).replace(b"\0\0\0\5\0\0\0\5", b"\0\0\0\5\0\0\0\6"),
            ack_text(0, 1, (5, 6), (3, 5)),
            ack_text(0, 1, (5, 6), (3, 3)),
            ack_text(0, 1, *[(n, n + 1) for n in range(200, 70, -2)]),
        ):
            self.assertRaises(ValueError, Ack.decode, text)

    @given(st.binary(max_size=100))
    def test_anything(self, text: bytes) -> None:
        """Whatever comes, it is an acknowledgement or refused."""
        try:
            ranges = Ack.decode(text).ranges
        except ValueError:
            return
        numbers = [n for first, end in ranges for n in (end, first)]
        assert numbers == sorted(set(numbers), reverse=True)


class KeyTests(SynchronousTestCase):
    """The keys are those of the protocol's text."""

    def test_by_hand(self) -> None:
        """Both directions, and a nonce."""
        keys = derive(bytes(range(32)))
        for name, key in (("data", keys.data), ("acks", keys.acks)):
            by_hand = Direction(name)
            self.assertEqual(key.nonce(0), by_hand.iv)
            self.assertEqual(key.nonce(77), by_hand._nonce(77))
            packet = by_hand.seal(0, 77, b"text")
            opened = key.cipher.decrypt(key.nonce(77), packet[22:], packet[:22])
            self.assertEqual(opened, b"text")

    def test_short_secret(self) -> None:
        """A secret that is too short is a mistake of the caller."""
        self.assertRaises(MisuseError, derive, bytes(31))
