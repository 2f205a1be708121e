"""What is stored of sealed datagrams that were taken, on both databases."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv.vault import seen
from securerecv.vault.seen import KEPT_FOR_S
from securerecv.wire.replay import ReplayRecord
from tests.vaults import OnPostgres, OnSqlite, VaultTests

NOW_S = 1_700_000_000


def record(number: int, expires_s: int) -> ReplayRecord:
    """Make a record."""
    return ReplayRecord(bytes([number]) * 16, expires_s, bytes(9))


class SeenTests(VaultTests):
    """What `securerecv.vault.seen` does in a transaction."""

    def put(self, *records: ReplayRecord) -> None:
        """Store records."""
        with self.engine.begin() as connection:
            seen.put(connection, records)

    def read(self, now_s: float) -> tuple[list[ReplayRecord], int | None]:
        """Read them, after a restart."""
        with self.engine.connect() as connection:
            records, expired_s = seen.read(connection, now_s)
        return sorted(records, key=lambda record: record.digest), expired_s

    def test_nothing(self) -> None:
        """A new store knows of none."""
        self.assertEqual(self.read(NOW_S), ([], None))

    def test_current(self) -> None:
        """Of what has expired only the last time is read, however much there is."""
        current = [record(1, NOW_S), record(2, NOW_S + 240)]
        self.put(*current, record(3, NOW_S - 1), *[record(4, NOW_S - 9)] * 9)
        self.assertEqual(self.read(NOW_S + 0.9), (current, NOW_S - 1))

    def test_newest_state(self) -> None:
        """Of one sender the record that was made last is kept."""
        self.put(record(1, NOW_S + 1), record(1, NOW_S + 2))
        self.put(record(1, NOW_S + 3))
        self.assertEqual(self.read(NOW_S), ([record(1, NOW_S + 3)], None))

    def test_kept(self) -> None:
        """What has expired is kept for as long as the clock may be set back."""
        self.put(record(1, NOW_S))
        for now_s, left in (
            (NOW_S + KEPT_FOR_S, NOW_S),
            (NOW_S + KEPT_FOR_S + 1, None),
        ):
            with self.engine.begin() as connection:
                seen.forget_expired(connection, now_s)
            self.assertEqual(self.read(now_s), ([], left))


class SqliteSeenTests(OnSqlite, SeenTests, SynchronousTestCase):
    """They hold on SQLite."""


class PostgresSeenTests(OnPostgres, SeenTests, SynchronousTestCase):
    """They hold on PostgreSQL."""
