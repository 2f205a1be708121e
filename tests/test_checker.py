"""twisted.cred: who gets in, and as whom."""

from __future__ import annotations

import time
from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.cred.credentials import Anonymous, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from securerecv.access.checker import BcryptChecker, PeerCredentials
from securerecv.access.passwords import (
    HashingPool,
    PasswordMixer,
    dummy_hash,
    hash_secret,
)
from securerecv.access.realm import Avatar, IReceiverAvatar, ReceiverRealm
from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_QUEUED_LOGINS_PER_ADDRESS
from securerecv.wire.verbs import Standing
from tests.support import reactor

MIXER = PasswordMixer(b"p" * 32, b"m" * 32)
QUICK_ROUNDS = 4
SLOW_ROUNDS = 9


class Passwords:
    """A password file in memory."""

    def __init__(self) -> None:
        self.hashes: dict[str, bytes] = {}

    def add(self, name: str, password: str, rounds: int = QUICK_ROUNDS) -> None:
        """Make an account."""
        secret = MIXER.bcrypt_secret(name, password)
        self.hashes[name] = hash_secret(secret, rounds)

    def password_hash(self, name: str) -> Deferred[bytes | None]:
        """See `securerecv.interfaces.PasswordFile`."""
        return succeed(self.hashes.get(name))


def credentials(name: str, password: str) -> PeerCredentials:
    """Make what a login brings."""
    return PeerCredentials(name.encode(), password.encode(), "127.0.0.1")


class CheckerTests(TestCase):
    """Passwords against bcrypt hashes."""

    def setUp(self) -> None:
        """Make two accounts, and a pool of one thread."""
        self.passwords = Passwords()
        self.passwords.add("alice", "wonder land")
        self.passwords.add("bob", "builder")
        self.pool = HashingPool(reactor, threads=1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.dummy = dummy_hash(QUICK_ROUNDS)
        self.checker = BcryptChecker(self.passwords, MIXER, self.pool, self.dummy)

    async def test_interface(self) -> None:
        """It is a checker like any other of twisted.cred's."""
        self.assertTrue(verifyObject(ICredentialsChecker, self.checker))
        self.assertEqual(self.checker.credentialInterfaces, (IUsernamePassword,))

    async def test_right(self) -> None:
        """The right password brings the one form of the user name."""
        for name in ("alice", "ALICE", "Ａlice"):  # noqa: RUF001 - full width is the point
            found = await self.checker.requestAvatarId(credentials(name, "wonder land"))
            self.assertEqual(found, b"alice")

    async def test_plain_credentials(self) -> None:
        """Credentials of other programs, which have no address, will do."""
        found = await self.checker.requestAvatarId(UsernamePassword(b"bob", b"builder"))
        self.assertEqual(found, b"bob")

    async def test_wrong(self) -> None:
        """Unknown users, wrong passwords and what is no name end all alike."""
        ends = set()
        for name, password in (
            ("alice", "wonderland"),
            ("alice", ""),
            ("alice", "builder"),
            ("bob", "wonder land"),
            ("carol", "wonder land"),
            ("", ""),
            ("anon", "x"),
            ("../alice", "wonder land"),
            ("x" * 1000, "x"),
        ):
            asked = self.checker.requestAvatarId(credentials(name, password))
            error = await self.assertFailure(asked, UnauthorizedLogin)
            ends.add((type(error), str(error)))
        self.assertEqual(ends, {(UnauthorizedLogin, "")})

    async def test_the_dummy_lets_nobody_in(self) -> None:
        """Even who knows what the dummy is a hash of is not let in by it."""
        dummy = hash_secret(MIXER.bcrypt_secret("carol", "word"), QUICK_ROUNDS)
        checker = BcryptChecker(self.passwords, MIXER, self.pool, dummy)
        asked = checker.requestAvatarId(credentials("carol", "word"))
        self.assertIsInstance(
            await self.assertFailure(asked, UnauthorizedLogin), UnauthorizedLogin
        )

    async def test_unknown_users_cost_the_same(self) -> None:
        """A login takes one hash, whether there is such a user or not."""
        self.passwords.add("alice", "wonder land", SLOW_ROUNDS)
        dummy = dummy_hash(SLOW_ROUNDS)
        checker = BcryptChecker(self.passwords, MIXER, self.pool, dummy)
        spent: dict[str, float] = {}
        for name in ("alice", "carol", "../etc"):
            times = []
            for _ in range(3):
                # Of the processor, which others may be using too.
                began = time.process_time()
                asked = checker.requestAvatarId(credentials(name, "wrong"))
                await self.assertFailure(asked, UnauthorizedLogin)
                times.append(time.process_time() - began)
            spent[name] = min(times)
        for name in ("carol", "../etc"):
            self.assertGreater(spent[name], 0.6 * spent["alice"])
            self.assertLess(spent[name], 1.6 * spent["alice"])

    async def test_busy(self) -> None:
        """When too many logins wait, the next is told so, not that it is wrong."""
        waiting = [
            self.checker.requestAvatarId(credentials("bob", "builder"))
            for _ in range(MAX_QUEUED_LOGINS_PER_ADDRESS)
        ]
        asked = self.checker.requestAvatarId(credentials("bob", "builder"))
        error: Any = await self.assertFailure(asked, PeerError)
        self.assertIs(error.code, ErrorCode.BUSY)
        await DeferredList(waiting)
        found = await self.checker.requestAvatarId(credentials("bob", "builder"))
        self.assertEqual(found, b"bob")

    def test_credentials(self) -> None:
        """Credentials can be checked by other checkers, and show no secret."""
        login = credentials("alice", "wonder land")
        self.assertTrue(verifyObject(IUsernamePassword, login))
        self.assertTrue(login.checkPassword(b"wonder land"))
        self.assertFalse(login.checkPassword(b"wonderland"))
        self.assertNotIn("wonder", repr(login))
        self.assertNotIn("alice", repr(login))


class PortalTests(TestCase):
    """Logging in, as whom, and out."""

    def setUp(self) -> None:
        """Make a portal with one account."""
        self.pool = HashingPool(reactor, threads=1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        passwords = Passwords()
        passwords.add("alice", "wonder land")
        dummy = dummy_hash(QUICK_ROUNDS)
        self.checker = BcryptChecker(passwords, MIXER, self.pool, dummy)
        self.portal = Portal(ReceiverRealm(), [self.checker, AllowAnonymousAccess()])

    async def test_user(self) -> None:
        """A user's avatar has the secret of the box, until it logs out."""
        login = credentials("Alice", "wonder land")
        entered: Any = await self.portal.login(login, b"secret", IReceiverAvatar)
        interface, avatar, logout = entered
        self.assertIs(interface, IReceiverAvatar)
        self.assertTrue(verifyObject(IReceiverAvatar, avatar))
        self.assertIs(avatar.standing, Standing.USER)
        self.assertEqual((avatar.name, avatar.secret), ("alice", b"secret"))
        avatar.mailbox = "opened"
        logout()
        self.assertEqual((avatar.secret, avatar.mailbox), (None, None))

    async def test_anonymous(self) -> None:
        """Each anonymous avatar has an address of its own, and no secret."""
        names = set()
        for _ in range(2):
            entered: Any = await self.portal.login(
                Anonymous(), b"ignored", IReceiverAvatar
            )
            _, avatar, logout = entered
            self.assertIs(avatar.standing, Standing.ANONYMOUS)
            self.assertRegex(avatar.name, r"\Aanon-[a-z0-9]{16}\Z")
            self.assertIsNone(avatar.secret)
            names.add(avatar.name)
            logout()
        self.assertEqual(len(names), 2)

    async def test_wrong(self) -> None:
        """Who has the wrong password gets no avatar."""
        asked = self.portal.login(credentials("alice", "x"), None, IReceiverAvatar)
        self.assertIsInstance(
            await self.assertFailure(asked, UnauthorizedLogin), UnauthorizedLogin
        )

    async def test_no_anonymous(self) -> None:
        """Without its checker nobody is anonymous."""
        portal = Portal(ReceiverRealm(), [self.checker])
        asked = portal.login(Anonymous(), None, IReceiverAvatar)
        self.assertIsInstance(
            await self.assertFailure(asked, UnhandledCredentials), UnhandledCredentials
        )


class RealmTests(SynchronousTestCase):
    """The avatars themselves."""

    def test_interfaces(self) -> None:
        """There is one kind of avatar, and no other is promised."""
        realm = ReceiverRealm()
        self.assertTrue(verifyObject(IRealm, realm))
        self.assertRaises(
            NotImplementedError, realm.requestAvatar, b"alice", None, Interface
        )

    def test_without_secret(self) -> None:
        """A login that does not bring the box's secret still is one."""
        for mind in (None, object(), "text"):
            _, avatar, _ = ReceiverRealm().requestAvatar(b"bob", mind, IReceiverAvatar)
            self.assertEqual((avatar.name, avatar.secret), ("bob", None))

    def test_repr(self) -> None:
        """An avatar does not show what opens its box."""
        avatar = Avatar(Standing.USER, "bob", b"secret", "opened")
        self.assertNotIn("secret", repr(avatar))
        self.assertNotIn("opened", repr(avatar))
