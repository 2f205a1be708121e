"""Passwords: what is hashed, and where."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.access.passwords import (
    HashingPool,
    PasswordMixer,
    check_new_password,
    dummy_hash,
    hash_secret,
    matches,
)
from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    MAX_LINE_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_PASSWORD_BYTES,
    MAX_PASSWORD_CHARACTERS,
    MAX_QUEUED_LOGINS,
    MAX_QUEUED_LOGINS_PER_ADDRESS,
    MAX_TAG_CHARACTERS,
)
from tests.support import reactor

ROOT = Path(__file__).resolve().parent.parent

PASSWORD_KEY = b"p" * 32
MAILBOX_KEY = b"m" * 32
MIXER = PasswordMixer(PASSWORD_KEY, MAILBOX_KEY)
ROUNDS = 4
"""As few as bcrypt allows; what is hashed here is worth nothing."""


class MixerTests(SynchronousTestCase):
    """What becomes of user name and password before they are hashed."""

    def test_bcrypt_secret(self) -> None:
        """It is the base64 of an HMAC-SHA256 over name, zero byte and password."""
        for name, password in (("bob", "pass word"), ("é", "ü"), ("x", "p" * 1024)):
            mixed = hmac.new(PASSWORD_KEY, digestmod=hashlib.sha256)
            mixed.update(name.encode() + bytes(1) + password.encode())
            self.assertEqual(
                MIXER.bcrypt_secret(name, password), base64.b64encode(mixed.digest())
            )

    def test_bcrypt_limits(self) -> None:
        """Neither bcrypt's 72 bytes nor its end at a zero byte can bite."""
        for number in range(500):
            secret = MIXER.bcrypt_secret("bob", "p" * number)
            self.assertEqual(len(secret), 44)
            self.assertNotIn(0, secret)
        long = "p" * 100
        hashed = hash_secret(MIXER.bcrypt_secret("bob", long), ROUNDS)
        self.assertFalse(matches(MIXER.bcrypt_secret("bob", long + "q"), hashed))
        hashed = hash_secret(MIXER.bcrypt_secret("bob", "a\0b"), ROUNDS)
        self.assertFalse(matches(MIXER.bcrypt_secret("bob", "a\0c"), hashed))

    def test_name_and_password_stay_apart(self) -> None:
        """Two pairs that read alike when joined are two secrets."""
        pairs = (("bob", "by"), ("bobb", "y"), ("bobby", ""), ("b", "obby"))
        self.assertEqual(len({MIXER.bcrypt_secret(*pair) for pair in pairs}), 4)
        self.assertEqual(len({MIXER.mailbox_secret(*pair) for pair in pairs}), 4)

    def test_keys_are_apart(self) -> None:
        """What logs in does not tell what opens the box."""
        login = base64.b64decode(MIXER.bcrypt_secret("bob", "word"))
        box = MIXER.mailbox_secret("bob", "word")
        self.assertEqual(len(box), 32)
        self.assertNotEqual(login, box)
        self.assertEqual(box, hmac.digest(MAILBOX_KEY, b"bob\0word", "sha256"))
        other = PasswordMixer(b"q" * 32, b"n" * 32)
        self.assertNotEqual(
            other.bcrypt_secret("bob", "word"), MIXER.bcrypt_secret("bob", "word")
        )
        self.assertNotEqual(other.mailbox_secret("bob", "word"), box)

    def test_repr(self) -> None:
        """The keys are not in what a log might show."""
        self.assertNotIn("ppp", repr(MIXER))
        self.assertNotIn("mmm", repr(MIXER))


class HashTests(SynchronousTestCase):
    """bcrypt."""

    def test_round_trip(self) -> None:
        """A hash matches its secret, no other, and has the cost asked for."""
        hashed = hash_secret(b"secret", 5)
        self.assertTrue(hashed.startswith(b"$2b$05$"))
        self.assertTrue(matches(b"secret", hashed))
        self.assertFalse(matches(b"Secret", hashed))
        self.assertTrue(bcrypt.checkpw(b"secret", hashed))
        self.assertNotEqual(
            hash_secret(b"secret", ROUNDS), hash_secret(b"secret", ROUNDS)
        )

    def test_dummy(self) -> None:
        """A dummy costs what it is told, and is another each time."""
        one, two = dummy_hash(ROUNDS), dummy_hash(ROUNDS)
        self.assertTrue(one.startswith(b"$2b$04$"))
        self.assertNotEqual(one[7:], two[7:])
        for secret in (b"", MIXER.bcrypt_secret("", "")):
            self.assertFalse(matches(secret, one))


class NewPasswordTests(SynchronousTestCase):
    """What may be a password."""

    def test_good(self) -> None:
        """Anything that a ``LOGIN`` line can hold, if it is not only blanks."""
        longest = "x" * MAX_PASSWORD_CHARACTERS
        for password in ("x", " x", "p w ", "ü", "\tx", longest, "世" * len(longest)):
            self.assertIsNone(check_new_password(password))  # type: ignore[func-returns-value] # that it raises nothing is the point

    def test_bad(self) -> None:
        """What cannot be typed back, or is too long, is refused."""
        for password, words in (
            ("", "at least one"),
            (" \t", "at least one"),
            ("a\nb", "one line"),
            ("a\r", "one line"),
            ("a\0", "without NUL"),
            ("\udc80", "UTF-8"),
            ("x" * (MAX_PASSWORD_CHARACTERS + 1), "1024 characters"),
            ("🪿" * MAX_PASSWORD_CHARACTERS, "3072 bytes"),
        ):
            error = self.assertRaises(PeerError, check_new_password, password)
            self.assertIs(error.code, ErrorCode.USAGE)
            self.assertIn(words, error.words)

    def test_room_in_a_line(self) -> None:
        """The longest password of the longest name can be used to log in."""
        name = "🪿" * MAX_NAME_CHARACTERS
        tag = "#" + "x" * MAX_TAG_CHARACTERS
        line = f"{tag} LOGIN {name} ".encode()
        self.assertLessEqual(len(line) + MAX_PASSWORD_BYTES, MAX_LINE_BYTES)


class HashingPoolTests(TestCase):
    """Threads for slow work, with a short queue."""

    def setUp(self) -> None:
        """Start a pool of one thread, and hold that until it is let go."""
        self.pool = HashingPool(reactor, threads=1)
        self.pool.start()
        self.go_on = threading.Event()
        self.stopped = False
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Let the thread end."""
        self.go_on.set()
        if not self.stopped:
            self.stopped = True
            self.pool.stop()

    def hold(self, address: str) -> Deferred[bool]:
        """Queue something that takes until it is told to go on."""
        return self.pool.run(address, self.go_on.wait, 60)

    def assert_busy(self, address: str) -> None:
        """No more work is taken."""
        error = self.assertRaises(PeerError, self.pool.run, address, int)
        self.assertIs(error.code, ErrorCode.BUSY)

    async def test_result(self) -> None:
        """Work is done in another thread, of lower priority, with its arguments."""
        before = os.getpriority(os.PRIO_PROCESS, 0)
        thread, niceness = await self.pool.run("here", _where_am_i)
        self.assertNotEqual(thread, threading.get_ident())
        self.assertEqual(niceness, max(10, before))
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, 0), before)
        number = await self.pool.run("here", int, "ff", base=16)
        self.assertEqual(number, 255)

    def test_never_less_nice(self) -> None:
        """The threads of a server that is very nice stay as nice as it is."""
        code = (
            "import os, threading\n"
            "from securerecv.access.passwords import _lower_priority\n"
            "os.nice(15)\n"
            "before = os.getpriority(os.PRIO_PROCESS, 0)\n"
            "_lower_priority()\n"
            "print(before, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))"
        )
        said = subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, text=True, timeout=60
        )
        before, after = said.split()
        self.assertEqual(before, after)

    async def test_error(self) -> None:
        """What work raises reaches who asked for it, and frees its place."""
        for _ in range(MAX_QUEUED_LOGINS + 1):
            error = await self.assertFailure(self.pool.run("x", int, "x"), ValueError)
            self.assertIsInstance(error, ValueError)

    async def test_limit_per_address(self) -> None:
        """One address may queue so much and no more; then it may again."""
        held = [self.hold("here") for _ in range(MAX_QUEUED_LOGINS_PER_ADDRESS)]
        self.assert_busy("here")
        held.append(self.hold("there"))
        self.go_on.set()
        results: Any = await DeferredList(held)
        self.assertEqual(results, [(True, True)] * len(held))
        self.assertEqual(await self.pool.run("here", int), 0)

    async def test_limit_in_all(self) -> None:
        """All addresses together may queue so much; then they may again."""
        held = [self.hold(f"{number}") for number in range(MAX_QUEUED_LOGINS)]
        self.assert_busy("another")
        self.go_on.set()
        await DeferredList(held)
        again = [self.pool.run(f"{n}", int) for n in range(MAX_QUEUED_LOGINS)]
        results: Any = await DeferredList(again)
        self.assertEqual(results, [(True, 0)] * MAX_QUEUED_LOGINS)

    async def test_stop(self) -> None:
        """Stopping finishes what has begun, refuses what waits and what comes."""
        begun = threading.Event()

        def work() -> bool:
            begun.set()
            return self.go_on.wait(60)

        first = self.pool.run("here", work)
        second = self.pool.run("here", int)
        begun.wait(60)
        threading.Timer(0.05, self.go_on.set).start()
        self.stopped = True
        self.pool.stop()
        self.assertTrue(await first)
        error: Any = await self.assertFailure(second, PeerError)
        self.assertIs(error.code, ErrorCode.BUSY)
        self.assert_busy("here")


def _where_am_i() -> tuple[int, int]:
    niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    return threading.get_ident(), niceness
