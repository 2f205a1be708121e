"""What several tests need: receivers to talk to, and ends to talk with."""

from __future__ import annotations

import resource
import socket
from io import StringIO
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.intake.accountbook import open_account_book
from securerecv.intake.locksmith import WorkFactors
from securerecv.log import log_observer
from securerecv.net.tls import ClientTls
from securerecv.net.tlsport import ListenTls, listen_tls
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.wire.budget import Budget, Share

reactor: Any = _reactor

QUICK = WorkFactors(bcrypt_rounds=4, scrypt_log_n=4)
"""Passwords that take no time; what they guard here is worth nothing."""


def has_ipv6() -> bool:
    """Tell whether this machine speaks IPv6 at all: some containers do not."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HOSTS = ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",)
"""Addresses of this machine, in each of its families."""


def new_folder(test: SynchronousTestCase) -> Path:
    """Make a data folder path that is the test's own and does not exist yet."""
    return Path(test.mktemp()).absolute()


def written_log(test: SynchronousTestCase) -> StringIO:
    """Gather what is logged during a test, as the server would write it."""
    written = StringIO()
    observer = log_observer(written, "text")
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return written


def allowance(total: int) -> Share:
    """Make an allowance for payloads that nobody else shares."""
    return Budget(4 * total).share_of("")


def add_accounts(
    settings: Settings, work: WorkFactors = QUICK, **passwords: str
) -> dict[str, str]:
    """Make accounts; their recovery codes are returned by name."""
    book = open_account_book(settings, work)
    try:
        return {name: book.add(name, word) for name, word in passwords.items()}
    finally:
        book.close()


def remove_account(settings: Settings, name: str) -> None:
    """Delete an account as the operator would, beside a running receiver."""
    book = open_account_book(settings, QUICK)
    try:
        book.remove(name)
    finally:
        book.close()


def start_receiver(
    test: TestCase,
    settings: Settings,
    work: WorkFactors = QUICK,
    listen: ListenTls = listen_tls,
) -> Receiver:
    """
    Start a receiver in this process; it is stopped when the test ends.

    Scanning is for those tests that name a scanner.
    """
    if settings.scanner == "auto":
        settings = evolve(settings, scanner="none")
    receiver = Receiver(settings, reactor, work, listen=listen)
    receiver.privilegedStartService()
    receiver.startService()
    test.addCleanup(lambda: receiver.stopService() if receiver.running else None)
    return receiver


class Talker(Protocol):
    """
    A client with no manners of its own: says what it is told, keeps what it hears.

    Attributes:
        heard: bytes that were received and not yet taken.
        lost: fires when the connection is gone.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()
        self.is_lost = False
        self._waiting: list[tuple[int | bytes, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.heard += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell those who wait."""
        self.is_lost = True
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done.errback(ConnectionError(f"lost after {self.heard!r}"))
        self.lost.callback(None)

    def say(self, text: str | bytes) -> None:
        """Send a line, or bytes as they are."""
        transport: Any = self.transport
        transport.write(text if isinstance(text, bytes) else f"{text}\n".encode())

    def hang_up(self) -> Deferred[None]:
        """Close the connection and wait until it is."""
        transport: Any = self.transport
        transport.abortConnection()
        return self.lost

    def take(self, wanted: int | bytes) -> Deferred[bytes]:
        """Wait for a number of bytes, or for everything up to some bytes."""
        done: Deferred[bytes] = Deferred()
        self._waiting.append((wanted, done))
        self._look()
        return done

    async def line(self) -> str:
        """Wait for one line, without its end."""
        return (await self.take(b"\n"))[:-1].decode()

    async def answer(self) -> list[str]:
        """Wait for the lines of one answer; payloads stand behind their lines."""
        lines = []
        while True:
            line = await self.line()
            lines.append(line)
            words = line.split(" ")
            if words[0].startswith("#"):
                words = words[1:]
            if words[0] in ("+OK", "-ERR"):
                return lines
            if words[1] == "MSG":
                payload = await self.take(int(words[-1]) + 2)
                lines.append(payload[:-2].decode())

    async def ask(self, text: str | bytes) -> list[str]:
        """Say something and wait for the answer."""
        self.say(text)
        return await self.answer()

    def _look(self) -> None:
        while self._waiting:
            wanted, done = self._waiting[0]
            if isinstance(wanted, int):
                size = wanted if len(self.heard) >= wanted else 0
            else:
                size = self.heard.find(wanted) + len(wanted)
                size = size if wanted in self.heard else 0
            if not size:
                return
            self._waiting.pop(0)
            found, self.heard = self.heard[:size], self.heard[size:]
            done.callback(found)


GREETING_LINES = 4


async def connect(test: TestCase, receiver: Receiver) -> Talker:
    """Connect over TLS and take the greeting."""
    talker: Talker = await dial(test, receiver.ports["tcp"][1])
    for _ in range(GREETING_LINES):
        await talker.line()
    return talker


async def dial(test: TestCase, port: int) -> Talker:
    """Connect to a port of this machine over TLS."""
    talker = Talker()
    tls = TLSMemoryBIOFactory(ClientTls(), True, _Only(talker), clock=reactor)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    await connectProtocol(endpoint, tls.buildProtocol(None))
    test.addCleanup(lambda: None if talker.is_lost else talker.hang_up())
    return talker


def dialling(test: TestCase, port: int) -> Deferred[Talker]:
    """Begin to connect; for many at once."""
    return ensureDeferred(dial(test, port))


async def anonymous(test: TestCase, receiver: Receiver) -> tuple[Talker, str]:
    """Connect and go on anonymously; the address is returned too."""
    talker = await connect(test, receiver)
    answer = await talker.ask("ANON")
    return talker, answer[-1].removeprefix("+OK ")


async def logged_in(test: TestCase, receiver: Receiver, name: str, word: str) -> Talker:
    """Connect and log in."""
    talker = await connect(test, receiver)
    answer = await talker.ask(f"LOGIN {name} {word}")
    test.assertTrue(answer[-1].startswith("+OK"), answer)
    return talker


async def pause(seconds: float) -> None:
    """Let the reactor run for a while."""
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    await done


def resident_bytes() -> int:
    """Give the memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class _Only(Factory):
    """A factory of one protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        """Give it."""
        return self._protocol
