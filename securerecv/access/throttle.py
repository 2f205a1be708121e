"""
Slowing down those who guess passwords.

Failures are counted for the address, for the account, and for the two
together.  Some are free; after that each doubles the wait until the next try.
The count for the account alone, which others can drive up, is the most lenient
and its wait the shortest, and it does not bind an address from which the
account has logged in: nobody can lock a user out.
"""

import math
from collections import OrderedDict

from attrs import define

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    FAILURE_FORGIVEN_AFTER_S,
    FREE_FAILURES_PER_ACCOUNT,
    FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS,
    FREE_FAILURES_PER_ADDRESS,
    MAX_ACCOUNT_LOGIN_WAIT_S,
    MAX_LOGIN_WAIT_S,
    MAX_THROTTLE_KEYS,
)


@define
class _Count:
    failures: float
    at_s: float

    def now(self, now_s: float) -> float:
        forgiven = (now_s - self.at_s) / FAILURE_FORGIVEN_AFTER_S
        return max(0.0, self.failures - forgiven)


class Failures:
    """
    Counts failures by key and says how long each key has to wait.

    Args:
        free: failures without a wait.
        max_wait_s: the longest wait.
    """

    def __init__(self, free: int, max_wait_s: float) -> None:
        self._free = free
        self._max_wait_s = max_wait_s
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """Seconds until the key may try again; 0 for at once."""
        count = self._counts.get(key)
        if count is None:
            return 0.0
        over = count.failures - self._free
        if over <= 0:
            return 0.0
        wait_s = min(self._max_wait_s, math.exp2(min(over, 60.0)))
        return max(0.0, count.at_s + wait_s - now_s)

    def add(self, key: str, now_s: float) -> None:
        """Count one more."""
        count = self._counts.pop(key, None)
        before = count.now(now_s) if count else 0.0
        self._counts[key] = _Count(before + 1, now_s)
        if len(self._counts) > MAX_THROTTLE_KEYS:
            self._counts.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget a key."""
        self._counts.pop(key, None)


class LoginThrottle:
    """Decides whether a login may be tried now."""

    def __init__(self) -> None:
        self._of_address = Failures(FREE_FAILURES_PER_ADDRESS, MAX_LOGIN_WAIT_S)
        self._of_account = Failures(FREE_FAILURES_PER_ACCOUNT, MAX_ACCOUNT_LOGIN_WAIT_S)
        self._of_both = Failures(
            FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS, MAX_LOGIN_WAIT_S
        )
        self._at_home: OrderedDict[str, None] = OrderedDict()

    def check(self, address: str, account: str, now_s: float) -> None:
        """
        Refuse a login that comes too soon.

        Raises:
            PeerError: ``rate``, with the seconds to wait.
        """
        both = f"{address} {account}"
        wait_s = max(
            self._of_address.wait_s(address, now_s), self._of_both.wait_s(both, now_s)
        )
        if both not in self._at_home:
            wait_s = max(wait_s, self._of_account.wait_s(account, now_s))
        if wait_s > 0:
            words = f"too many failed logins; wait {math.ceil(wait_s)} s"
            raise PeerError(ErrorCode.RATE, words)

    def failed(self, address: str, account: str, now_s: float) -> None:
        """Count a failed login."""
        self._of_address.add(address, now_s)
        self._of_account.add(account, now_s)
        self._of_both.add(f"{address} {account}", now_s)

    def succeeded(self, address: str, account: str) -> None:
        """Forgive the account's failures from this address."""
        both = f"{address} {account}"
        self._of_both.forgive(both)
        self._at_home[both] = None
        self._at_home.move_to_end(both)
        if len(self._at_home) > MAX_THROTTLE_KEYS:
            self._at_home.popitem(last=False)
