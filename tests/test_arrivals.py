"""Messages on their way into boxes, on both databases."""

from __future__ import annotations

import secrets
import shutil
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import IntegrityError
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, StorageFullError
from securerecv.limits import EPOCH_S
from securerecv.vault import arrivals as arrivals_module
from securerecv.vault import boxcache, boxes
from securerecv.vault.arrivals import Arrivals, Refusals
from securerecv.vault.database import BUSY_TIMEOUT_S, storage_error
from securerecv.vault.schema import account, arrival, epoch, message
from tests.vaults import (
    NAME_KEY,
    OnPostgres,
    OnSqlite,
    Owner,
    VaultTests,
    bodies,
    group_of,
    numbered,
)

HOUR_S = 3600.0


def codes(refusals: Refusals) -> dict[int, ErrorCode]:
    """Give only the codes of refusals."""
    return {index: error.code for index, error in refusals.items()}


class ArrivalTests(VaultTests):
    """What `securerecv.vault.arrivals` makes durable."""

    def setUp(self) -> None:
        """Make two boxes."""
        super().setUp()
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")

    def settled(self, connection: Connection, owner: Owner) -> list[bytes]:
        """Give the bodies in the slots of a box."""
        return bodies(self.slots(connection, owner))

    def ids_of(self, connection: Connection, owner: Owner) -> list[bytes]:
        """Give the ids of the messages in the slots of a box."""
        return [bytes.fromhex(kept.id) for kept in self.slots(connection, owner)]

    def rows_of(self, table: Any) -> int:
        """Count rows, as somebody else sees them."""
        with self.engine.begin() as connection:
            query = select(func.count()).select_from(table)
            return connection.execute(query).scalar_one()

    def written(self) -> bytes:
        """Give everything that was written of messages, in one piece."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(arrival.c.rows)).scalars().all()
            ids = connection.execute(select(message.c.message_id)).scalars().all()
        return b"".join([*rows, *ids])

    def test_nothing(self) -> None:
        """No groups and empty groups are no trouble."""
        arrivals, _ = self.open_arrivals()
        self.assertEqual(arrivals.commit([]), [])
        self.assertEqual(arrivals.commit([group_of()]), [{}])
        arrivals.settle()
        arrivals.idle()

    def test_unknown_users(self) -> None:
        """Refusals name the right messages of the right groups, the rest is kept."""
        arrivals, connection = self.open_arrivals()
        groups = [
            group_of(("nobody", b"-"), ("alice", b"1"), ("", b"-"), ("bob", b"2")),
            group_of(),
            group_of(("a" * 65, b"-"), ("no name", b"-")),
            group_of(("alice", b"3"), ("nobody", b"-"), ("anon", b"-")),
        ]
        for _ in range(2):
            refusals = arrivals.commit(groups)
            self.assertEqual(
                [sorted(refused) for refused in refusals], [[0, 2], [], [0, 1], [1, 2]]
            )
            for refused in refusals:
                self.assertLessEqual(
                    set(codes(refused).values()), {ErrorCode.NO_MAILBOX}
                )
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.alice), [b"1", b"3"] * 2)
        self.assertEqual(self.settled(connection, self.bob), [b"2"] * 2)

    def test_damaged_box(self) -> None:
        """A box whose key is damaged refuses its own messages and no others."""
        arrivals, connection = self.open_arrivals()
        with connection.begin():
            connection.execute(
                update(account)
                .where(account.c.id == self.alice.account.id)
                .values(public_key=b"damaged")
            )
        (refused,) = arrivals.commit([group_of(("alice", b"1"), ("bob", b"2"))])
        self.assertEqual(codes(refused), {0: ErrorCode.INTERNAL})
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.bob), [b"2"])

    def test_names_as_written(self) -> None:
        """However a name is written, it is one box, and its order is kept."""
        arrivals, connection = self.open_arrivals()
        spellings = ("ALICE", "alice", "Alice", "ａｌｉｃｅ", "alice")  # noqa: RUF001 - wide letters
        for part in (spellings[:2], spellings[2:]):
            sent = [(name, name.encode()) for name in part]
            self.assertEqual(arrivals.commit([group_of(*sent)]), [{}])
        arrivals.settle()
        self.assertEqual(
            self.settled(connection, self.alice), [name.encode() for name in spellings]
        )

    def test_sender_and_time(self) -> None:
        """Who sent a message and when is kept with it."""
        arrivals, connection = self.open_arrivals()
        group = group_of(("alice", b"hi"), sender="zoë", when_ms=1_700_000_000_123)
        arrivals.commit([group])
        arrivals.settle()
        (kept,) = self.slots(connection, self.alice)
        self.assertEqual(kept, group.message(0))

    def test_only_the_newest_are_sealed(self) -> None:
        """Of one commit no more is written of a box than the box keeps."""
        arrivals, _ = self.open_arrivals()
        many, few = numbered("alice", range(20)), numbered("bob", range(3))
        arrivals.commit([many, few, numbered("alice", ())])
        written = self.written()
        there = [number in written for number in (*many.ids, *few.ids)]
        self.assertEqual(there, [False] * 15 + [True] * 5 + [True] * 3)

    def test_nothing_is_written_of_refused(self) -> None:
        """A commit in which everything is refused leaves no row."""
        arrivals, _ = self.open_arrivals()
        arrivals.commit([group_of(("nobody", b"body"))])
        for table in (arrival, message, epoch):
            self.assertEqual(self.rows_of(table), 0)

    def test_settle(self) -> None:
        """Settling moves everything into slots, once."""
        arrivals, connection = self.open_arrivals()
        arrivals.commit([numbered("alice", range(3))])
        arrivals.commit([numbered("alice", range(3, 7)), numbered("bob", [9])])
        for _ in range(2):
            arrivals.settle()
            self.assertEqual(self.rows_of(arrival), 0)
            self.assertEqual(self.rows_of(message), 6)
            self.assertEqual(arrivals.unsettled(self.alice.account.id), ())
            self.assertEqual(
                self.settled(connection, self.alice), [b"2", b"3", b"4", b"5", b"6"]
            )
            self.assertEqual(self.settled(connection, self.bob), [b"9"])

    def test_drop_then_send(self) -> None:
        """The place of a dropped message is taken without pushing out another."""
        arrivals, connection = self.open_arrivals()
        group = numbered("alice", range(5))
        arrivals.commit([group])
        arrivals.settle()
        with connection.begin():
            dropped = group.ids[1]
            self.assertTrue(boxes.drop(connection, self.alice.account.id, dropped))
        arrivals.commit([numbered("alice", [5])])
        arrivals.settle()
        self.assertEqual(
            self.settled(connection, self.alice), [b"0", b"2", b"3", b"4", b"5"]
        )

    def test_removed_meanwhile(self) -> None:
        """An account that somebody else removes is refused from then on."""
        arrivals, connection = self.open_arrivals()
        mixed = group_of(("alice", b"1"), ("bob", b"2"), ("Alice", b"3"))
        self.assertEqual(arrivals.commit([mixed]), [{}])
        self.remove_owner(self.alice)
        for _ in range(2):
            (refused,) = arrivals.commit([mixed])
            self.assertEqual(
                codes(refused), {0: ErrorCode.NO_MAILBOX, 2: ErrorCode.NO_MAILBOX}
            )
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.bob), [b"2"] * 3)
        self.assertEqual(self.rows_of(message), 3)
        self.assertEqual(self.rows_of(epoch), 1)

    def test_removed_before_settling(self) -> None:
        """What an account has not settled yet goes with it."""
        arrivals, connection = self.open_arrivals()
        arrivals.commit([group_of(("alice", b"1"), ("bob", b"2"))])
        self.remove_owner(self.alice)
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.bob), [b"2"])
        self.assertEqual(self.rows_of(message), 1)
        self.assertEqual(self.rows_of(arrival), 0)

    def test_added_meanwhile(self) -> None:
        """An account that somebody else adds is there from then on."""
        arrivals, connection = self.open_arrivals()
        (refused,) = arrivals.commit([group_of(("carol", b"1"))])
        self.assertEqual(codes(refused), {0: ErrorCode.NO_MAILBOX})
        carol = self.add_owner("carol")
        self.assertEqual(arrivals.commit([group_of(("carol", b"2"))]), [{}])
        arrivals.settle()
        self.assertEqual(self.settled(connection, carol), [b"2"])

    def test_crash_before_settling(self) -> None:
        """What was committed and never settled is in its box after a restart."""
        first, _ = self.open_arrivals()
        first.commit([numbered("alice", range(4)), numbered("bob", [7])])
        first.commit([numbered("alice", range(4, 6))])
        _, connection = self.open_arrivals()
        self.assertEqual(
            self.settled(connection, self.alice), [b"1", b"2", b"3", b"4", b"5"]
        )
        self.assertEqual(self.settled(connection, self.bob), [b"7"])
        self.assertEqual(self.rows_of(arrival), 0)

    def test_crash_and_removal(self) -> None:
        """An account that was removed while no server ran leaves nothing."""
        first, _ = self.open_arrivals()
        first.commit([numbered("alice", range(2)), numbered("bob", [7])])
        self.remove_owner(self.alice)
        _, connection = self.open_arrivals()
        self.assertEqual(self.settled(connection, self.bob), [b"7"])
        self.assertEqual(self.rows_of(message), 1)
        self.assertEqual(self.rows_of(epoch), 1)

    def test_keep_lowered(self) -> None:
        """When fewer are to be kept, the others are gone at the next start."""
        first, connection = self.open_arrivals(keep=7)
        first.commit([numbered("alice", range(7)), numbered("bob", [1])])
        first.settle()
        first.commit([numbered("alice", [7])])
        second, connection = self.open_arrivals(keep=2)
        self.assertEqual(self.settled(connection, self.alice), [b"6", b"7"])
        self.assertEqual(self.rows_of(message), 3)
        second.commit([numbered("alice", [8])])
        second.settle()
        self.assertEqual(self.settled(connection, self.alice), [b"7", b"8"])

    def test_keep_raised(self) -> None:
        """When more are to be kept, boxes grow from what they hold."""
        first, _ = self.open_arrivals(keep=2)
        first.commit([numbered("alice", range(5))])
        first.settle()
        second, connection = self.open_arrivals(keep=4)
        second.commit([numbered("alice", range(5, 8))])
        second.settle()
        self.assertEqual(self.settled(connection, self.alice), [b"4", b"5", b"6", b"7"])

    def test_epoch_lasts(self) -> None:
        """A box has one epoch key for an hour, then another."""
        arrivals, connection = self.open_arrivals()
        for after_s in (0.0, 1.0, EPOCH_S - 2.0):
            self.reactor.now_s += after_s
            arrivals.commit([numbered("alice", [1]), numbered("alice", [2])])
            self.assertEqual(self.rows_of(epoch), 1)
        self.reactor.now_s += 1.0
        arrivals.commit([numbered("alice", [3])])
        self.assertEqual(self.rows_of(epoch), 2)
        arrivals.settle()
        self.assertEqual(
            self.settled(connection, self.alice), [b"1", b"2", b"1", b"2", b"3"]
        )

    def test_epochs_of_boxes(self) -> None:
        """Boxes share no epoch."""
        arrivals, _ = self.open_arrivals()
        arrivals.commit([group_of(("alice", b"1"), ("bob", b"1"))])
        self.assertEqual(self.rows_of(epoch), 2)

    def test_epoch_ends_when_idle(self) -> None:
        """An epoch's key leaves memory after its hour, also without traffic."""
        arrivals, _ = self.open_arrivals()
        arrivals.commit([numbered("alice", [1])])
        arrivals.idle()
        wanted = arrivals.idle_after_s()
        self.assertIsNotNone(wanted)
        self.reactor.now_s += EPOCH_S
        arrivals.idle()
        epochs_held = [box.epoch for box in arrivals._cache._boxes.values()]
        self.assertEqual(set(epochs_held), {None})

    def test_old_epochs(self) -> None:
        """Epochs that no message needs are deleted, those in use never."""
        arrivals, connection = self.open_arrivals()
        for hour in range(8):
            arrivals.commit([numbered("alice", [hour])])
            if hour == 0:
                arrivals.commit([numbered("bob", [hour])])
            arrivals.idle()
            self.reactor.now_s += HOUR_S
        arrivals.idle()
        self.assertEqual(
            self.settled(connection, self.alice), [b"%d" % n for n in range(3, 8)]
        )
        self.assertEqual(self.settled(connection, self.bob), [b"0"])
        self.assertEqual(self.rows_of(epoch), 6)

    def test_old_epochs_at_start(self) -> None:
        """A start deletes what the last run left of epochs that nobody needs."""
        arrivals, connection = self.open_arrivals()
        group = numbered("alice", [1])
        arrivals.commit([group])
        arrivals.settle()
        with connection.begin():
            boxes.drop(connection, self.alice.account.id, group.ids[0])
        self.reactor.now_s += 3 * HOUR_S
        self.open_arrivals()
        self.assertEqual(self.rows_of(epoch), 0)

    def test_epoch_in_use_over_the_hour(self) -> None:
        """An epoch begun late in an hour is not deleted while it seals."""
        arrivals, connection = self.open_arrivals()
        self.reactor.now_s += HOUR_S - 1
        group = numbered("alice", [1])
        arrivals.commit([group])
        arrivals.settle()
        with connection.begin():
            boxes.drop(connection, self.alice.account.id, group.ids[0])
        self.reactor.now_s += HOUR_S - 1
        arrivals.idle()
        arrivals.commit([numbered("alice", [2])])
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.alice), [b"2"])

    def test_small_caches(self) -> None:
        """With room for few names all of them are still found or refused."""
        self.patch(boxcache, "MAX_CACHED_BOXES", 3)
        self.patch(boxcache, "MAX_CACHED_UNKNOWN_NAMES", 2)
        arrivals, connection = self.open_arrivals()
        others = [self.add_owner(f"user{n}") for n in range(6)]
        names = [owner.name for owner in others]
        for round_ in (b"1", b"2"):
            sent = [(name, round_) for name in names]
            unknown = [(f"nobody{n}", b"-") for n in range(5)]
            spelt = [(name.upper(), round_) for name in names]
            (refused,) = arrivals.commit([group_of(*sent, *unknown, *spelt)])
            self.assertEqual(sorted(refused), list(range(6, 11)))
            self.assertLessEqual(len(arrivals._cache), 3)
            self.assertLessEqual(len(arrivals._cache._unknown), 2)
        arrivals.settle()
        for owner in others:
            self.assertEqual(self.settled(connection, owner), [b"1", b"1", b"2", b"2"])

    def test_small_caches_and_removal(self) -> None:
        """A removed account is refused even if its name was just pushed out."""
        self.patch(boxcache, "MAX_CACHED_BOXES", 3)
        arrivals, connection = self.open_arrivals()
        owners = [self.add_owner(f"user{n}") for n in range(4)]
        arrivals.commit([group_of((owners[0].name, b"1"))])
        self.remove_owner(owners[0])
        sent = [(owner.name, b"2") for owner in owners]
        (refused,) = arrivals.commit([group_of(*sent)])
        self.assertEqual(codes(refused), {0: ErrorCode.NO_MAILBOX})
        arrivals.settle()
        self.assertEqual(self.settled(connection, owners[3]), [b"2"])

    def test_added_again(self) -> None:
        """Whoever is removed and added again gets mail, in the new box."""
        arrivals, connection = self.open_arrivals()
        arrivals.commit([group_of(("alice", b"1"))])
        self.remove_owner(self.alice)
        again = self.add_owner("alice")
        self.assertEqual(arrivals.commit([group_of(("alice", b"2"))]), [{}])
        arrivals.settle()
        self.assertEqual(self.settled(connection, again), [b"2"])

    def test_any_order(self) -> None:
        """However sends, drops, settling and restarts follow, N are kept."""
        to = st.sampled_from(["alice", "bob"])
        send = st.lists(st.tuples(to, st.integers(0, 9)), min_size=1, max_size=4)
        step = st.one_of(
            send, st.sampled_from(["settle", "idle", "crash", "drop", "hour"])
        )

        @settings(max_examples=12, deadline=None)
        @given(st.lists(step, max_size=10), st.sampled_from([1, 5, 7]))
        def check(steps: list[Any], keep: int) -> None:
            self.check_order(steps, keep)

        check()

    def check_order(self, steps: list[Any], keep: int) -> None:
        """Do some steps, and see after each that the boxes are as they should."""
        for owner in (self.alice, self.bob):
            self.remove_owner(owner)
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")
        model: dict[str, list[bytes]] = {"alice": [], "bob": []}
        arrivals, connection = self.open_arrivals(keep)
        try:
            for step in steps:
                if step == "crash":
                    connection.close()
                    arrivals, connection = self.open_arrivals(keep)
                else:
                    self.take_step(step, arrivals, connection, model, keep)
                for owner in (self.alice, self.bob):
                    settled = self.ids_of(connection, owner)
                    waiting = arrivals.unsettled(owner.account.id)
                    ids = [*settled, *(row.message_id for row in waiting)]
                    assert ids[-keep:] == model[owner.name]
                    assert len(settled) <= keep
        finally:
            connection.close()

    def take_step(
        self,
        step: Any,
        arrivals: Arrivals,
        connection: Connection,
        model: dict[str, list[bytes]],
        keep: int,
    ) -> None:
        """Do one step, and to the model what it should do."""
        if step == "settle":
            arrivals.settle()
        elif step == "idle":
            arrivals.idle()
        elif step == "hour":
            self.reactor.now_s += HOUR_S
        elif step == "drop":
            arrivals.settle()
            if model["alice"]:
                gone = model["alice"].pop(len(model["alice"]) // 2)
                with connection.begin():
                    assert boxes.drop(connection, self.alice.account.id, gone)
        else:
            groups = [numbered(name, range(count)) for name, count in step]
            assert arrivals.commit(groups) == [{}] * len(groups)
            for (name, _), group in zip(step, groups, strict=True):
                model[name] = [*model[name], *group.ids][-keep:]


class SqliteArrivalTests(OnSqlite, ArrivalTests, SynchronousTestCase):
    """On SQLite."""

    def test_unsettled(self) -> None:
        """Until messages settle they are told apart from those in slots."""
        arrivals, connection = self.open_arrivals()
        before = arrivals.settlings()
        group = numbered("alice", range(7))
        arrivals.commit([group])
        waiting = arrivals.unsettled(self.alice.account.id)
        self.assertEqual([row.message_id for row in waiting], group.ids[-5:])
        self.assertEqual(arrivals.unsettled(self.bob.account.id), ())
        self.assertEqual(self.settled(connection, self.alice), [])
        self.assertEqual(arrivals.settlings(), before)
        arrivals.settle()
        self.assertNotEqual(arrivals.settlings(), before)

    def test_one_row(self) -> None:
        """A commit is one row, whatever is in it."""
        arrivals, _ = self.open_arrivals()
        for rows in (1, 2):
            arrivals.commit([numbered("alice", range(9)), numbered("bob", range(9))])
            self.assertEqual(self.rows_of(arrival), rows)

    def test_settles_after_a_while(self) -> None:
        """Under lasting traffic messages settle every few seconds."""
        arrivals, _ = self.open_arrivals()
        arrivals.commit([numbered("alice", [1])])
        self.reactor.now_s += arrivals_module.SETTLE_AFTER_S - 0.01
        arrivals.settle_if_due()
        self.assertEqual(self.rows_of(arrival), 1)
        self.reactor.now_s += 0.02
        arrivals.settle_if_due()
        self.assertEqual(self.rows_of(arrival), 0)

    def test_settles_after_many_bytes(self) -> None:
        """Messages settle when there are many megabytes of them."""
        arrivals, _ = self.open_arrivals()
        body = bytes(arrivals_module.SETTLE_AFTER_BYTES // 4)
        for rows in (1, 2, 3):
            arrivals.commit([group_of(("alice", body))])
            arrivals.settle_if_due()
            self.assertEqual(self.rows_of(arrival), rows)
        arrivals.commit([group_of(("alice", body))])
        arrivals.settle_if_due()
        self.assertEqual(self.rows_of(arrival), 0)

    def test_copied_files(self) -> None:
        """A copy of the files, taken while nothing has settled, is whole."""
        arrivals, _ = self.open_arrivals()
        arrivals.commit([numbered("alice", range(3))])
        arrivals.settle()
        arrivals.commit([numbered("alice", range(3, 6))])
        copy = self.data.with_name(self.data.name + "-copy")
        shutil.copytree(self.data, copy)
        arrivals.settle()
        engine = self.open_engine(f"sqlite:///{copy / 'store.sqlite3'}")
        _, connection = self.open_arrivals(engine=engine)
        self.assertEqual(
            self.settled(connection, self.alice), [b"1", b"2", b"3", b"4", b"5"]
        )

    def test_full(self) -> None:
        """A full database refuses whole commits, and goes on when it has room."""
        arrivals, connection = self.open_arrivals()
        driver: Any = connection.connection.driver_connection
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        driver.execute(f"PRAGMA max_page_count = {pages + 30}")
        body = bytes(20_000)
        kept: list[bytes] = []
        error: Exception | None = None
        while error is None:
            group = group_of(("alice", body), ("bob", body))
            try:
                arrivals.commit([group])
                arrivals.settle()
            except Exception as raised:  # noqa: BLE001 - looked at below
                error = raised
            else:
                kept.append(group.ids[0])
        self.assertIsInstance(storage_error(error), StorageFullError)
        self.assertGreater(len(kept), 0)
        self.assertIn(kept[-1], self.ids_of(connection, self.alice))
        driver.execute(f"PRAGMA max_page_count = {pages + 1000}")
        arrivals.commit([group_of(("alice", b"fits"))])
        arrivals.settle()
        there = self.slots(connection, self.alice)
        self.assertEqual(there[-1].body, b"fits")
        self.assertLessEqual(set(kept[-2:]), set(self.ids_of(connection, self.alice)))

    def test_full_at_start(self) -> None:
        """On a full disk a restart leaves all as it is, and settles it later."""
        first, _ = self.open_arrivals()
        body = bytes(20_000)
        group = group_of(*[("alice", body)] * 5)
        first.commit([group])
        connection = self.engine.connect()
        self.addCleanup(connection.close)
        driver: Any = connection.connection.driver_connection
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        driver.execute(f"PRAGMA max_page_count = {pages}")
        second = Arrivals(connection, NAME_KEY, 5, self.reactor.seconds)
        second.recover()
        waiting = second.unsettled(self.alice.account.id)
        self.assertEqual([row.message_id for row in waiting], group.ids)
        self.assertEqual(self.rows_of(arrival), 1)
        self.assertRaises(StorageFullError, second.settle)
        driver.execute(f"PRAGMA max_page_count = {pages + 1000}")
        second.settle()
        self.assertEqual(self.settled(connection, self.alice), [body] * 5)
        self.assertEqual(self.rows_of(arrival), 0)

    def test_first_commit_fails(self) -> None:
        """An epoch whose first commit failed is not used by the next."""
        arrivals, connection = self.open_arrivals()
        driver: Any = connection.connection.driver_connection
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        driver.execute(f"PRAGMA max_page_count = {pages + 3}")
        self.assertRaises(
            StorageFullError, arrivals.commit, [group_of(("alice", bytes(50_000)))]
        )
        self.assertEqual(self.rows_of(epoch), 0)
        driver.execute(f"PRAGMA max_page_count = {pages + 1000}")
        arrivals.commit([group_of(("alice", b"1"))])
        arrivals.settle()
        self.assertEqual(self.settled(connection, self.alice), [b"1"])

    def test_log_is_emptied(self) -> None:
        """Idle, the write-ahead log is empty, and it is not tried again."""
        arrivals, connection = self.open_arrivals()
        log = self.data / "store.sqlite3-wal"
        for use in (
            lambda: arrivals.commit([numbered("alice", [1])]),
            arrivals.use_log,
        ):
            use()
            with connection.begin():
                new = secrets.token_bytes(8)
                connection.execute(account.update().values(password_hash=new))
            self.assertGreater(log.stat().st_size, 0)
            arrivals.idle()
            self.assertEqual(log.stat().st_size, 0)

    def test_reader_holds_log(self) -> None:
        """Somebody who reads for long delays no commit, only the log's end."""
        arrivals, _ = self.open_arrivals()
        reader = self.engine.connect().execution_options(reading=True)
        self.addCleanup(reader.close)
        log = self.data / "store.sqlite3-wal"
        reader.execute(select(account.c.id)).all()
        began_s = time.monotonic()
        for number in range(3):
            arrivals.commit([numbered("alice", [number])])
            arrivals.idle()
        self.assertLess(time.monotonic() - began_s, BUSY_TIMEOUT_S / 3)
        self.assertGreater(log.stat().st_size, 0)
        self.assertEqual(arrivals.idle_after_s(), arrivals_module.IDLE_AFTER_S)
        reader.rollback()
        arrivals.idle()
        self.assertEqual(log.stat().st_size, 0)


class PostgresArrivalTests(OnPostgres, ArrivalTests, SynchronousTestCase):
    """On PostgreSQL."""

    def test_settled_at_once(self) -> None:
        """Where servers share a database, a commit fills the slots itself."""
        arrivals, connection = self.open_arrivals()
        arrivals.commit([numbered("alice", range(7))])
        self.assertEqual(arrivals.unsettled(self.alice.account.id), ())
        self.assertEqual(self.rows_of(arrival), 0)
        self.assertEqual(
            self.settled(connection, self.alice), [b"%d" % n for n in range(2, 7)]
        )

    def test_first_commit_fails(self) -> None:
        """An epoch whose first commit failed is not used by the next."""
        with self.engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE message ADD CHECK (length(sealed) < 100)")
            )
        arrivals, connection = self.open_arrivals()
        self.assertRaises(
            IntegrityError, arrivals.commit, [group_of(("alice", bytes(200)))]
        )
        self.assertEqual(self.rows_of(epoch), 0)
        arrivals.commit([group_of(("alice", b"1"))])
        self.assertEqual(self.settled(connection, self.alice), [b"1"])
