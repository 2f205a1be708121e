"""The search for the longest datagram."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.pathmtu import MAX_PROBES, MIN_PACKETS, SIZES, PathMtu

MUCH = 1e9


class PathMtuTests(SynchronousTestCase):
    """RFC 8899, as far as a lane needs it."""

    def search(self, longest: int) -> PathMtu:
        """Search on a path that takes datagrams up to a size."""
        mtu = PathMtu()
        while (size := mtu.next_probe(MUCH)) is not None:
            mtu.probe_sent()
            self.assertIsNone(mtu.next_probe(MUCH))
            if size <= longest:
                mtu.probe_came(size)
            else:
                mtu.probe_lost(size)
        return mtu

    def test_search(self) -> None:
        """Every size is found where it is the longest."""
        for size in SIZES:
            self.assertEqual(self.search(size).datagram_bytes, size)

    def test_chance(self) -> None:
        """One that is lost less often than that may have been lost by chance."""
        mtu = PathMtu()
        for _ in range(MAX_PROBES - 1):
            mtu.probe_sent()
            mtu.probe_lost(SIZES[1])
        mtu.probe_sent()
        mtu.probe_came(SIZES[1])
        self.assertEqual(mtu.datagram_bytes, SIZES[1])

    def test_silence(self) -> None:
        """After silence it begins with the shortest, and finds what is now."""
        mtu = self.search(9000)
        mtu.silence(1)
        self.assertEqual(mtu.datagram_bytes, 8952)
        mtu.silence(2)
        self.assertEqual(mtu.datagram_bytes, SIZES[0])
        self.assertEqual(mtu.next_probe(MUCH), SIZES[1])

    def test_too_long(self) -> None:
        """What does not leave the machine is not used again."""
        mtu = self.search(SIZES[-1])
        mtu.too_long(8952)
        self.assertEqual(mtu.datagram_bytes, 1472)
        self.assertIsNone(mtu.next_probe(MUCH))
        mtu.too_long(SIZES[0])
        self.assertEqual(mtu.datagram_bytes, 1472)

    def test_late(self) -> None:
        """A probe that comes after all counts, unless it is too long now."""
        mtu = PathMtu()
        mtu.probe_came(1472)
        self.assertEqual(mtu.datagram_bytes, 1472)
        mtu.too_long(8952)
        mtu.probe_came(8952)
        self.assertEqual(mtu.datagram_bytes, 1472)
        mtu.probe_lost(77)
        self.assertEqual(mtu.datagram_bytes, 1472)

    def test_small_window(self) -> None:
        """Where little may be under way, shorter ones are used, and tried."""
        mtu = self.search(SIZES[-1])
        self.assertEqual(mtu.size_for(MUCH), SIZES[-1])
        self.assertEqual(mtu.size_for(8952 * MIN_PACKETS), 8952)
        self.assertEqual(mtu.size_for(100), SIZES[0])
        self.assertIsNone(PathMtu().next_probe(1452 * MIN_PACKETS - 1))
        self.assertEqual(PathMtu().next_probe(1452 * MIN_PACKETS), 1452)
