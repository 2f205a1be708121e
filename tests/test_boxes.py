"""Boxes in their slots, on both databases."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select
from twisted.trial.unittest import SynchronousTestCase

from securerecv.vault import boxes
from securerecv.vault.boxes import SealedMessage
from securerecv.vault.schema import epoch, message
from tests.vaults import OnPostgres, OnSqlite, Owner, VaultTests

KEEP = 5


def sealed_messages(count: int, epoch_id: int = 1) -> list[SealedMessage]:
    """Make messages that nobody needs to open."""
    return [
        SealedMessage(secrets.token_bytes(8), epoch_id, secrets.token_bytes(20))
        for _ in range(count)
    ]


class BoxTests(VaultTests):
    """What `securerecv.vault.boxes` does in a transaction."""

    def setUp(self) -> None:
        """Make two boxes."""
        super().setUp()
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")

    def put(
        self, arrived: Mapping[Owner, Sequence[SealedMessage]], keep: int = KEEP
    ) -> None:
        """Put messages into boxes."""
        by_id = {owner.account.id: rows for owner, rows in arrived.items()}
        with self.engine.begin() as connection:
            boxes.put(connection, by_id, keep)

    def box(self, owner: Owner) -> list[SealedMessage]:
        """Read a box."""
        with self.engine.begin() as connection:
            return boxes.read(connection, owner.account.id)[0]

    def add_epochs(self, owner: Owner, hours: Mapping[int, int]) -> None:
        """Store epochs: ids, and the hours in which they began."""
        rows = [
            {
                "id": number,
                "account_id": owner.account.id,
                "hour": hour,
                "sealed_key": b"key of %d" % number,
            }
            for number, hour in hours.items()
        ]
        with self.engine.begin() as connection:
            connection.execute(insert(epoch), rows)

    def count_rows(self) -> int:
        """Count the messages in all boxes."""
        with self.engine.begin() as connection:
            query = select(func.count()).select_from(message)
            return connection.execute(query).scalar_one()

    def test_order(self) -> None:
        """Messages come out in the order in which they were put in."""
        rows = sealed_messages(4)
        self.put({self.alice: rows[:1]})
        self.put({self.alice: rows[1:]})
        self.assertEqual(self.box(self.alice), rows)

    def test_only_the_newest(self) -> None:
        """A box that is full gives up its oldest, from disk and not from sight."""
        rows = sealed_messages(12)
        for at in range(0, 12, 3):
            self.put({self.alice: rows[at : at + 3]})
        self.assertEqual(self.box(self.alice), rows[-KEEP:])
        self.assertEqual(self.count_rows(), KEEP)

    def test_more_than_fit(self) -> None:
        """Of more messages than a box keeps, the newest are put in."""
        rows = sealed_messages(9)
        self.put({self.alice: rows})
        self.assertEqual(self.box(self.alice), rows[-KEEP:])

    def test_boxes_are_apart(self) -> None:
        """What goes into one box moves nothing in another."""
        first, second = sealed_messages(3), sealed_messages(KEEP)
        self.put({self.alice: first, self.bob: second})
        self.put({self.bob: sealed_messages(7)})
        self.assertEqual(self.box(self.alice), first)

    def test_many_boxes(self) -> None:
        """More boxes than one query may name are filled at once."""
        owners = [self.add_owner(f"user{n}") for n in range(520)]
        rows = {owner: sealed_messages(1) for owner in owners}
        self.put(rows)
        ids = [owner.account.id for owner in owners]
        with self.engine.begin() as connection:
            self.assertEqual(boxes.existing(connection, ids), set(ids))
        for owner in (owners[0], owners[499], owners[500], owners[-1]):
            self.assertEqual(self.box(owner), rows[owner])

    def test_drop(self) -> None:
        """A message is dropped once; its slot is free, and order stays."""
        rows = sealed_messages(8)
        self.put({self.alice: rows[:KEEP]})
        for expected in (True, False):
            with self.engine.begin() as connection:
                dropped = boxes.drop(
                    connection, self.alice.account.id, rows[2].message_id
                )
            self.assertIs(dropped, expected)
        self.assertEqual(self.box(self.alice), [*rows[:2], *rows[3:KEEP]])
        self.put({self.alice: rows[KEEP : KEEP + 1]})
        self.assertEqual(self.box(self.alice), [*rows[:2], *rows[3 : KEEP + 1]])
        self.put({self.alice: rows[KEEP + 1 :]})
        self.assertEqual(self.box(self.alice), rows[3:])

    def test_drop_of_others(self) -> None:
        """Nobody drops a message in somebody else's box."""
        rows = sealed_messages(1)
        self.put({self.alice: rows})
        with self.engine.begin() as connection:
            dropped = boxes.drop(connection, self.bob.account.id, rows[0].message_id)
        self.assertFalse(dropped)
        self.assertEqual(self.box(self.alice), rows)

    def test_existing(self) -> None:
        """Only accounts that are there are told."""
        ids = self.alice.account.id, self.bob.account.id
        self.remove_owner(self.bob)
        with self.engine.begin() as connection:
            self.assertEqual(boxes.existing(connection, ids), {ids[0]})
            self.assertEqual(boxes.existing(connection, ()), set())

    def test_removed_account(self) -> None:
        """With an account its messages and epochs go, and nobody else's."""
        mine, others = sealed_messages(3), sealed_messages(2)
        self.add_epochs(self.alice, {1: 0})
        self.add_epochs(self.bob, {2: 0})
        self.put({self.alice: mine, self.bob: others})
        self.remove_owner(self.alice)
        with self.engine.begin() as connection:
            left = boxes.read(connection, self.alice.account.id)
        self.assertEqual(left, ([], {}))
        self.assertEqual(self.box(self.bob), others)

    def test_numbers_are_not_used_again(self) -> None:
        """A new account never gets the number of a removed one."""
        self.remove_owner(self.bob)
        carol = self.add_owner("bob")
        self.assertGreater(carol.account.id, self.bob.account.id)

    def test_trim(self) -> None:
        """When fewer are kept than before, the newest stay and the rest go."""
        rows = sealed_messages(7)
        self.put({self.alice: rows, self.bob: rows[:2]}, 7)
        with self.engine.begin() as connection:
            boxes.trim(connection, 3)
        self.assertEqual(self.box(self.alice), rows[-3:])
        self.assertEqual(self.box(self.bob), rows[:2])
        self.assertEqual(self.count_rows(), 5)
        more = sealed_messages(2)
        self.put({self.alice: more}, 3)
        self.assertEqual(self.box(self.alice), [rows[-1], *more])

    def test_trim_of_high_slots(self) -> None:
        """Few messages in high slots are moved to low ones, so that slots suffice."""
        rows = sealed_messages(7)
        self.put({self.alice: rows}, 7)
        for gone in rows[:5]:
            with self.engine.begin() as connection:
                boxes.drop(connection, self.alice.account.id, gone.message_id)
        with self.engine.begin() as connection:
            boxes.trim(connection, 3)
            highest = connection.scalar(select(func.max(message.c.slot)))
        self.assertEqual(highest, 1)
        self.assertEqual(self.box(self.alice), rows[5:])

    def test_forget_unused_epochs(self) -> None:
        """Of old epochs those that no message needs are deleted."""
        now = 1000
        self.add_epochs(self.alice, {1: 5, 2: now - 2, 3: now - 1, 4: now, 5: 5})
        self.add_epochs(self.bob, {6: 5})
        self.put({self.alice: sealed_messages(1, epoch_id=1)})
        with self.engine.begin() as connection:
            boxes.forget_unused_epochs(connection, now)
            left = connection.execute(select(epoch.c.id).order_by(epoch.c.id))
            self.assertEqual(left.scalars().all(), [1, 3, 4])
        with self.engine.begin() as connection:
            keys = boxes.read(connection, self.alice.account.id)[1]
        self.assertEqual(keys, {n: b"key of %d" % n for n in (1, 3, 4)})

    def test_any_order(self) -> None:
        """However puts, drops and trims follow each other, the newest are there."""
        steps = st.one_of(st.integers(0, 9), st.sampled_from(["drop", "trim"]))

        @settings(max_examples=15, deadline=None)
        @given(st.lists(steps, max_size=12), st.sampled_from([1, 5, 7]))
        def check(steps: list[int | str], keep: int) -> None:
            owner = self.add_owner(secrets.token_hex(8))
            model: list[SealedMessage] = []
            for step in steps:
                with self.engine.begin() as connection:
                    if isinstance(step, int):
                        rows = sealed_messages(step)
                        boxes.put(connection, {owner.account.id: rows}, keep)
                        model = [*model, *rows][-keep:]
                    elif step == "trim":
                        boxes.trim(connection, keep)
                    elif model:
                        gone = model.pop(len(model) // 2)
                        boxes.drop(connection, owner.account.id, gone.message_id)
                assert self.box(owner) == model

        check()


class SqliteBoxTests(OnSqlite, BoxTests, SynchronousTestCase):
    """On SQLite."""


class PostgresBoxTests(OnPostgres, BoxTests, SynchronousTestCase):
    """On PostgreSQL."""

    def test_one_after_the_other(self) -> None:
        """A server that fills a box waits for another that is filling it."""
        rows = sealed_messages(8)
        finished = threading.Event()

        def fill(connection: Connection, new: Sequence[SealedMessage]) -> None:
            ids = boxes.existing(connection, [self.alice.account.id])
            boxes.put(connection, dict.fromkeys(ids, new), KEEP)

        def fill_too() -> None:
            with self.engine.begin() as connection:
                fill(connection, rows[4:])
            finished.set()

        with self.engine.begin() as connection:
            fill(connection, rows[:4])
            other = threading.Thread(target=fill_too)
            other.start()
            self.assertFalse(finished.wait(0.3))
        other.join(10)
        self.assertTrue(finished.is_set())
        self.assertEqual(self.box(self.alice), rows[-KEEP:])

    def test_not_removed_while_filled(self) -> None:
        """An account is not removed under the hands of who fills its box."""
        finished = threading.Event()

        def remove() -> None:
            self.remove_owner(self.alice)
            finished.set()

        with self.engine.begin() as connection:
            ids = boxes.existing(connection, [self.alice.account.id])
            other = threading.Thread(target=remove)
            other.start()
            self.assertFalse(finished.wait(0.3))
            boxes.put(connection, dict.fromkeys(ids, sealed_messages(1)), KEEP)
        other.join(10)
        self.assertTrue(finished.is_set())
        self.assertEqual(self.count_rows(), 0)
