"""A file that comes in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.reassembly import MAX_ISLANDS, Reassembly

CONTENT = bytes(i % 251 for i in range(400))

spans = st.tuples(st.integers(0, 400), st.integers(1, 90))
steps = st.lists(st.one_of(spans, st.integers(0, 120)), max_size=80)


class ReassemblyTests(SynchronousTestCase):
    """The bytes come out as they were, each of them once."""

    @given(steps=steps, window=st.integers(1, 150), offset=st.integers(0, 400))
    def test_like_an_array(
        self, steps: list[tuple[int, int] | int], window: int, offset: int
    ) -> None:
        """However pieces overlap and are read, what comes out is the file."""
        file = Reassembly(offset, len(CONTENT), window)
        has = [at < offset for at in range(len(CONTENT) + 1)]
        read = bytearray()
        for step in steps:
            if isinstance(step, int):
                piece = file.readable()[:step]
                read += piece
                file.consume(len(piece))
                assert file.limit == min(len(CONTENT), offset + len(read) + window)
                continue
            first, end = step[0], min(step[0] + step[1], file.limit)
            missing = file.missing(first, end)
            assert [at for a, b in missing for at in range(a, b)] == [
                at for at in range(first, end) if not has[at]
            ]
            for a, b in missing:
                assert file.put(a, memoryview(CONTENT)[a:b])
                has[a:b] = [True] * (b - a)
            assert file.contiguous == has.index(False)
        while piece := file.readable():
            read += piece
            file.consume(len(piece))
        assert bytes(read) == CONTENT[offset : file.contiguous]

    def test_too_many_gaps(self) -> None:
        """There is a most of gaps, and what would make one more is not kept."""
        file = Reassembly(0, 4 * MAX_ISLANDS, 4 * MAX_ISLANDS)
        byte = memoryview(b"x")
        for at in range(1, 2 * MAX_ISLANDS, 2):
            self.assertTrue(file.put(at, byte))
        self.assertFalse(file.put(3 * MAX_ISLANDS, byte))
        frontier = file.frontier
        self.assertTrue(file.put(2, byte))
        self.assertTrue(file.put(frontier, byte))
        self.assertTrue(file.put(frontier + 5, byte))
        self.assertFalse(file.put(frontier + 3, byte))

    def test_memory_goes_back(self) -> None:
        """When all is used up the ring is let go."""
        file = Reassembly(0, 10, 100)
        self.assertEqual(len(file.ring), 10)
        file.put(0, memoryview(b"0123456789"))
        file.consume(10)
        self.assertEqual(len(file.ring), 0)
        self.assertTrue(file.is_complete)
