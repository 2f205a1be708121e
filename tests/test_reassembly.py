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

    @given(
        steps=steps,
        window=st.integers(1, 150),
        offset=st.integers(0, 400),
        chunk_bytes=st.integers(1, 150),
    )
    def test_like_an_array(
        self,
        steps: list[tuple[int, int] | int],
        window: int,
        offset: int,
        chunk_bytes: int,
    ) -> None:
        """However pieces overlap and are read, what comes out is the file."""
        file = Reassembly(offset, len(CONTENT), window, chunk_bytes)
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

    def test_room(self) -> None:
        """What comes next has room to the end of its chunk, or of the window."""
        file = Reassembly(5, 100, 30, 16)
        for frontier, base, stop in (
            (5, 0, 16),
            (10, 0, 16),
            (16, 16, 32),
            (33, 32, 35),
        ):
            file.put(file.frontier, memoryview(CONTENT)[file.frontier : frontier])
            self.assertEqual(file.room()[0::2], (base, stop))
            self.assertEqual(len(file.room()[1]), 16)
        file.put(33, memoryview(b"ab"))
        self.assertEqual(file.room(), (35, b"", 35))

    def test_memory(self) -> None:
        """What holds no byte takes no memory, neither before nor afterwards."""
        file = Reassembly(0, 100, 80, 16)
        self.assertEqual(held(file), 0)
        file.put(70, memoryview(b"0123456789"))
        self.assertEqual(held(file), 16)
        file.put(0, memoryview(CONTENT)[:70])
        self.assertEqual(held(file), 80)
        while piece := file.readable():
            file.consume(len(piece))
        self.assertEqual(held(file), 0)
        file.put(80, memoryview(CONTENT)[80:100])
        self.assertEqual(held(file), 20)
        file.consume(16)
        file.consume(4)
        self.assertEqual(held(file), 0)
        self.assertTrue(file.is_complete)

    def test_most_memory(self) -> None:
        """A window amid chunks takes one chunk more than it is long."""
        file = Reassembly(0, 1000, 64, 16)
        file.put(0, memoryview(CONTENT)[:64])
        file.consume(len(file.readable()[:8]))
        file.put(64, memoryview(CONTENT)[64 : file.limit])
        self.assertEqual(held(file), 64 + 16)


def held(file: Reassembly) -> int:
    """Tell how many bytes of memory the window takes."""
    return sum(map(len, file._chunks.values()))
