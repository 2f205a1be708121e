"""Slowing down those who guess passwords."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv import limits
from securerecv.access.throttle import Failures, LoginThrottle
from securerecv.errors import ErrorCode, PeerError

FREE = 3
MAX_WAIT_S = 100.0


class FailuresTests(SynchronousTestCase):
    """Failures of one kind of key."""

    def setUp(self) -> None:
        """Count from nothing."""
        self.failures = Failures(FREE, MAX_WAIT_S)

    def fail_times(self, count: int, now_s: float = 0.0) -> None:
        """Fail more than once at the same time."""
        for _ in range(count):
            self.failures.add("key", now_s)

    def test_free(self) -> None:
        """Nobody waits for the failures that are free."""
        self.assertEqual(self.failures.wait_s("key", 0), 0)
        self.fail_times(FREE)
        self.assertEqual(self.failures.wait_s("key", 0), 0)

    def test_growing(self) -> None:
        """Each failure after that doubles the wait, up to the longest."""
        self.fail_times(FREE)
        waits = []
        for _ in range(8):
            self.fail_times(1)
            waits.append(self.failures.wait_s("key", 0))
        self.assertEqual(waits, [2, 4, 8, 16, 32, 64, MAX_WAIT_S, MAX_WAIT_S])
        self.fail_times(5000)
        self.assertEqual(self.failures.wait_s("key", 0), MAX_WAIT_S)

    def test_wait_passes(self) -> None:
        """The wait counts from the last failure, and is over when it is over."""
        self.fail_times(FREE + 3, now_s=1000)
        self.assertEqual(self.failures.wait_s("key", 1000), 8)
        self.assertEqual(self.failures.wait_s("key", 1007.5), 0.5)
        self.assertEqual(self.failures.wait_s("key", 1008), 0)
        self.assertEqual(self.failures.wait_s("key", 5000), 0)

    def test_forgiven_with_time(self) -> None:
        """Failures are forgiven one by one, and never more than there are."""
        self.fail_times(FREE + 3)
        later = 2 * limits.FAILURE_FORGIVEN_AFTER_S
        self.fail_times(1, now_s=later)
        self.assertEqual(self.failures.wait_s("key", later), 4)
        much_later = later + 1_000_000
        self.fail_times(FREE, now_s=much_later)
        self.assertEqual(self.failures.wait_s("key", much_later), 0)
        self.fail_times(1, now_s=much_later)
        self.assertEqual(self.failures.wait_s("key", much_later), 2)

    def test_one_at_a_time(self) -> None:
        """Who fails no more often than is forgiven never waits."""
        for number in range(100):
            now_s = number * limits.FAILURE_FORGIVEN_AFTER_S
            self.assertEqual(self.failures.wait_s("key", now_s), 0)
            self.fail_times(1, now_s)

    def test_forgive(self) -> None:
        """A key that is forgiven is as new; one that is unknown stays so."""
        self.fail_times(FREE + 3)
        self.failures.forgive("key")
        self.failures.forgive("other")
        self.assertEqual(self.failures.wait_s("key", 0), 0)

    def test_keys_are_apart(self) -> None:
        """One key's failures are not another's."""
        self.fail_times(FREE + 3)
        self.assertEqual(self.failures.wait_s("other", 0), 0)

    def test_bounded(self) -> None:
        """However many keys fail, the one whose failure is oldest is forgotten."""
        self.fail_times(FREE + 3)
        for number in range(FREE + 3):
            self.failures.add("fresh", number)
        for number in range(limits.MAX_THROTTLE_KEYS - 2):
            self.failures.add(f"{number}", 0)
        self.assertGreater(self.failures.wait_s("key", 0), 0)
        self.fail_times(1)
        self.failures.add("one more", 0)
        self.assertEqual(len(self.failures._counts), limits.MAX_THROTTLE_KEYS)
        self.assertGreater(self.failures.wait_s("key", 0), 0)
        self.assertEqual(self.failures.wait_s("fresh", 0), 0)


class LoginThrottleTests(SynchronousTestCase):
    """Whose failures make whom wait."""

    def setUp(self) -> None:
        """Begin without any failure."""
        self.throttle = LoginThrottle()

    def wait_s(self, address: str, account: str, now_s: float = 0.0) -> int:
        """Ask for a login; 0 if it may be tried."""
        try:
            self.throttle.check(address, account, now_s)
        except PeerError as error:
            self.assertIs(error.code, ErrorCode.RATE)
            words = error.words.split()
            self.assertEqual(words[-1], "s")
            return int(words[-2])
        return 0

    def test_account_and_address(self) -> None:
        """Guessing one account from one address is slowed down first."""
        for _ in range(limits.FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS):
            self.assertEqual(self.wait_s("here", "alice"), 0)
            self.throttle.failed("here", "alice", 0)
        self.assertEqual(self.wait_s("here", "alice"), 0)
        self.throttle.failed("here", "alice", 0)
        self.assertEqual(self.wait_s("here", "alice"), 2)
        self.assertEqual(self.wait_s("here", "alice", 0.5), 2)
        self.assertEqual(self.wait_s("here", "alice", 2), 0)
        self.assertEqual(self.wait_s("here", "bob"), 0)
        self.assertEqual(self.wait_s("there", "alice"), 0)

    def test_address(self) -> None:
        """Guessing many accounts from one address is slowed down, too."""
        for number in range(limits.FREE_FAILURES_PER_ADDRESS + 1):
            self.assertEqual(self.wait_s("here", f"user{number}"), 0)
            self.throttle.failed("here", f"user{number}", 0)
        self.assertEqual(self.wait_s("here", "alice"), 2)
        self.assertEqual(self.wait_s("there", "alice"), 0)

    def fail_from_everywhere(self, count: int) -> None:
        """Let many addresses guess the password of one account."""
        for number in range(count):
            self.throttle.failed(f"address{number}", "alice", 0)

    def test_account(self) -> None:
        """Guessing one account from many addresses is slowed down for all."""
        self.fail_from_everywhere(limits.FREE_FAILURES_PER_ACCOUNT)
        self.assertEqual(self.wait_s("here", "alice"), 0)
        self.fail_from_everywhere(1)
        self.assertEqual(self.wait_s("here", "alice"), 2)
        self.assertEqual(self.wait_s("here", "bob"), 0)
        self.fail_from_everywhere(100)
        longest = limits.MAX_ACCOUNT_LOGIN_WAIT_S
        self.assertEqual(self.wait_s("here", "alice"), longest)

    def test_at_home(self) -> None:
        """Where the account has logged in, others' failures keep it from nothing."""
        self.throttle.succeeded("home", "alice")
        self.fail_from_everywhere(limits.FREE_FAILURES_PER_ACCOUNT + 100)
        self.assertEqual(self.wait_s("home", "alice"), 0)
        self.assertGreater(self.wait_s("here", "alice"), 0)
        for _ in range(limits.FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS + 1):
            self.throttle.failed("home", "alice", 0)
        self.assertEqual(self.wait_s("home", "alice"), 2)

    def test_success_forgives(self) -> None:
        """A login forgives the account's failures from there, and no others."""
        for _ in range(limits.FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS + 3):
            self.throttle.failed("here", "alice", 0)
            self.throttle.failed("here", "bob", 0)
        self.throttle.succeeded("here", "alice")
        self.assertEqual(self.wait_s("here", "alice"), 0)
        self.assertEqual(self.wait_s("here", "bob"), 8)

    def test_longest_wait(self) -> None:
        """No wait is longer than its limit."""
        for _ in range(1000):
            self.throttle.failed("here", "alice", 0)
        self.assertEqual(self.wait_s("here", "alice"), limits.MAX_LOGIN_WAIT_S)

    def test_bounded(self) -> None:
        """However many log in, the place of the oldest login is forgotten."""
        for number in range(limits.MAX_THROTTLE_KEYS):
            self.throttle.succeeded(f"address{number}", "alice")
        self.throttle.succeeded("address0", "alice")
        self.throttle.succeeded("one more", "alice")
        self.assertEqual(len(self.throttle._at_home), limits.MAX_THROTTLE_KEYS)
        self.fail_from_everywhere(limits.FREE_FAILURES_PER_ACCOUNT + 100)
        self.assertEqual(self.wait_s("one more", "alice"), 0)
        self.assertEqual(self.wait_s("address0", "alice"), 0)
        self.assertGreater(self.wait_s("address1", "alice"), 0)
