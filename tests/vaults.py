"""
What the tests of the store share: both databases, owners of boxes, a reactor.

A group of tests that must hold on SQLite and on PostgreSQL is a class that
derives from `VaultTests`; two more classes, with `OnSqlite` and `OnPostgres`
before it, run it.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen
from sqlalchemy import Connection, Engine
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securerecv.vault import accounts, boxes
from securerecv.vault.accounts import Account
from securerecv.vault.arrivals import Arrivals, Group, Refusals
from securerecv.vault.database import database_url, open_database
from securerecv.vault.epochs import MESSAGE_ID_BYTES, EpochReader
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.vault.store import Store
from securerecv.wire.lines import Message, Post
from tests.postgres import postgres

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

_T = TypeVar("_T")

NAME_KEY = b"n" * 32
NOON_S = 1_700_000_000.0 // 86400 * 86400 + 43200
PATIENCE_S = 30.0


class HandReactor:
    """
    Calls back in the thread that waits, and has a clock that is set by hand.

    Attributes:
        now_s: the time, seconds since 1970.
    """

    def __init__(self) -> None:
        self.now_s = NOON_S
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def seconds(self) -> float:
        """Tell the time."""
        return self.now_s

    def callLater(
        self, delay_s: float, what: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        """Call something while somebody waits; nothing here waits for its time."""
        self.callFromThread(what, *args, **kwargs)

    def callFromThread(
        self, what: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        """Call something while somebody waits."""
        self._calls.put(lambda: what(*args, **kwargs))

    def wait(self, done: Deferred[_T]) -> _T:
        """Wait for a Deferred; raise what it fails with."""
        results: list[_T | Failure] = []
        done.addBoth(results.append)
        while not results:
            try:
                call = self._calls.get(timeout=PATIENCE_S)
            except Empty:
                raise TimeoutError from None
            call()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result


@frozen
class Owner:
    """Somebody with a box, and what opens it."""

    name: str
    account: Account
    key: MailboxPrivateKey


def group_of(
    *messages: tuple[str, bytes], sender: str = "anon", when_ms: int = 0
) -> Group:
    """Make a group of messages, each a recipient and a body, with random ids."""
    ids = [secrets.token_bytes(MESSAGE_ID_BYTES) for _ in messages]
    posts = [Post(to, body, "") for to, body in messages]
    return Group(sender, when_ms, ids, posts)


def numbered(to: str, numbers: Iterable[int]) -> Group:
    """Make messages to one box whose bodies are numbers."""
    return group_of(*((to, b"%d" % number) for number in numbers))


def bodies(messages: Iterable[Message]) -> list[bytes]:
    """Give only the bodies."""
    return [message.body for message in messages]


def contents_of(folder: Path) -> dict[str, bytes]:
    """
    Give the content of every file in a folder, by its path.

    Another process reads them: if this one closed a file that SQLite has open
    here, all of SQLite's locks on it would end.
    """
    with tempfile.TemporaryDirectory() as copy:
        subprocess.run(["cp", "-a", f"{folder}/.", copy], check=True)
        return {
            str(path.relative_to(copy)): path.read_bytes()
            for path in Path(copy).rglob("*")
            if path.is_file()
        }


class VaultTests(_Base):
    """
    A new database for each test.

    Attributes:
        reactor: of the stores.
        url: of the database, as ``--store`` takes it.
        data: a data folder, where SQLite keeps its files.
        engine: one connected to it.
    """

    engine: Engine

    def setUp(self) -> None:
        """Make an empty database."""
        super().setUp()
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir(mode=0o700)
        self.reactor = HandReactor()
        self.url = self.new_database()
        self.engine = self.open_engine()

    def new_database(self) -> str:
        """Make a database."""
        raise NotImplementedError

    def open_engine(self, url: str | None = None) -> Engine:
        """Connect to the database; disconnected when the test ends."""
        engine = open_database(database_url(url or self.url, self.data))
        self.addCleanup(engine.dispose)
        return engine

    def open_store(self, keep: int = 5, engine: Engine | None = None) -> Store:
        """Start a store; it is stopped when the test ends."""
        store = Store(engine or self.engine, NAME_KEY, keep, self.reactor)
        store.start()
        self.addCleanup(store.stop)
        return store

    def open_arrivals(
        self, keep: int = 5, engine: Engine | None = None
    ) -> tuple[Arrivals, Connection]:
        """
        Begin to take messages in, after what a crash left is settled.

        Where one engine is used twice, only the second of the two may be used
        any more: the first has crashed.
        """
        connection = (engine or self.engine).connect()
        self.addCleanup(connection.close)
        arrivals = Arrivals(connection, NAME_KEY, keep, self.reactor.seconds)
        arrivals.recover()
        return arrivals, connection

    def add_owner(self, name: str) -> Owner:
        """Make an account that has a box and no password."""
        key = MailboxPrivateKey.generate()
        lookup = accounts.lookup_of(NAME_KEY, name)
        with self.engine.begin() as connection:
            accounts.add(
                connection,
                lookup=lookup,
                password_hash=b"-",
                public_key=key.public_key(),
                wrapped_by_password=b"-",
                wrapped_by_code=b"-",
            )
            account = accounts.find(connection, lookup)
        if account is None:
            self.fail("the account is not there")
        return Owner(name, account, key)

    def remove_owner(self, owner: Owner) -> None:
        """Delete an account over a connection of its own."""
        with self.engine.begin() as connection:
            accounts.remove(connection, owner.account.lookup)

    def slots(self, connection: Connection, owner: Owner) -> list[Message]:
        """Open what has settled in a box, oldest first."""
        with connection.begin():
            sealed, keys = boxes.read(connection, owner.account.id)
        readers = {
            number: EpochReader(owner.key, keys[number], owner.account.lookup)
            for number in {message.epoch_id for message in sealed}
        }
        return [readers[m.epoch_id].open(m.message_id, m.sealed) for m in sealed]

    def send(self, store: Store, *groups: Group) -> list[Refusals]:
        """Keep groups, and wait until they are durable."""
        kept = [store.keep(group) for group in groups]
        return [self.reactor.wait(done) for done in kept]

    def last(self, store: Store, owner: Owner, count: int = 1000) -> list[Message]:
        """Read a box as its owner."""
        return self.reactor.wait(store.last(owner.account, owner.key, count))

    def assert_box(self, store: Store, owner: Owner, expected: Sequence[bytes]) -> None:
        """See that a box holds these bodies, oldest first, and no more."""
        self.assertEqual(bodies(self.last(store, owner)), list(expected))


class OnSqlite(VaultTests):
    """Runs tests on SQLite in a data folder."""

    def new_database(self) -> str:
        """Make it in the data folder."""
        return f"sqlite:///{self.data / 'store.sqlite3'}"


class OnPostgres(VaultTests):
    """Runs tests on a PostgreSQL server."""

    def new_database(self) -> str:
        """Make one on the server of this test run."""
        server = postgres()
        url = server.new_database()
        self.addCleanup(server.drop_database, url)
        return url.render_as_string(hide_password=False)
