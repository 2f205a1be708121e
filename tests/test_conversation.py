"""One conversation, driven over a pipe in memory and with a clock of the tests."""

from __future__ import annotations

from typing import Any, cast

from twisted.cred.checkers import (
    AllowAnonymousAccess,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from securerecv import limits
from securerecv.access.checker import PeerCredentials
from securerecv.access.passwords import PasswordMixer
from securerecv.access.realm import ReceiverRealm
from securerecv.access.throttle import LoginThrottle
from securerecv.errors import StorageError
from securerecv.intake.announcer import Announcer
from securerecv.intake.desk import Desk
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Messages
from securerecv.intake.passwordchange import PasswordChange
from securerecv.intake.presence import Presence
from securerecv.intake.sealedboxes import SealedBoxes
from securerecv.intake.tokens import Tokens
from securerecv.net.conversation import Conversation
from securerecv.net.transfers import StreamTransfers
from securerecv.vault.arrivals import Group, Refusals
from securerecv.vault.store import Store
from securerecv.wire.session import Session, Terms
from securerecv.wire.verbs import Standing
from tests.memoryfiles import MemoryFiles
from tests.support import allowance

TOTAL = 64 * 1024 * 1024
TERMS = Terms(1_000_000, 5000, 5, anonymous=True, sealing_key=bytes(32))


class SlowStore:
    """
    A store whose commits take until the test ends them.

    Attributes:
        commits: the messages that wait, and what tells that they are kept.
    """

    def __init__(self) -> None:
        self.commits: list[tuple[Group, Deferred[Refusals]]] = []

    def keep(self, group: Group) -> Deferred[Refusals]:
        """See `Store.keep`."""
        done: Deferred[Refusals] = Deferred()
        self.commits.append((group, done))
        return done

    def find_account(self, name: str) -> Deferred[None]:
        """See `Store.find_account`; nobody here has an account."""
        return succeed(None)

    def commit(self, index: int = 0) -> None:
        """End a commit."""
        self.commits.pop(index)[1].callback({})


@implementer(ICredentialsChecker)
class SlowDoor:
    """
    Checks passwords at once, but lets carol wait.

    Attributes:
        opened: lets carol in.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        self.opened: Deferred[bytes | tuple[()]] = Deferred()
        self._users = InMemoryUsernamePasswordDatabaseDontUse(
            alice=b"word", bob=b"word"
        )

    def requestAvatarId(
        self, credentials: PeerCredentials
    ) -> Deferred[bytes | tuple[()]]:
        """Check a login."""
        if credentials.username == b"carol":
            return self.opened
        found: Deferred[bytes | tuple[()]] = self._users.requestAvatarId(credentials)
        return found


class House:
    """A desk with all that belongs to it, but without a database."""

    def __init__(self, clock: Any = None) -> None:
        self.clock = Clock() if clock is None else clock
        self.budget = allowance(TOTAL)
        self.announcer = Announcer()
        self.files = MemoryFiles()
        self.slow_store = SlowStore()
        store = cast(Store, self.slow_store)
        self.presence = Presence(store)
        self.door = SlowDoor()
        # Nothing here opens a box, so none of the following needs a pool.
        mailboxes = cast(Mailboxes, None)
        seconds = self.clock.seconds
        self.desk = Desk(
            portal=Portal(ReceiverRealm(), [self.door, AllowAnonymousAccess()]),
            mixer=PasswordMixer(b"p" * 32, b"m" * 32),
            throttle=LoginThrottle(),
            announcer=self.announcer,
            messages=Messages(
                SealedBoxes(store, mailboxes, 5), self.announcer, seconds
            ),
            password_change=cast(PasswordChange, None),
            tokens=cast(Tokens, None),
            files=self.files,
            presence=self.presence,
            seconds=seconds,
        )

    def enter(self) -> Peer:
        """Connect, and take the greeting."""
        peer = Peer(self)
        peer.conversation.start()
        peer.hear()
        return peer

    def enter_as(self, name: str) -> Peer:
        """Connect and log in."""
        peer = self.enter()
        assert peer.ask(f"LOGIN {name} word\n") == f"+OK you are {name}\n"
        return peer

    def enter_anonymously(self) -> tuple[Peer, str]:
        """Connect and go on anonymously; the address is returned, too."""
        peer = self.enter()
        return peer, peer.ask("ANON\n").removeprefix("+OK ").strip()


class Peer:
    """
    The other end of a conversation, and the pipe between.

    Attributes:
        capacity: bytes that the pipe takes before it is full.
        is_reading: the server reads what is said here.
        is_closed: the server has hung up when all was sent.
        is_aborted: the server has hung up at once.
        came_in: how often the server noticed that somebody came in.
    """

    def __init__(self, house: House) -> None:
        self.capacity = 1 << 60
        self.is_reading = True
        self.is_closed = False
        self.is_aborted = False
        self.came_in = 0
        self.heard = b""
        self._house = house
        self._is_full = False
        self.session = Session(TERMS, house.budget, house.clock.seconds())
        self.conversation = Conversation(
            house.desk,
            self.session,
            "here",
            self,
            house.clock,
            self._note,
            StreamTransfers,
        )

    def _note(self, _standing: Standing) -> None:
        self.came_in += 1

    # -- the pipe, as the conversation sees it ---------------------------------------

    def write(self, data: bytes) -> None:
        """Take what the server says; tell it when that is too much."""
        assert not self.is_closed
        self.heard += data
        if len(self.heard) > self.capacity and not self._is_full:
            self._is_full = True
            self.conversation.peer_is_slow()

    def pause(self) -> None:
        """Stop reading."""
        assert self.is_reading
        self.is_reading = False

    def resume(self) -> None:
        """Read again."""
        assert not self.is_reading
        self.is_reading = True

    def close(self) -> None:
        """Hang up when everything is sent."""
        assert not self.is_closed
        self.is_closed = True

    def abort(self) -> None:
        """Hang up now."""
        if not self.is_aborted:
            self.is_aborted = True
            self.conversation.over()

    # -- what the peer does ---------------------------------------------------------

    def say(self, data: bytes | str) -> None:
        """Say something, which the server reads at once."""
        self.conversation.received(data.encode() if isinstance(data, str) else data)

    def hear(self) -> str:
        """Read all that the server has said."""
        heard, self.heard = self.heard, b""
        if self._is_full:
            self._is_full = False
            self.conversation.peer_reads()
        return heard.decode()

    def ask(self, data: bytes | str) -> str:
        """Say something and hear the answer."""
        self.say(data)
        return self.hear()


class TalkTests(SynchronousTestCase):
    """Requests and their answers."""

    def setUp(self) -> None:
        """Open a house."""
        self.house = House()

    def test_greeting(self) -> None:
        """The peer is greeted when the conversation starts, and not before."""
        peer = Peer(self.house)
        self.assertEqual(peer.hear(), "")
        peer.conversation.start()
        self.assertTrue(peer.hear().startswith("* securerecv/1 ready\n"))
        self.assertTrue(peer.is_reading)

    def test_coming_in(self) -> None:
        """Who is let in is noticed once; who is not, not at all."""
        peer = self.house.enter()
        self.assertTrue(peer.ask("LOGIN alice wrong\n").startswith("-ERR auth "))
        self.assertEqual(peer.came_in, 0)
        self.assertEqual(
            peer.ask("LOGIN alice word\nWHOAMI\n"), "+OK you are alice\n+OK alice\n"
        )
        self.assertEqual(peer.came_in, 1)
        self.assertTrue(peer.ask("LOGIN bob word\n").startswith("-ERR not-allowed "))
        self.assertEqual(peer.came_in, 1)

    def test_messages(self) -> None:
        """Messages are answered when they are kept, in their order."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob one\n")
        peer.say("#2 SAY bob two\nPING\n")
        self.assertEqual(peer.hear(), "")
        groups = [group for group, _ in self.house.slow_store.commits]
        ids = [number.hex() for group in groups for number in group.ids]
        self.house.slow_store.commit(1)
        self.assertEqual(peer.hear(), "")
        self.house.slow_store.commit()
        self.assertEqual(peer.hear(), f"+OK {ids[0]}\n#2 +OK {ids[1]}\n+OK pong\n")
        self.assertEqual(self.house.budget.left, TOTAL)

    def test_store_fails(self) -> None:
        """When the store fails, all its messages are refused, and it goes on."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob one\n#2 SAY bob two\n")
        _, done = self.house.slow_store.commits.pop()
        done.errback(StorageError("no"))
        heard = peer.hear().splitlines()
        self.assertTrue(heard[0].startswith("-ERR internal "))
        self.assertTrue(heard[1].startswith("#2 -ERR internal "))
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assertEqual(peer.ask("PING\n"), "+OK pong\n")
        self.assertEqual(self.house.budget.left, TOTAL)

    def test_live(self) -> None:
        """What is said to an anonymous session that watches reaches it at once."""
        watcher, address = self.house.enter_anonymously()
        sender = self.house.enter_as("alice")
        watcher.ask("WATCH\n")
        self.assertRegex(sender.ask(f"SAY {address} hi\n"), r"\A\+OK [0-9a-f]{16}\n\Z")
        self.assertRegex(watcher.hear(), r"\A! MSG [0-9a-f]{16} alice \S+ 2\nhi\r\n\Z")

    def test_to_oneself(self) -> None:
        """Talking to oneself is no trap: push first, then the answer."""
        peer, address = self.house.enter_anonymously()
        peer.ask("WATCH\n")
        heard = peer.ask(f"SAY {address} hi\nPING\n")
        pattern = r"\A! MSG \S+ anon \S+ 2\nhi\r\n\+OK \S+\n\+OK pong\n\Z"
        self.assertRegex(heard, pattern)

    def test_no_recursion(self) -> None:
        """Fifty thousand commands in one go do not exhaust the stack."""
        peer, address = self.house.enter_anonymously()
        heard = peer.ask("WATCH\nUNWATCH\n" * 25_000)
        self.assertEqual(heard, "+OK\n" * 50_000)
        peer.ask("WATCH\n")
        heard = peer.ask(f"SAY {address} hi\nLAST\n" * 2000)
        self.assertEqual(heard.count("\n+OK 0 messages\n"), 2000)
        self.assertEqual(heard.count("! MSG "), 2000)


class PauseTests(SynchronousTestCase):
    """Nothing is queued: the peer has to wait."""

    def setUp(self) -> None:
        """Open a house."""
        self.house = House()

    def test_enough_to_do(self) -> None:
        """While enough messages are under way, nothing more is read."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\n" * (limits.MAX_POSTS_IN_FLIGHT - 1))
        self.assertTrue(peer.is_reading)
        peer.say("SAY bob x\n")
        self.assertFalse(peer.is_reading)
        self.house.slow_store.commit()
        self.assertTrue(peer.is_reading)

    def test_command_waits(self) -> None:
        """While a command waits for messages before it, nothing more is read."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\nWATCH\n")
        self.assertFalse(peer.is_reading)
        self.assertFalse(self.house.announcer.is_heard)
        self.house.slow_store.commit()
        self.assertTrue(peer.is_reading)
        self.assertTrue(self.house.announcer.is_heard)

    def test_peer_does_not_read(self) -> None:
        """Who does not read its answers gets no more of them until it does."""
        peer = self.house.enter_as("alice")
        peer.capacity = 1000
        peer.say("HELP\n" * 1000)
        self.assertFalse(peer.is_reading)
        self.assertLess(len(peer.heard), 100_000)
        heard = ""
        while data := peer.hear():
            heard += data
        self.assertEqual(heard.count("+OK\n"), 1000)
        self.assertTrue(peer.is_reading)

    def test_commits_go_on(self) -> None:
        """Messages that were kept meanwhile are answered when the peer reads."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\n")
        peer.capacity = 10
        peer.say("PING\n" * 3)
        self.house.slow_store.commit()
        self.assertFalse(peer.is_reading)
        peer.say("PING\n")
        self.assertEqual(peer.heard.count(b"+OK pong\n"), 3)
        peer.hear()
        self.assertEqual(peer.hear(), "+OK pong\n")
        self.assertTrue(peer.is_reading)

    def test_unread_too_long(self) -> None:
        """Who does not read for too long is cut off, and not before."""
        peer = self.house.enter_as("alice")
        peer.capacity = 1000
        peer.say("HELP\n")
        self.house.clock.advance(limits.UNREAD_TIMEOUT_S)
        # What is long may take longer.
        self.assertFalse(peer.is_aborted)
        self.house.clock.advance(1)
        self.assertTrue(peer.is_aborted)
        peer.hear()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_reading_resets(self) -> None:
        """Who reads now and then is not cut off."""
        peer = self.house.enter_as("alice")
        peer.capacity = 1000
        for _ in range(5):
            peer.say("HELP\n")
            self.house.clock.advance(limits.UNREAD_TIMEOUT_S - 1)
            peer.hear()
        self.assertFalse(peer.is_aborted)


class WatcherTests(SynchronousTestCase):
    """Watchers who do not keep up."""

    def setUp(self) -> None:
        """Let somebody watch, and somebody send."""
        self.house = House()
        self.sender = self.house.enter_as("bob")

    def send(self, to: str, size: int) -> str:
        """Send a message and have it kept."""
        self.sender.say(b"SEND %b %d\n%b\r\n" % (to.encode(), size, b"x" * size))
        while self.house.slow_store.commits:
            self.house.slow_store.commit()
        return self.sender.hear()

    def test_user(self) -> None:
        """A slow user is cut off rather than left with a gap; the sender goes on."""
        watcher = self.house.enter_as("alice")
        watcher.ask("WATCH\n")
        watcher.capacity = 1000
        sent = 0
        while not watcher.is_aborted:
            self.assertTrue(self.send("alice", 100_000).startswith("+OK "))
            sent += 1
        whole = limits.MAX_UNREAD_PUSH_BYTES // 100_000
        self.assertEqual(watcher.heard.count(b"! MSG "), whole + 1)
        self.assertEqual(sent, whole + 2)
        self.assertFalse(self.house.announcer.is_heard)
        self.assertTrue(self.send("alice", 100_000).startswith("+OK "))

    def test_catches_up(self) -> None:
        """Who reads in the end what it left unread for a while is not cut off."""
        watcher = self.house.enter_as("alice")
        watcher.ask("WATCH\n")
        watcher.capacity = 1000
        most = limits.MAX_UNREAD_PUSH_BYTES // 100_000
        for _ in range(3):
            for _ in range(most):
                self.assertTrue(self.send("alice", 100_000).startswith("+OK "))
            self.assertEqual(watcher.hear().count("! MSG "), most)
        self.assertFalse(watcher.is_aborted)

    def test_anonymous(self) -> None:
        """A slow anonymous session stays, and its senders are told."""
        watcher, address = self.house.enter_anonymously()
        watcher.ask("WATCH\n")
        watcher.capacity = 1000
        answers = [self.send(address, 100_000) for _ in range(20)]
        whole = limits.MAX_UNREAD_PUSH_BYTES // 100_000
        for answer in answers[: whole + 1]:
            self.assertTrue(answer.startswith("+OK "))
        for answer in answers[whole + 1 :]:
            self.assertTrue(answer.startswith("-ERR busy "))
        self.assertFalse(watcher.is_aborted)
        self.assertEqual(watcher.hear().count("! MSG "), whole + 1)
        self.assertTrue(self.send(address, 10).startswith("+OK "))
        self.assertEqual(watcher.hear().count("! MSG "), 1)

    def test_watching_while_busy(self) -> None:
        """What comes in stands before, behind or between answers."""
        watcher = self.house.enter_as("alice")
        watcher.ask("WATCH\n")
        watcher.say("SAY bob x\nSAY bob y\n")
        self.sender.say("SAY alice z\n")
        self.house.slow_store.commit(1)
        self.house.slow_store.commit(0)
        pattern = r"\A! MSG \S+ bob \S+ 1\nz\r\n\+OK \S+\n\+OK \S+\n\Z"
        self.assertRegex(watcher.hear(), pattern)


class EndTests(SynchronousTestCase):
    """How conversations end."""

    def setUp(self) -> None:
        """Open a house."""
        self.house = House()

    def assert_nothing_left(self, peer: Peer) -> None:
        """The peer goes, and leaves nothing behind."""
        peer.conversation.over()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertFalse(self.house.announcer.is_heard)
        self.assertEqual(self.house.presence._inside, {})
        self.assertEqual(self.house.budget.left, TOTAL)

    def test_silent_newcomer(self) -> None:
        """A peer that never logs in is dropped at the limit, not before."""
        peer = self.house.enter()
        self.house.clock.advance(limits.LOGIN_TIMEOUT_S - 1)
        self.assertEqual((peer.hear(), peer.is_closed), ("", False))
        self.house.clock.advance(1)
        self.assertTrue(peer.hear().startswith("-ERR timeout "))
        self.assertTrue(peer.is_closed)
        self.assert_nothing_left(peer)

    def test_half_a_request(self) -> None:
        """Nor does half a request keep a conversation open."""
        peer = self.house.enter_as("alice")
        peer.say("SEND bob 10\nabc")
        self.house.clock.advance(limits.REQUEST_TIMEOUT_S - 1)
        self.assertFalse(peer.is_closed)
        self.house.clock.advance(1.1)
        self.assertTrue(peer.is_closed)
        self.assert_nothing_left(peer)

    def test_idle(self) -> None:
        """The clock of an idle peer begins anew with each request."""
        peer = self.house.enter_as("alice")
        for _ in range(3):
            self.house.clock.advance(limits.IDLE_TIMEOUT_S - 1)
            self.assertEqual(peer.ask("PING\n"), "+OK pong\n")
        self.house.clock.advance(limits.IDLE_TIMEOUT_S - 1)
        self.assertFalse(peer.is_closed)
        self.house.clock.advance(1)
        self.assertTrue(peer.is_closed)
        self.assert_nothing_left(peer)

    def test_watcher_stays(self) -> None:
        """Who watches may be silent, until it stops watching."""
        peer = self.house.enter_as("alice")
        peer.ask("WATCH\n")
        self.house.clock.advance(100 * limits.IDLE_TIMEOUT_S)
        self.assertFalse(peer.is_closed)
        self.assertEqual(peer.ask("UNWATCH\n"), "+OK\n")
        self.house.clock.advance(limits.IDLE_TIMEOUT_S)
        self.assertTrue(peer.is_closed)
        self.assert_nothing_left(peer)

    def test_slow_store(self) -> None:
        """Nobody is late while the store is."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\n")
        self.house.clock.advance(10 * limits.IDLE_TIMEOUT_S)
        self.assertFalse(peer.is_closed)
        self.house.slow_store.commit()
        self.assertTrue(peer.hear().startswith("+OK "))
        self.assert_nothing_left(peer)

    def test_quit(self) -> None:
        """``QUIT`` is answered behind all before it; then the server hangs up."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\nQUIT\nPING\n")
        self.assertFalse(peer.is_closed)
        self.house.slow_store.commit()
        self.assertRegex(peer.hear(), r"\A\+OK [0-9a-f]{16}\n\+OK goodbye\n\Z")
        self.assertTrue(peer.is_closed)
        self.assertEqual(peer.ask("PING\n"), "")
        self.assert_nothing_left(peer)

    def test_peer_does_not_hang_up(self) -> None:
        """Who does not hang up after the end, too, is cut off."""
        peer = self.house.enter_as("alice")
        peer.ask("QUIT\n")
        self.house.clock.advance(limits.UNREAD_TIMEOUT_S / 2)
        peer.say("PING\n")
        peer.conversation.peer_reads()
        self.house.clock.advance(limits.UNREAD_TIMEOUT_S / 2 - 1)
        self.assertFalse(peer.is_aborted)
        self.house.clock.advance(1)
        self.assertTrue(peer.is_aborted)
        self.assert_nothing_left(peer)

    def test_dismiss(self) -> None:
        """Who is sent home is told why, gets what is due, and no more."""
        peer = self.house.enter_as("alice")
        peer.say("SAY bob x\nSAY bob y\n")
        peer.conversation.dismiss("good night")
        self.assertFalse(peer.is_closed)
        peer.say("SAY bob z\n")
        peer.conversation.dismiss("good night")
        self.house.slow_store.commit()
        self.assertRegex(peer.hear(), r"\A! CLOSING good night\n\+OK \S+\n\+OK \S+\n\Z")
        self.assertTrue(peer.is_closed)
        self.assertEqual(self.house.slow_store.commits, [])
        self.assert_nothing_left(peer)

    def test_dismiss_newcomer(self) -> None:
        """Who has said nothing is sent home at once."""
        peer = self.house.enter()
        peer.conversation.dismiss("good night")
        self.assertEqual(peer.hear(), "! CLOSING good night\n")
        self.assertTrue(peer.is_closed)
        self.assert_nothing_left(peer)

    def test_lost_with_messages_in_flight(self) -> None:
        """When the connection is lost, what was sent is still kept, and let go."""
        peer = self.house.enter_as("alice")
        peer.ask("WATCH\n")
        peer.say("SAY bob x\nSEND bob 9\nabc")
        peer.conversation.over()
        self.assertEqual(self.house.budget.left, TOTAL - 1)
        self.house.slow_store.commit()
        self.assertEqual(peer.hear(), "")
        self.assert_nothing_left(peer)

    def test_lost_during_login(self) -> None:
        """Who is gone before the login is done is not in, and logged out."""
        peer = self.house.enter()
        peer.say("LOGIN carol word\n")
        self.assertFalse(peer.is_reading)
        self.house.clock.advance(2 * limits.LOGIN_TIMEOUT_S)
        self.assertFalse(peer.is_closed)
        peer.conversation.over()
        self.house.door.opened.callback(b"carol")
        self.assertEqual((peer.hear(), peer.came_in), ("", 0))
        self.assert_nothing_left(peer)

    def test_slow_login(self) -> None:
        """A login may take its time, and what follows waits for it."""
        peer = self.house.enter()
        peer.say("LOGIN carol word\nWHOAMI\n")
        self.assertEqual(peer.hear(), "")
        self.house.door.opened.callback(b"carol")
        self.assertEqual(peer.hear(), "+OK you are carol\n+OK carol\n")
        self.assertTrue(peer.is_reading)
        self.assert_nothing_left(peer)
