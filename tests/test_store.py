"""The store behind its Deferreds, on both databases."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from attrs import evolve
from sqlalchemy import Connection, delete, event, make_url, select, text, update
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import (
    ErrorCode,
    OperatorError,
    PeerError,
    StorageError,
    StorageFullError,
)
from securerecv.intake.accountbook import open_account_book
from securerecv.settings import Settings
from securerecv.vault import store as store_module
from securerecv.vault.arrivals import Group
from securerecv.vault.boxes import SealedMessage
from securerecv.vault.database import claim, database_url, open_database
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.vault.schema import epoch, message, schema_version
from securerecv.vault.store import GATHERING_TURNS, Store
from securerecv.wire.lines import Message
from tests.postgres import PASSWORD, postgres
from tests.support import QUICK
from tests.vaults import (
    NAME_KEY,
    PATIENCE_S,
    HandReactor,
    OnPostgres,
    OnSqlite,
    VaultTests,
    bodies,
    group_of,
    numbered,
)

ROOT = Path(__file__).resolve().parent.parent

# Adds and removes an account in a process of its own, as the command line does.
_ACCOUNT_IN_PROCESS = """
import sys
from pathlib import Path
from securerecv.intake.accountbook import open_account_book
from securerecv.settings import Settings
from tests.support import QUICK
what, data, store, name = sys.argv[1:]
book = open_account_book(Settings(data=Path(data), store=store), QUICK)
book.add(name, "word") if what == "add" else book.remove(name)
"""


def unawaited(to: str, number: int) -> Group:
    """Make a message whose sender does not wait."""
    return evolve(numbered(to, [number]), awaited=False)


class StoreTests(VaultTests):
    """What a `Store` keeps and gives back."""

    def setUp(self) -> None:
        """Make two boxes."""
        super().setUp()
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")

    def assert_refused(self, done: Deferred[Any], code: ErrorCode) -> None:
        """See that something is refused with a code."""
        error = self.assertRaises(PeerError, self.reactor.wait, done)
        self.assertIs(error.code, code)

    def write(self, work: Any) -> None:
        """Change the database behind the store's back."""
        with self.engine.begin() as connection:
            connection.execute(work)

    def test_round_trip(self) -> None:
        """What is kept is read as it was sent: id, sender, time and body."""
        store = self.open_store()
        body = bytes(range(256)) * 4096
        group = group_of(
            ("alice", b""), ("alice", body), sender="😀" * 64, when_ms=1_700_000_000_001
        )
        self.assertEqual(self.send(store, group), [{}])
        expected = [group.message(0), group.message(1)]
        self.assertEqual(self.last(store, self.alice), expected)
        for kept in expected:
            done = store.read(self.alice.account, self.alice.key, kept.id)
            self.assertEqual(self.reactor.wait(done), kept)

    def test_last(self) -> None:
        """As many of the newest as are wanted are given, oldest first."""
        store = self.open_store()
        self.assert_box(store, self.alice, [])
        self.send(store, numbered("alice", range(7)))
        for count, expected in (
            (0, []),
            (1, [b"6"]),
            (3, [b"4", b"5", b"6"]),
            (5, [b"2", b"3", b"4", b"5", b"6"]),
            (6, [b"2", b"3", b"4", b"5", b"6"]),
        ):
            self.assertEqual(bodies(self.last(store, self.alice, count)), expected)

    def test_keep(self) -> None:
        """A box keeps exactly so many, however they came in."""
        for keep in (1, 5, 7):
            owner = self.add_owner(f"user{keep}")
            store = self.open_store(keep)
            sent: list[bytes] = []
            for size in (1, keep - 1, keep, keep + 1, 3 * keep):
                words = [b"%d of %d" % (number, size) for number in range(size)]
                self.send(store, group_of(*((owner.name, word) for word in words)))
                sent += words
                self.assert_box(store, owner, sent[-keep:])

    def test_many_senders(self) -> None:
        """Groups that wait together are refused and kept each for itself."""
        store = self.open_store()
        groups = [group_of(("alice", b"%d" % n), ("nobody", b"-")) for n in range(20)]
        for refused in self.send(store, *groups):
            self.assertEqual(list(refused), [1])
            self.assertIs(refused[1].code, ErrorCode.NO_MAILBOX)
        self.assert_box(store, self.alice, [b"%d" % n for n in range(15, 20)])

    def test_answered_senders_share_the_next_commit(self) -> None:
        """What is sent in answer to a commit shares the next with what waited."""
        store = self.open_store()
        later: list[Deferred[Any]] = []

        def send(_: object) -> None:
            later.append(store.keep(numbered("alice", [len(later)])))

        first = store.keep(numbered("bob", [0])).addCallback(send)
        self.reactor.callFromThread(send, None)  # when the first is being committed
        self.reactor.wait(first)
        waited, answered = later
        self.reactor.wait(waited)
        self.assertTrue(answered.called)

    def test_gathering(self) -> None:
        """A commit waits while many keep sending, but not for long, nor for one."""
        store = self.open_store()
        for senders, expected in ((5, 5 * (1 + GATHERING_TURNS)), (1, 1)):
            kept = self.keep_turn_by_turn(store, senders, turns=10)
            self.reactor.wait(kept[0])
            self.assertEqual(sum(done.called for done in kept), expected)
            while len(kept) < 10 * senders or not kept[-1].called:
                self.reactor.wait(kept[-1])

    def keep_turn_by_turn(
        self, store: Store, senders: int, turns: int
    ) -> list[Deferred[Any]]:
        """Have as many messages as there are senders kept in each turn."""
        kept: list[Deferred[Any]] = []

        def turn(left: int) -> None:
            numbers = range(left * senders, (left + 1) * senders)
            kept.extend(store.keep(numbered("alice", [n])) for n in numbers)
            if left:
                self.reactor.callFromThread(turn, left - 1)

        turn(turns - 1)
        return kept

    def test_pause(self) -> None:
        """What nobody waits for comes together, and holds up nothing else."""
        self.patch(store_module, "PAUSE_S", 3600.0)
        store = self.open_store()
        self.reactor.wait(store.keep(numbered("bob", [0])))
        first = store.keep(unawaited("alice", 1))
        self.await_newest(store, b"1")
        others = [store.keep(unawaited("alice", number)) for number in (2, 3)]
        self.assertEqual(bodies(self.last(store, self.alice)), [b"1"])
        self.assertFalse(first.called)
        awaited = store.keep(numbered("alice", [4]))
        for done in (first, *others, awaited):
            self.assertEqual(self.reactor.wait(done), {})
        self.assert_box(store, self.alice, [b"1", b"2", b"3", b"4"])
        last = store.keep(unawaited("alice", 5))
        self.await_newest(store, b"5")
        self.assertTrue(self.reactor.wait(store.write(lambda _: True)))
        self.assertEqual(self.reactor.wait(last), {})

    def await_newest(self, store: Store, body: bytes) -> None:
        """Wait until a message is alice's newest."""
        give_up_at = time.monotonic() + PATIENCE_S
        while bodies(self.last(store, self.alice))[-1:] != [body]:
            self.assertLess(time.monotonic(), give_up_at)
            time.sleep(0.001)

    def test_stopped_in_a_pause(self) -> None:
        """A stop does not wait for the end of a pause."""
        self.patch(store_module, "PAUSE_S", 3600.0)
        store = Store(self.open_engine(), NAME_KEY, 5, self.reactor)
        store.start()
        kept = store.keep(unawaited("alice", 1))
        store.flush()
        store.stop()
        self.assertEqual(self.reactor.wait(kept), {})

    def test_drop(self) -> None:
        """A dropped message is gone at once, and is not there to be dropped again."""
        store = self.open_store()
        group = numbered("alice", range(5))
        self.send(store, group)
        gone = group.message(2).id
        self.reactor.wait(store.drop(self.alice.account, gone))
        self.assert_box(store, self.alice, [b"0", b"1", b"3", b"4"])
        self.assert_refused(store.drop(self.alice.account, gone), ErrorCode.NO_SUCH_ID)
        self.assert_refused(
            store.read(self.alice.account, self.alice.key, gone), ErrorCode.NO_SUCH_ID
        )
        self.send(store, numbered("alice", [5]))
        self.assert_box(store, self.alice, [b"0", b"1", b"3", b"4", b"5"])

    def test_ids_of_others(self) -> None:
        """Nobody reads or drops by id what is in somebody else's box."""
        store = self.open_store()
        group = numbered("alice", [1])
        self.send(store, group)
        number = group.message(0).id
        self.assert_refused(
            store.read(self.bob.account, self.bob.key, number), ErrorCode.NO_SUCH_ID
        )
        self.assert_refused(store.drop(self.bob.account, number), ErrorCode.NO_SUCH_ID)
        self.assert_box(store, self.alice, [b"1"])

    def test_what_is_no_id(self) -> None:
        """Anything that is no id is an id that is not there."""
        store = self.open_store()
        for number in ("", "0", "00" * 7, "00" * 9, "zz" * 8, "'; --", "é" * 16):
            self.assert_refused(
                store.read(self.alice.account, self.alice.key, number),
                ErrorCode.NO_SUCH_ID,
            )
            self.assert_refused(
                store.drop(self.alice.account, number), ErrorCode.NO_SUCH_ID
            )

    def test_wrong_key(self) -> None:
        """Another key than the box's gives an error and no message."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))
        other = MailboxPrivateKey.generate()
        done = store.last(self.alice.account, other, 5)
        self.assertRaises(StorageError, self.reactor.wait, done)

    def test_accounts(self) -> None:
        """Accounts are found by their normalised name."""
        store = self.open_store()
        found = self.reactor.wait(store.find_account("alice"))
        self.assertEqual(found, self.alice.account)
        self.assertIsNone(self.reactor.wait(store.find_account("nobody")))
        self.assertEqual(self.reactor.wait(store.password_hash("bob")), b"-")
        self.assertIsNone(self.reactor.wait(store.password_hash("nobody")))

    def test_write_that_fails(self) -> None:
        """What fails half-way is undone, and the store goes on."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))

        def work(connection: Connection) -> None:
            connection.execute(delete(message))
            raise PeerError(ErrorCode.NOT_ALLOWED, "no")

        self.assert_refused(store.write(work), ErrorCode.NOT_ALLOWED)
        self.assert_box(store, self.alice, [b"1"])

    def test_restart(self) -> None:
        """A store that was stopped and started again holds the same."""
        store = Store(self.open_engine(), NAME_KEY, 5, self.reactor)
        store.start()
        self.send(store, numbered("alice", range(7)))
        store.stop()
        again = self.open_store()
        self.assert_box(again, self.alice, [b"2", b"3", b"4", b"5", b"6"])

    def test_stopped_while_gathering(self) -> None:
        """What waits for a commit, behind one or for its own, is in it at the stop."""
        store = Store(self.open_engine(), NAME_KEY, 5, self.reactor)
        store.start()
        released = threading.Event()
        self.addCleanup(released.set)

        def wait() -> None:
            released.wait()

        store._writer.submit(wait)
        first = store.keep(numbered("alice", [1]))
        turned: Deferred[None] = Deferred()
        self.reactor.callFromThread(turned.callback, None)
        self.reactor.wait(turned)
        second = store.keep(numbered("alice", [2]))
        store.flush()
        third = store.keep(numbered("alice", [3]))
        store.flush()
        released.set()
        store.stop()
        for kept in (first, second, third):
            self.assertEqual(self.reactor.wait(kept), {})
        self.assert_box(self.open_store(), self.alice, [b"1", b"2", b"3"])

    def test_damaged_message(self) -> None:
        """A damaged message is an error of its box and of no other."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]), numbered("bob", [2]))
        self.reactor.wait(store.write(lambda _: None))
        mine = message.c.account_id == self.alice.account.id
        with self.engine.begin() as connection:
            sealed: bytes = connection.execute(
                select(message.c.sealed).where(mine)
            ).scalar_one()
        for damaged in (
            b"",
            sealed[:5],
            sealed[:-1],
            sealed[:-1] + b"\0\0",
            b"\0" * 50,
        ):
            self.write(update(message).where(mine).values(sealed=damaged))
            done = store.last(self.alice.account, self.alice.key, 5)
            self.assertRaises(StorageError, self.reactor.wait, done)
            self.assert_box(store, self.bob, [b"2"])
        self.write(update(message).where(mine).values(sealed=sealed))
        self.assert_box(store, self.alice, [b"1"])

    def test_message_moved(self) -> None:
        """A message that was moved into another box does not open there."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))
        self.reactor.wait(store.write(lambda _: None))
        self.write(update(message).values(account_id=self.bob.account.id))
        self.write(update(epoch).values(account_id=self.bob.account.id))
        done = store.last(self.bob.account, self.bob.key, 5)
        self.assertRaises(StorageError, self.reactor.wait, done)

    def test_lost_epoch(self) -> None:
        """Messages whose epoch was deleted are an error of their box only."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]), numbered("bob", [2]))
        self.write(delete(epoch).where(epoch.c.account_id == self.alice.account.id))
        done = store.last(self.alice.account, self.alice.key, 5)
        self.assertRaises(StorageError, self.reactor.wait, done)
        self.assert_box(store, self.bob, [b"2"])

    def test_dropped_while_reading(self) -> None:
        """A box is read as it was at one moment, though others empty it meanwhile."""
        store = self.open_store()
        self.send(store, numbered("alice", [1, 2]))
        self.reactor.wait(store.write(lambda _: None))
        other = self.open_engine()
        emptied: list[str] = []

        @event.listens_for(self.engine, "after_cursor_execute")
        def empty(*context: Any) -> None:
            statement = context[2]
            if "FROM message" in statement and not emptied:
                emptied.append(statement)
                with other.begin() as connection:
                    connection.execute(delete(message))
                    connection.execute(delete(epoch))

        self.assert_box(store, self.alice, [b"1", b"2"])
        self.assertEqual(len(emptied), 1)
        self.assert_box(store, self.alice, [])

    def test_reading_while_settling(self) -> None:
        """Whoever reads while messages settle sees whole boxes in order."""
        store = self.open_store()
        ready, done = threading.Event(), threading.Event()
        self.send(store, numbered("alice", range(5)))

        def settle() -> None:
            ready.set()
            while not done.is_set():
                answered = threading.Event()
                store._writer.submit(store._arrivals.settle)
                store._writer.submit(answered.set)
                answered.wait(10)

        thread = threading.Thread(target=settle)
        thread.start()
        ready.wait(10)
        try:
            for newest in range(5, 105):
                kept = store.keep(numbered("alice", [newest]))
                reads = [
                    store.last(self.alice.account, self.alice.key, 5) for _ in range(2)
                ]
                self.reactor.wait(kept)
                for read in reads:
                    seen: list[Message] = self.reactor.wait(read)
                    numbers = [int(body) for body in bodies(seen)]
                    last = numbers[-1]
                    self.assertEqual(numbers, list(range(last - 4, last + 1)))
                    self.assertIn(last, (newest - 1, newest))
                self.assertEqual(
                    bodies(self.last(store, self.alice)),
                    [b"%d" % n for n in range(newest - 4, newest + 1)],
                )
        finally:
            done.set()
            thread.join()

    def test_other_process(self) -> None:
        """Accounts that another process adds and removes are noticed at once."""
        settings = Settings(data=self.data / "server", store=self.url)
        name_key = self.name_key_of(settings)
        store = Store(self.open_engine(), name_key, 5, self.reactor)
        store.start()
        self.addCleanup(store.stop)
        group = group_of(("carol", b"1"))
        for what, expected in (("add", []), ("remove", [0]), ("add", [])):
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    _ACCOUNT_IN_PROCESS,
                    what,
                    str(settings.data),
                    self.url,
                    "carol",
                ],
                cwd=ROOT,
                check=True,
            )
            for _ in range(2):
                self.assertEqual(list(self.send(store, group)[0]), expected)

    def name_key_of(self, settings: Settings) -> bytes:
        """Give the key by which a data folder finds names."""
        book = open_account_book(settings, QUICK)
        self.addCleanup(book.close)
        return book._name_key

    def test_wrong_schema_version(self) -> None:
        """A store of another version is refused, and not changed."""
        self.write(update(schema_version).values(version=99))
        error = self.assertRaises(
            OperatorError, open_database, database_url(self.url, self.data)
        )
        self.assertIn("99", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)
        with self.engine.begin() as connection:
            version = connection.scalar(select(schema_version.c.version))
        self.assertEqual(version, 99)

    def test_claim(self) -> None:
        """A store belongs to the keys that claimed it first, and to no others."""
        for _ in range(2):
            claim(self.engine, NAME_KEY)
        error = self.assertRaises(OperatorError, claim, self.engine, bytes(32))
        self.assertIn("other keys", str(error))
        claim(self.engine, NAME_KEY)

    def test_not_ours(self) -> None:
        """A database that somebody else uses for something is refused."""
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE schema_version"))
            connection.execute(text("CREATE TABLE schema_version (other INTEGER)"))
        error = self.assertRaises(
            OperatorError, open_database, database_url(self.url, self.data)
        )
        self.assertEqual(len(str(error).splitlines()), 1)


class SqliteStoreTests(OnSqlite, StoreTests, SynchronousTestCase):
    """On SQLite."""

    def test_full(self) -> None:
        """A full store says so, loses nothing it acknowledged, and recovers."""
        engine = self.open_engine()
        engine.dispose()
        limit = 100

        @event.listens_for(engine, "connect")
        def limit_size(connection: Any, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {limit}")

        store = self.open_store(engine=engine)
        body = bytes(10_000)
        kept: list[str] = []
        while True:
            group = group_of(("alice", body), ("bob", body))
            try:
                self.send(store, group)
            except StorageFullError:
                break
            kept.append(group.message(0).id)
            self.assertLess(len(kept), 1000)
        self.assertGreater(len(kept), 0)
        there = [message.id for message in self.last(store, self.alice)]
        self.assertEqual(there, kept[-5:])
        driver: Any = store._connection.connection.driver_connection
        driver.execute("PRAGMA max_page_count = 10000")
        self.send(store, group_of(("alice", b"fits")))
        self.reactor.wait(store.write(lambda _: None))
        self.assertEqual(
            [message.id for message in self.last(store, self.alice)][:-1], kept[-4:]
        )
        self.assertEqual(self.last(store, self.alice)[-1].body, b"fits")
        self.flushLoggedErrors()

    def test_read_while_all_is_replaced(self) -> None:
        """A box whose messages are all replaced during a read is read again."""
        store = self.open_store()
        self.send(store, numbered("alice", [0]))
        arrivals = store._arrivals
        unsettled = arrivals.unsettled
        replaced = threading.Event()

        def replace_all(account_id: int) -> Sequence[SealedMessage]:
            waiting = unsettled(account_id)
            if not replaced.is_set():
                newer = [numbered("alice", range(1, 6))]
                store._writer.submit(lambda: arrivals.commit(newer).clear())
                store._writer.submit(arrivals.settle)
                store._writer.submit(replaced.set)
                replaced.wait(10)
            return waiting

        self.patch(arrivals, "unsettled", replace_all)
        self.assert_box(store, self.alice, [b"%d" % n for n in range(1, 6)])

    def test_durable(self) -> None:
        """A commit waits for the disk, and what is deleted is overwritten."""
        with self.engine.connect() as connection:
            values = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "secure_delete")
            }
        self.assertEqual(
            values, {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
        )

    def test_opened_twice(self) -> None:
        """Opening a store again in this process takes no lock from the first."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))
        log = self.data / "store.sqlite3-wal"
        before = log.stat().st_ino
        self.open_engine().dispose()
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])"
        path, query = str(self.data / "store.sqlite3"), "SELECT * FROM account"
        subprocess.run([sys.executable, "-c", look, path, query], check=True)
        # The last of all connections deletes the log; that one was not it.
        self.assertEqual(log.stat().st_ino, before)

    def test_damaged_file(self) -> None:
        """A file that is no database is refused in one line."""
        path = self.data / "other.sqlite3"
        path.write_bytes(b"this is no database" * 1000)
        path.chmod(0o600)
        url = database_url(f"sqlite:///{path}", self.data)
        error = self.assertRaises(OperatorError, open_database, url)
        self.assertIn("not a database", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)

    def test_lax_file(self) -> None:
        """A database file that others may read is refused with its chmod."""
        path = self.data / "store.sqlite3"
        path.chmod(0o644)
        url = database_url("", self.data)
        error = self.assertRaises(OperatorError, open_database, url)
        self.assertIn(f"chmod 0600 {path}", str(error))

    def test_modes(self) -> None:
        """All files of the database have mode 0600 from the beginning."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))
        files = sorted(path for path in self.data.iterdir() if path.is_file())
        self.assertEqual(
            [path.name for path in files],
            ["store.sqlite3", "store.sqlite3-shm", "store.sqlite3-wal"],
        )
        for path in files:
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600)


class PostgresStoreTests(OnPostgres, StoreTests, SynchronousTestCase):
    """On PostgreSQL."""

    def test_two_servers(self) -> None:
        """Two servers that fill one box at once keep N and lose nothing newer."""
        keep, rounds, size = 5, 40, 3
        finished: SimpleQueue[list[bytes]] = SimpleQueue()

        def serve(name: bytes) -> None:
            reactor = HandReactor()
            store = Store(self.open_engine(), NAME_KEY, keep, reactor)
            store.start()
            sent = []
            for number in range(rounds):
                words = [b"%b %d %d" % (name, number, part) for part in range(size)]
                kept = store.keep(
                    group_of(
                        *(("alice", word) for word in words),
                        *(("bob", word) for word in words),
                    )
                )
                sent += words if reactor.wait(kept) == {} else []
            store.stop()
            finished.put(sent)

        threads = [threading.Thread(target=serve, args=(n,)) for n in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent = [finished.get(timeout=1), finished.get(timeout=1)]
        self.assertEqual([len(words) for words in sent], [rounds * size] * 2)
        store = self.open_store(keep)
        for owner in (self.alice, self.bob):
            there = bodies(self.last(store, owner))
            self.assertEqual(len(there), keep)
            # The newest group is whole, and what each server sent is in order.
            for words in sent:
                mine = [word for word in there if word in words]
                self.assertEqual(mine, words[len(words) - len(mine) :])
        with self.engine.begin() as connection:
            slots = connection.execute(select(message.c.slot)).scalars().all()
        self.assertEqual(sorted(slots), sorted([*range(keep)] * 2))

    def test_seen_by_other_server(self) -> None:
        """What one server acknowledges, another gives out and drops."""
        first, second = (self.open_store(engine=self.open_engine()) for _ in range(2))
        group = numbered("alice", range(3))
        self.send(first, group)
        self.assert_box(second, self.alice, [b"0", b"1", b"2"])
        self.reactor.wait(second.drop(self.alice.account, group.message(1).id))
        self.assert_box(first, self.alice, [b"0", b"2"])
        self.send(first, numbered("alice", range(3, 6)))
        self.assert_box(second, self.alice, [b"0", b"2", b"3", b"4", b"5"])

    def test_lost_connection(self) -> None:
        """When the database goes away commits fail, and then they work again."""
        store = self.open_store()
        self.send(store, numbered("alice", [1]))
        with postgres().administer() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s",
                (make_url(self.url).database,),
            )
        error = self.assertRaises(
            StorageError, self.send, store, numbered("alice", [2])
        )
        self.assertNotIn(PASSWORD, str(error))
        self.send(store, numbered("alice", [3]))
        self.assert_box(store, self.alice, [b"1", b"3"])
        self.flushLoggedErrors()


class UrlTests(SynchronousTestCase):
    """What an operator may write after ``--store``."""

    def setUp(self) -> None:
        """Make a data folder."""
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir(mode=0o700)

    def refusal(self, written: str) -> str:
        """Give the one line with which a URL is refused."""
        error = self.assertRaises(
            OperatorError, lambda: open_database(database_url(written, self.data))
        )
        words = str(error)
        self.assertEqual(len(words.splitlines()), 1, words)
        return words

    def test_default(self) -> None:
        """Unless told otherwise the store is SQLite in the data folder."""
        open_database(database_url("", self.data)).dispose()
        self.assertTrue((self.data / "store.sqlite3").exists())

    def test_sqlite_elsewhere(self) -> None:
        """A store may lie elsewhere; its file is private all the same."""
        path = self.data / "else where.sqlite3"
        open_database(database_url(f"sqlite:///{path}", self.data)).dispose()
        self.assertEqual(path.stat().st_mode & 0o7777, 0o600)

    def test_refused(self) -> None:
        """What names no database that can be opened is refused in one line."""
        for written in (
            "sqlite:",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:////nonexistent/folder/store",
            "postgresql:",
            "postgresql://user@127.0.0.1:port/db",
            "postgresql://user@127.0.0.1:1/db",
            "postgresql:///db?host=/nonexistent",
            "postgresql:///db?nonsense=1",
            "postgresql+nonsense:///db",
        ):
            self.refusal(written)
        self.assertEqual(list(self.data.iterdir()), [])

    def test_password_is_not_shown(self) -> None:
        """However a URL is wrong, the password in it is not in the error."""
        for written in (
            "postgresql://user:sesame",
            "postgresql://user:sesame@127.0.0.1:1/db",
            "postgresql://user:sesame@[::1/db",
            "postgresql://user:sesame@127.0.0.1:port/db",
            "postgresql://user:sesame@127.0.0.1:99999/db",
            "postgresql://user:sesame@/db?host=/nonexistent",
            "postgresql://user:sesame@/db?nonsense=1",
            "postgresql://user:x@sesame@127.0.0.1:1/db",
            "postgresql://user:1/sesame@127.0.0.1:1/db",
            "postgresql://user:x#sesame@127.0.0.1:1/db",
            "postgresql://user:x:sesame",
            "postgresql+nonsense://user:sesame@127.0.0.1/db",
        ):
            self.assertNotIn("sesame", self.refusal(written), written)

    def test_wrong_password(self) -> None:
        """A password that PostgreSQL refuses is not shown, nor the right one."""
        server = postgres()
        url = server.new_database()
        self.addCleanup(server.drop_database, url)
        for password in ("wrong/ünlock", PASSWORD + "x", ""):
            written = url.set(password=password)
            words = self.refusal(written.render_as_string(hide_password=False))
            self.assertIn("password", words)
            self.assertNotIn(PASSWORD, words)
            self.assertNotIn("ünlock", words)

    def test_missing_database(self) -> None:
        """A database that PostgreSQL does not have is named."""
        server = postgres()
        url = server.new_database()
        server.drop_database(url)
        words = self.refusal(url.render_as_string(hide_password=False))
        self.assertIn(str(url.database), words)
        self.assertNotIn(PASSWORD, words)

    def test_password_with_any_characters(self) -> None:
        """A password is percent-encoded in the URL and needs no other care."""
        server = postgres()
        url = server.new_database()
        self.addCleanup(server.drop_database, url)
        written = url.render_as_string(hide_password=False)
        open_database(database_url(written, self.data)).dispose()
