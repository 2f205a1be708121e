"""The runner's last line is the truth about the tests it ran."""

import unittest
from importlib.util import find_spec

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.run import LONGEST, Count, Dealer, count


class Sample(SynchronousTestCase):
    """Tests that end in every possible way; trial does not find them by itself."""

    def passes(self) -> None:
        """Pass."""

    def fails(self) -> None:
        """Fail."""
        self.fail("as it should")

    def errs(self) -> None:
        """Raise, in the test and once more in its clean-up."""
        self.addCleanup(self.errs_alone)
        self.errs_alone()

    def errs_alone(self) -> None:
        """Raise."""
        raise ZeroDivisionError

    def skips(self) -> None:
        """Skip."""
        raise SkipTest("as it should")

    def to_do_fails(self) -> None:
        """Fail as was expected."""
        self.fail("as it should")

    def to_do_passes(self) -> None:
        """Pass although it was not expected to."""


for _method in (Sample.to_do_fails, Sample.to_do_passes):
    _method.todo = "later"  # type: ignore[attr-defined] # how trial marks a test


class LongSample(Sample):
    """The same, as if it stood where tests take longest."""

    __module__ = f"tests.test_{LONGEST[-1]}"


class CountTests(SynchronousTestCase):
    """Tests are counted by how they ended."""

    def counted(self, *methods: str) -> Count:
        """Run these tests of the sample and count them."""
        result = TestResult()
        unittest.TestSuite(Sample(method) for method in methods).run(result)
        self.flushLoggedErrors(ZeroDivisionError)
        return count(result)

    def test_each_way(self) -> None:
        """Each test counts once; errors and all "to do" tests count as failed."""
        self.assertEqual(self.counted("passes"), Count(1, 0, 0))
        self.assertEqual(self.counted("fails"), Count(0, 1, 0))
        self.assertEqual(self.counted("errs"), Count(0, 1, 0))
        self.assertEqual(self.counted("skips"), Count(0, 0, 1))
        self.assertEqual(self.counted("to_do_fails"), Count(0, 1, 0))
        self.assertEqual(self.counted("to_do_passes"), Count(0, 1, 0))
        self.assertEqual(
            self.counted("passes", "skips", "fails", "errs"), Count(1, 2, 1)
        )

    def test_nothing_found(self) -> None:
        """A run that found no test has failed."""
        self.assertEqual(self.counted(), Count(0, 1, 0))

    def test_interrupted(self) -> None:
        """A run that was interrupted has failed, whatever it had done before."""
        result = TestResult()
        Sample("passes").run(result)
        result.stop()
        self.assertEqual(count(result), Count(1, 1, 0))

    def test_exit_status(self) -> None:
        """Failures are never let through, and skipped tests not in CI."""
        self.assertEqual(Count(5, 0, 0).exit_status(in_ci=True), 0)
        self.assertEqual(Count(5, 0, 1).exit_status(in_ci=False), 0)
        self.assertEqual(Count(5, 0, 1).exit_status(in_ci=True), 1)
        self.assertEqual(Count(5, 1, 0).exit_status(in_ci=False), 1)
        self.assertEqual(Count(0, 0, 0).exit_status(in_ci=False), 1)

    def test_closing_line(self) -> None:
        """The closing line has the three counts in words."""
        self.assertEqual(str(Count(3, 2, 1)), "3 passed, 2 failed, 1 skipped")


class DealerTests(SynchronousTestCase):
    """Tests are dealt to workers so that none of them waits for the others."""

    def setUp(self) -> None:
        """Take tests of two modules, one of which takes long."""
        self.short = [Sample("passes") for _ in range(3)]
        self.long = [LongSample("passes") for _ in range(3)]
        self.dealer = Dealer()
        self.dealer.add([*self.short, *self.long])

    def test_alone(self) -> None:
        """One worker is dealt everything once, module by module, the longest first."""
        self.assertEqual(list(self.dealer.deal()), self.long + self.short)

    def test_together(self) -> None:
        """Two workers do a module each, and then what is left of the other's."""
        one, other = self.dealer.deal(), self.dealer.deal()
        dealt = [next(one), next(other), next(other), next(other), next(other)]
        self.assertEqual(dealt, [self.long[0], *self.short, self.long[1]])
        self.assertEqual([*one, *other], self.long[2:])

    def test_longest(self) -> None:
        """What is said to take longest is there."""
        for name in LONGEST:
            self.assertIsNotNone(find_spec(f"tests.test_{name}"), name)
