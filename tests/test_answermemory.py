"""Answers that are kept for requests that come again."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.answermemory import (
    MAX_REMEMBERED,
    MAX_REMEMBERED_BYTES,
    SHORT_BYTES,
    AnswerMemory,
)


class AnswerMemoryTests(SynchronousTestCase):
    """What is remembered, and for how long."""

    def setUp(self) -> None:
        """Begin with nothing."""
        self.memory = AnswerMemory()

    def test_again(self) -> None:
        """A request that comes again is known, with its answer when there is one."""
        self.assertTrue(self.memory.begin("#1 ", b"#1 PING"))
        self.assertFalse(self.memory.begin("#1 ", b"#1 PING"))
        self.assertEqual(self.memory.answer_to("#1 "), ())
        self.memory.finish("#1 ", [b"pong"])
        self.assertFalse(self.memory.begin("#1 ", b"#1 PING"))
        self.assertEqual(self.memory.answer_to("#1 "), [b"pong"])

    def test_another_request(self) -> None:
        """A tag stands for the last request that had it."""
        self.memory.begin("#1 ", b"#1 PING")
        self.memory.finish("#1 ", [b"pong"])
        self.assertTrue(self.memory.begin("#1 ", b"#1 WHOAMI"))
        self.assertEqual(self.memory.answer_to("#1 "), ())
        self.memory.finish("#1 ", [b"alice"])
        self.assertEqual(self.memory.answer_to("#1 "), [b"alice"])

    def test_one_tag_for_two_under_way(self) -> None:
        """The answer to an earlier request is not taken for that of a later one."""
        for request in (b"one", b"two", b"three"):
            self.assertTrue(self.memory.begin("#1 ", request))
        self.memory.finish("#1 ", [b"1"])
        self.memory.finish("#1 ", [b"2"])
        self.assertFalse(self.memory.begin("#1 ", b"three"))
        self.assertEqual(self.memory.answer_to("#1 "), ())
        self.memory.finish("#1 ", [b"3"])
        self.assertEqual(self.memory.answer_to("#1 "), [b"3"])

    def test_old_ones_are_forgotten(self) -> None:
        """So many answers are kept, and then the oldest is forgotten."""
        for number in range(MAX_REMEMBERED + 1):
            self.memory.begin(f"#{number} ", b"x")
            self.memory.finish(f"#{number} ", [b"y"])
        self.assertEqual(self.memory.answer_to("#0 "), ())
        self.assertTrue(self.memory.begin("#0 ", b"x"))
        self.assertFalse(self.memory.begin("#1 ", b"x"))

    def test_under_way_is_not_forgotten(self) -> None:
        """What has no answer yet is known, however much comes after it."""
        self.memory.begin("#first ", b"x")
        for number in range(4 * MAX_REMEMBERED):
            self.memory.begin(f"#{number} ", b"x")
            self.memory.finish(f"#{number} ", [b"y"])
        self.assertFalse(self.memory.begin("#first ", b"x"))

    def test_bytes(self) -> None:
        """Long answers push out old ones; one that is too long is not kept."""
        half = b"x" * (MAX_REMEMBERED_BYTES // 2)
        for number in range(3):
            self.memory.begin(f"#{number} ", b"x")
            self.memory.finish(f"#{number} ", [half])
        self.assertEqual(self.memory.answer_to("#0 "), ())
        self.assertEqual(self.memory.answer_to("#1 "), [half])
        self.memory.begin("#3 ", b"x")
        self.memory.finish("#3 ", [half, half, b"x"])
        self.assertTrue(self.memory.begin("#3 ", b"x"))
        self.assertEqual(self.memory.answer_to("#2 "), [half])

    def test_long_ones_leave_the_short(self) -> None:
        """What only reads does not push out the answers to what changes something."""
        self.memory.begin("#1 ", b"send")
        self.memory.finish("#1 ", [b"x" * SHORT_BYTES])
        for number in range(2, 2 + 2 * MAX_REMEMBERED):
            self.memory.begin(f"#{number} ", b"last")
            self.memory.finish(f"#{number} ", [b"y" * (SHORT_BYTES + 1)])
        self.assertFalse(self.memory.begin("#1 ", b"send"))
        self.assertEqual(self.memory.answer_to("#1 "), [b"x" * SHORT_BYTES])

    def test_short_ones(self) -> None:
        """The last 64 are remembered, however long for short ones."""
        for number in range(100):
            self.memory.begin(f"#{number} ", b"send")
            self.memory.finish(f"#{number} ", [b"x" * SHORT_BYTES])
        for number in range(36, 100):
            self.assertFalse(self.memory.begin(f"#{number} ", b"send"))

    def test_one_tag_for_short_and_long(self) -> None:
        """A tag has one answer, of whichever kind."""
        for request, size in ((b"one", 1), (b"two", SHORT_BYTES + 1), (b"three", 2)):
            self.assertTrue(self.memory.begin("#1 ", request))
            self.memory.finish("#1 ", [b"x" * size])
            self.assertEqual(self.memory.answer_to("#1 "), [b"x" * size])

    def test_answer_to_nothing(self) -> None:
        """An answer to what nobody asked is not kept."""
        self.memory.finish("#1 ", [b"y"])
        self.assertEqual(self.memory.answer_to("#1 "), ())


# Nine tags need no long lists, and a slow machine is slow to make them up.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "finish"]),
            st.integers(0, 8),
            st.integers(0, 2),
            st.integers(0, MAX_REMEMBERED_BYTES // 2),
        ),
        max_size=50,
    )
)
def _bounded(steps: list[tuple[str, int, int, int]]) -> None:
    memory = AnswerMemory()
    for what, tag, request, size in steps:
        if what == "begin":
            memory.begin(f"#{tag} ", b"%d" % request)
        else:
            memory.finish(f"#{tag} ", [b"x" * size])
    for answers in (memory._short, memory._long):
        kept = [answer for _, answer, _ in answers.by_tag.values()]
        total = sum(sum(map(len, answer)) for answer in kept)
        assert total == answers._bytes <= MAX_REMEMBERED_BYTES
    assert not memory._short.by_tag.keys() & memory._long.by_tag.keys()


class BoundTests(SynchronousTestCase):
    """Memory has a bound."""

    def test_bounded(self) -> None:
        """Whatever is begun and finished, the bytes are counted and bounded."""
        _bounded()
