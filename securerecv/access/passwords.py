"""
Passwords: mixed with a server key, hashed with bcrypt, off the reactor.

What bcrypt sees is the base64 of an HMAC over user name and password.  So the
user name is part of the hash, bcrypt's limit of 72 bytes and its end at a zero
byte cannot bite, and a stolen table without the server's key is useless.
"""

import base64
import hmac
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import bcrypt
from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    MAX_PASSWORD_BYTES,
    MAX_PASSWORD_CHARACTERS,
    MAX_QUEUED_LOGINS,
    MAX_QUEUED_LOGINS_PER_ADDRESS,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")

BCRYPT_ROUNDS = 12
"""About 0.24 s a guess."""

_NICENESS = 10


@frozen
class PasswordMixer:
    """
    Turns name and password into what is hashed, and what opens the mailbox.

    Attributes:
        password_key: 32 bytes, for what bcrypt sees.
        mailbox_key: 32 bytes, for what scrypt sees; independent, so that
            neither tells anything of the other.
    """

    password_key: bytes = field(repr=False)
    mailbox_key: bytes = field(repr=False)

    def bcrypt_secret(self, name: str, password: str) -> bytes:
        """Give the 44 characters that bcrypt hashes."""
        return base64.b64encode(_mix(self.password_key, name, password))

    def mailbox_secret(self, name: str, password: str) -> bytes:
        """Give the 32 bytes for `securerecv.vault.mailboxkeys`."""
        return _mix(self.mailbox_key, name, password)


def _mix(key: bytes, name: str, password: str) -> bytes:
    # A name holds no zero byte, so name and password cannot run together.
    return hmac.digest(key, name.encode() + b"\0" + password.encode(), "sha256")


def check_new_password(password: str) -> None:
    """
    Refuse what cannot be typed back into a ``LOGIN`` line.

    Raises:
        PeerError: ``usage``, saying what is wrong.
    """
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise PeerError(ErrorCode.USAGE, "a password is UTF-8 text") from None
    if not password.strip():
        words = "a password has at least one character that is no blank"
        raise PeerError(ErrorCode.USAGE, words)
    if len(password) > MAX_PASSWORD_CHARACTERS:
        words = f"a password has at most {MAX_PASSWORD_CHARACTERS} characters"
        raise PeerError(ErrorCode.USAGE, words)
    if size > MAX_PASSWORD_BYTES:
        words = f"a password has at most {MAX_PASSWORD_BYTES} bytes"
        raise PeerError(ErrorCode.USAGE, words)
    if any(character in password for character in "\0\r\n"):
        raise PeerError(ErrorCode.USAGE, "a password is one line, without NUL")


def hash_secret(secret: bytes, rounds: int = BCRYPT_ROUNDS) -> bytes:
    """Hash with bcrypt.  Slow on purpose."""
    return bcrypt.hashpw(secret, bcrypt.gensalt(rounds))


def matches(secret: bytes, hashed: bytes) -> bool:
    """Compare with a bcrypt hash.  Slow on purpose."""
    return bcrypt.checkpw(secret, hashed)


def dummy_hash(rounds: int = BCRYPT_ROUNDS) -> bytes:
    """Make a hash that nothing matches, to be compared with for unknown users."""
    return hash_secret(base64.b64encode(secrets.token_bytes(32)), rounds)


class HashingPool:
    """
    Threads for slow hashes: few, at low priority, with a short queue.

    A flood of logins fills the queue and is refused; it cannot slow down
    messages, whose threads have priority.

    Args:
        reactor: calls back in its thread.
        threads: how many hashes are computed at once.
    """

    def __init__(self, reactor: Any, threads: int = os.cpu_count() or 1) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "securerecv-hashing")
        self._queued: Counter[str] = Counter()
        self._stopping = False

    def start(self) -> None:
        """Accept work."""
        self._pool.start()

    def stop(self) -> None:
        """Refuse what is queued, and wait for the hashes under way."""
        self._stopping = True
        self._pool.stop()

    def run(
        self,
        address: str,
        work: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> "Deferred[_T]":
        """
        Do something slow for a peer.

        Args:
            address: whose queue it counts against.
            work: what to call.
            *args: with what.
            **kwargs: and with what by keyword.

        Raises:
            PeerError: ``busy``; the queue is full, or closed.
        """
        if self._stopping:
            raise _stopping()
        if (
            self._queued.total() >= MAX_QUEUED_LOGINS
            or self._queued[address] >= MAX_QUEUED_LOGINS_PER_ADDRESS
        ):
            words = "too many logins are waiting; try again in a few seconds"
            raise PeerError(ErrorCode.BUSY, words)
        self._queued[address] += 1

        def done(result: Any) -> Any:
            self._queued -= Counter([address])
            return result

        def job() -> _T:
            if self._stopping:
                raise _stopping()
            _lower_priority()
            return work(*args, **kwargs)

        return deferToThreadPool(self._reactor, self._pool, job).addBoth(done)


def _stopping() -> PeerError:
    return PeerError(ErrorCode.BUSY, "the server is stopping")


_thread = threading.local()


def _lower_priority() -> None:
    if not getattr(_thread, "is_nice", False):
        # On Linux niceness belongs to the thread.  A server that is nicer as a
        # whole may not take that back.
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < _NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)
        _thread.is_nice = True
