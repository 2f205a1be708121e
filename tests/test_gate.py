"""How many may be connected at once, and who must go for whom."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securerecv.limits import GOODBYE_S
from securerecv.net.gate import Gate
from securerecv.wire.verbs import Standing


@define(eq=False)
class Connection:
    """
    A connection, as the gate sees it.

    Attributes:
        gate: where it is counted.
        address: where it comes from.
        goes: it leaves when it is told to; otherwise it has to be cut off.
        fate: what became of it.
    """

    gate: Gate
    address: str = "here"
    goes: bool = True
    fate: list[str] = field(factory=list)

    def make_way(self) -> None:
        """Hang up, because others want in."""
        self.fate.append("made way")
        self.gate.leave(self)

    def dismiss(self, words: str) -> None:
        """Hang up, if it does."""
        self.fate.append(f"dismissed: {words}")
        if self.goes:
            self.gate.leave(self)

    def abort(self) -> None:
        """Hang up at once."""
        self.fate.append("aborted")
        self.gate.leave(self)

    def arrive(self) -> Connection:
        """Be let in."""
        assert self.gate.arrive(self)
        return self

    def say_hello(self) -> Connection:
        """Be let in, and shake hands."""
        self.arrive()
        self.gate.shook_hands(self)
        return self

    def log_in(self) -> Connection:
        """Be let in, shake hands, and log in."""
        self.say_hello()
        self.gate.came_in(self, Standing.USER)
        return self


class ArrivalTests(SynchronousTestCase):
    """Who is let in."""

    def assert_gone(self, gone: list[Connection], stayed: list[Connection]) -> None:
        """Some had to make way, and others were left alone."""
        self.assertEqual([one.fate for one in gone], [["made way"]] * len(gone))
        self.assertEqual([one.fate for one in stayed], [[]] * len(stayed))

    def test_count(self) -> None:
        """Connections are counted once, however often they say goodbye."""
        gate = Gate()
        one, two = Connection(gate).log_in(), Connection(gate).arrive()
        self.assertEqual(len(gate), 2)
        gate.leave(one)
        gate.leave(one)
        self.assertEqual(len(gate), 1)
        gate.leave(two)
        self.assertEqual(len(gate), 0)
        self.assertEqual(gate._by_address, {})

    def test_oldest_handshake_first(self) -> None:
        """Who has not even shaken hands gives way before who has, oldest first."""
        gate = Gate(total=4)
        newcomer = Connection(gate).say_hello()
        user = Connection(gate).log_in()
        first, second = Connection(gate).arrive(), Connection(gate).arrive()
        third = Connection(gate).log_in()
        self.assert_gone([first], [newcomer, user, second, third])
        fourth = Connection(gate).log_in()
        self.assert_gone([first, second], [newcomer, user, third, fourth])
        fifth = Connection(gate).log_in()
        self.assert_gone([first, second, newcomer], [user, third, fourth, fifth])
        self.assertEqual(len(gate), 4)

    def test_oldest_newcomer_first(self) -> None:
        """Of those who have shaken hands, who has been silent longest goes."""
        gate = Gate(total=3)
        one, two, three = (Connection(gate).say_hello() for _ in range(3))
        four = Connection(gate).say_hello()
        self.assert_gone([one], [two, three, four])
        gate.came_in(two, Standing.USER)
        five = Connection(gate).say_hello()
        self.assert_gone([one, three], [two, four, five])

    def test_nobody_inside_goes(self) -> None:
        """When all are logged in, the next has to stay outside."""
        gate = Gate(total=2)
        users = [Connection(gate).log_in() for _ in range(2)]
        outside = Connection(gate, "there")
        self.assertFalse(gate.arrive(outside))
        self.assert_gone([], [*users, outside])
        self.assertEqual(len(gate), 2)
        gate.leave(outside)
        self.assertEqual(len(gate), 2)
        gate.leave(users[0])
        self.assertTrue(gate.arrive(outside))

    def test_anonymous_go_last(self) -> None:
        """Anonymous sessions make way when there are no newcomers left."""
        gate = Gate(total=3)
        anonymous = Connection(gate).say_hello()
        gate.came_in(anonymous, Standing.ANONYMOUS)
        Connection(gate).log_in()
        newcomer = Connection(gate).say_hello()
        Connection(gate).log_in()
        self.assertEqual([newcomer.fate, anonymous.fate], [["made way"], []])
        Connection(gate).log_in()
        self.assertEqual(anonymous.fate, ["made way"])
        self.assertFalse(gate.arrive(Connection(gate)))

    def test_per_address(self) -> None:
        """Who has too many connections gives way to itself, not to others."""
        gate = Gate(total=10, per_address=2)
        stranger = Connection(gate, "there").arrive()
        one = Connection(gate).arrive()
        two = Connection(gate).say_hello()
        three = Connection(gate).log_in()
        self.assert_gone([one], [stranger, two, three])
        four = Connection(gate).log_in()
        self.assert_gone([one, two], [stranger, three, four])
        self.assertFalse(gate.arrive(Connection(gate)))
        self.assertTrue(gate.arrive(Connection(gate, "elsewhere")))
        self.assert_gone([one, two], [stranger, three, four])

    def test_handshakes(self) -> None:
        """Only so many shake hands at once; the oldest gives way."""
        gate = Gate(handshakes=2)
        done = Connection(gate).say_hello()
        one, two = Connection(gate).arrive(), Connection(gate, "there").arrive()
        three = Connection(gate, "there").arrive()
        self.assert_gone([one], [done, two, three])
        gate.shook_hands(two)
        four = Connection(gate).arrive()
        self.assert_gone([one], [done, two, three, four])

    def test_handshakes_of_one_address(self) -> None:
        """One address cannot push out others' handshakes by beginning many."""
        gate = Gate(handshakes=4, handshakes_per_address=2)
        done = Connection(gate).say_hello()
        one, two = Connection(gate).arrive(), Connection(gate).arrive()
        self.assertFalse(gate.arrive(Connection(gate)))
        others = [Connection(gate, "there").arrive() for _ in range(2)]
        self.assertFalse(gate.arrive(Connection(gate)))
        gate.shook_hands(one)
        three = Connection(gate).arrive()
        gate.leave(two)
        gate.leave(two)
        four = Connection(gate).arrive()
        self.assertFalse(gate.arrive(Connection(gate)))
        self.assert_gone([], [done, one, three, four, *others])

    def test_gone_is_gone(self) -> None:
        """Who had to make way cannot come back by shaking hands."""
        gate = Gate(total=1)
        gone = Connection(gate).arrive()
        user = Connection(gate).log_in()
        gate.shook_hands(gone)
        self.assertEqual(len(gate), 1)
        self.assertFalse(gate.arrive(Connection(gate)))
        self.assert_gone([gone], [user])
        gate.came_in(gone, Standing.USER)
        self.assertFalse(gate.arrive(Connection(gate)))
        self.assert_gone([gone], [user])


class CloseTests(SynchronousTestCase):
    """Sending everybody home."""

    def setUp(self) -> None:
        """Open a gate."""
        self.clock = Clock()
        self.gate = Gate()

    def test_empty(self) -> None:
        """When nobody is there, it is done at once."""
        self.assertIsNone(self.successResultOf(self.gate.close("bye", self.clock)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_go(self) -> None:
        """When all go at once, nobody is cut off, and nothing is left behind."""
        guests = [Connection(self.gate).log_in(), Connection(self.gate).arrive()]
        self.assertIsNone(self.successResultOf(self.gate.close("bye", self.clock)))
        self.assertEqual([guest.fate for guest in guests], [["dismissed: bye"]] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_some_take_their_time(self) -> None:
        """It is done when the last has gone."""
        quick = Connection(self.gate).log_in()
        slow = Connection(self.gate, goes=False).log_in()
        closed = self.gate.close("bye", self.clock)
        self.clock.advance(GOODBYE_S - 0.1)
        self.assertNoResult(closed)
        self.gate.leave(slow)
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual([quick.fate, slow.fate], [["dismissed: bye"]] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_some_do_not_go(self) -> None:
        """Who has not gone when the time is up is cut off."""
        guests = [Connection(self.gate, goes=False).log_in() for _ in range(3)]
        closed = self.gate.close("bye", self.clock)
        self.clock.advance(GOODBYE_S - 0.1)
        self.assertNoResult(closed)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(closed))
        fates = [guest.fate for guest in guests]
        self.assertEqual(fates, [["dismissed: bye", "aborted"]] * 3)
        self.assertEqual(len(self.gate), 0)
