"""The rows of files, on SQLite and PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_FILES_PER_BOX
from securerecv.vault import files
from securerecv.vault.accounts import UnknownAccountError
from securerecv.vault.files import RECOGNISED_S, NewFile, StoredFile
from securerecv.vault.schema import file
from securerecv.wire.filelines import FileState
from tests.vaults import OnPostgres, OnSqlite, Owner, VaultTests

PLACE = b"p" * 16
OTHER_PLACE = b"q" * 16
BOX_BYTES = 1000
NOW_S = 1_700_000_000
RETENTION_S = 7 * 24 * 3600


class FileRowTests(VaultTests):
    """What is stored of files."""

    def setUp(self) -> None:
        """Make two boxes."""
        super().setUp()
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")
        self.connection = self.engine.connect()
        self.addCleanup(self.connection.close)

    def new(
        self,
        owner: Owner,
        size: int = 10,
        *,
        is_anonymous: bool = False,
        place: bytes = PLACE,
    ) -> NewFile:
        """Announce a file."""
        return NewFile(
            id=secrets.token_bytes(8),
            account_id=owner.account.id,
            place=place,
            size=size,
            is_anonymous=is_anonymous,
            identity=secrets.token_bytes(32),
            sealed=b"sealed for the server",
        )

    def add(
        self,
        new: NewFile,
        now_s: int = NOW_S,
        *,
        busy: Collection[bytes] | None = None,
        making_way: Sequence[NewFile] = (),
    ) -> StoredFile:
        """Store it; without more, while somebody sends everything that is there."""
        with self.connection.begin():
            if busy is None:
                busy = set(self.connection.scalars(select(file.c.identity)))
            added, gone = files.add(self.connection, new, BOX_BYTES, now_s, busy)
        self.assertEqual(list(gone), [other.id for other in making_way])
        self.assertEqual([self.load(file_id) for file_id in gone], [None] * len(gone))
        return added

    def refusal(self, new: NewFile, busy: Collection[bytes] | None = None) -> str:
        """See that it is not stored; give the reason."""
        error = self.assertRaises(PeerError, self.add, new, busy=busy)
        self.assertIs(error.code, ErrorCode.FULL)
        self.assertIsNone(self.load(new.id))
        words: str = error.words
        return words

    def load(self, file_id: bytes) -> StoredFile | None:
        """Read a row."""
        with self.connection.begin():
            return files.load(self.connection, file_id)

    def state(self, file_id: bytes) -> FileState | None:
        """Give how far a file has come."""
        stored = self.load(file_id)
        return None if stored is None else stored.state

    def complete(self, owner: Owner, now_s: int = NOW_S) -> NewFile:
        """Store a file that was received."""
        new = self.new(owner)
        self.add(new, now_s)
        with self.connection.begin():
            self.assertTrue(files.received(self.connection, new.id, now_s))
        return new

    def settle(self, connection: Connection, file_id: bytes, state: FileState) -> bool:
        """Give a file that was scanned the state that was found."""
        if state is FileState.CLEAN:
            return files.found_clean(connection, file_id, b"owner", "v1", NOW_S)
        if state is FileState.INFECTED:
            return files.found_infected(connection, file_id, b"owner", NOW_S)
        return files.held(connection, file_id, b"held")

    def expire(self, now_s: int, *under_way: bytes) -> None:
        """Let time pass."""
        with self.connection.begin():
            files.expire(self.connection, now_s, RETENTION_S, under_way)

    def test_stored(self) -> None:
        """A new file is stored as it was announced."""
        new = self.new(self.alice)
        stored = self.add(new)
        self.assertEqual(stored, self.load(new.id))
        self.assertEqual(stored.state, FileState.RECEIVING)
        self.assertEqual(stored.lookup, self.alice.account.lookup)
        self.assertEqual(stored.public_key, self.alice.account.public_key)
        self.assertEqual(stored.sealed_for_server, new.sealed)
        self.assertIsNone(stored.sealed_for_owner)

    def test_verdicts(self) -> None:
        """Each verdict leaves the keys that it should, and no other."""
        expected = {
            FileState.CLEAN: (None, b"owner", "v1"),
            FileState.INFECTED: (None, b"owner", None),
            FileState.HELD: (b"held", None, None),
        }
        for state, kept in expected.items():
            for before in (FileState.SCANNING, FileState.HELD):
                new = self.complete(self.alice)
                with self.connection.begin():
                    if before is FileState.HELD:
                        files.held(self.connection, new.id, b"before")
                    self.assertTrue(self.settle(self.connection, new.id, state))
                stored = self.load(new.id)
                if stored is None:
                    self.fail("it is gone")
                self.assertIs(stored.state, state)
                found = (
                    stored.sealed_for_server,
                    stored.sealed_for_owner,
                    stored.scanned_with,
                )
                self.assertEqual(found, kept)

    def test_only_forward(self) -> None:
        """A file that was settled, or was not received, gets no other state."""
        receiving = self.new(self.alice)
        self.add(receiving)
        infected = self.complete(self.alice)
        clean = self.complete(self.alice)
        with self.connection.begin():
            self.settle(self.connection, infected.id, FileState.INFECTED)
            self.settle(self.connection, clean.id, FileState.CLEAN)
            for state in (FileState.CLEAN, FileState.INFECTED, FileState.HELD):
                for file_id in (receiving.id, infected.id, b"x" * 8):
                    self.assertFalse(self.settle(self.connection, file_id, state))
            self.assertFalse(files.received(self.connection, clean.id, NOW_S))
            self.assertFalse(files.held(self.connection, clean.id, b"held"))
            self.assertFalse(files.still_clean(self.connection, infected.id, "v2"))
            self.assertTrue(files.still_clean(self.connection, clean.id, "v2"))
        stored = self.load(clean.id)
        self.assertEqual(stored and stored.scanned_with, "v2")
        # What was clean may turn out not to be, by newer signatures.
        with self.connection.begin():
            files.found_infected(self.connection, clean.id, b"other", NOW_S)
        self.assertIs(self.state(clean.id), FileState.INFECTED)

    def test_found_again(self) -> None:
        """A file is found by what was announced, for a day, on its own disk."""
        new = self.new(self.alice)
        self.add(new)

        def find(identity: bytes, place: bytes, now_s: int) -> bytes | None:
            with self.connection.begin():
                found = files.find_again(self.connection, identity, place, now_s)
            return None if found is None else found.id

        self.assertIsNone(find(b"x" * 32, PLACE, NOW_S))
        self.assertIsNone(find(new.identity, OTHER_PLACE, NOW_S))
        almost = NOW_S + RECOGNISED_S - 1
        self.assertEqual(find(new.identity, PLACE, almost), new.id)
        # It went on then, so that another day begins.
        late = almost + RECOGNISED_S - 1
        self.assertEqual(find(new.identity, PLACE, late), new.id)
        with self.connection.begin():
            files.received(self.connection, new.id, late)
        self.assertEqual(find(new.identity, PLACE, late + 1), new.id)
        self.assertIsNone(find(new.identity, PLACE, late + RECOGNISED_S))

    def test_count(self) -> None:
        """A box holds so many files; anonymous senders may fill half of it."""
        for number in range(MAX_FILES_PER_BOX):
            is_anonymous = number < MAX_FILES_PER_BOX // 2
            self.add(self.new(self.alice, 0, is_anonymous=is_anonymous))
            if number == MAX_FILES_PER_BOX // 2 - 1:
                words = self.refusal(self.new(self.alice, 0, is_anonymous=True))
                self.assertIn("anonymous", words)
        words = self.refusal(self.new(self.alice, 0))
        self.assertIn(str(MAX_FILES_PER_BOX), words)
        self.add(self.new(self.bob, 0))

    def test_bytes(self) -> None:
        """A box holds so many bytes, as announced; half for anonymous senders."""
        half = BOX_BYTES // 2
        self.refusal(self.new(self.alice, half + 1, is_anonymous=True))
        self.add(self.new(self.alice, half, is_anonymous=True))
        self.refusal(self.new(self.alice, 1, is_anonymous=True))
        self.add(self.new(self.alice, half - 1))
        self.refusal(self.new(self.alice, 2))
        self.add(self.new(self.alice, 1))
        self.add(self.new(self.bob, BOX_BYTES))

    def test_idle_ones_make_way(self) -> None:
        """What anonymous senders do not go on with makes way, the oldest first."""
        third = BOX_BYTES // 2 // 3
        newest, oldest, middle, more = (
            self.new(self.alice, third, is_anonymous=True) for _ in range(4)
        )
        for new, age_s in ((newest, 1), (oldest, 3), (middle, 2)):
            self.add(new, NOW_S - age_s)
        self.add(more, busy=(), making_way=[oldest])
        # As many as must, and those not that somebody is sending.
        large = self.new(self.alice, 2 * third, is_anonymous=True)
        self.add(large, busy=[middle.identity], making_way=[newest, more])

    def test_who_makes_no_way(self) -> None:
        """Nobody makes way elsewhere, or who has logged in, or is all there."""
        half = BOX_BYTES // 2
        self.add(self.new(self.bob, half, is_anonymous=True))
        self.add(self.new(self.alice, half - 2))
        self.add(self.new(self.alice, 1, is_anonymous=True, place=OTHER_PLACE))
        complete = self.new(self.alice, half - 2, is_anonymous=True)
        self.add(complete)
        with self.connection.begin():
            files.received(self.connection, complete.id, NOW_S)
        idle = self.new(self.alice, 1, is_anonymous=True)
        self.add(idle)
        for is_anonymous in (True, False):
            new = self.new(self.alice, 4, is_anonymous=is_anonymous)
            self.refusal(new, busy=())
            # Where that would not do, nothing makes way.
            self.assertIsNotNone(self.load(idle.id))
        self.add(self.new(self.alice, 3), busy=(), making_way=[idle])

    def test_infected_ones_take_no_room(self) -> None:
        """What was destroyed makes room for another."""
        new = self.new(self.alice, BOX_BYTES)
        self.add(new)
        self.refusal(self.new(self.alice, 1))
        with self.connection.begin():
            files.received(self.connection, new.id, NOW_S)
            files.found_infected(self.connection, new.id, b"owner", NOW_S)
        self.add(self.new(self.alice, BOX_BYTES))

    def test_no_account(self) -> None:
        """Nothing is stored for an account that was removed."""
        self.remove_owner(self.alice)
        self.assertRaises(UnknownAccountError, self.add, self.new(self.alice))

    def test_account_removed(self) -> None:
        """With an account its files are removed."""
        new = self.complete(self.alice)
        self.remove_owner(self.alice)
        self.assertIsNone(self.load(new.id))

    def test_lists(self) -> None:
        """Files are listed by box, by what they wait for, and by disk."""
        first = self.complete(self.alice)
        receiving = self.new(self.alice)
        self.add(receiving)
        held, clean, infected = (self.complete(self.bob) for _ in range(3))
        elsewhere = self.new(self.bob, place=OTHER_PLACE)
        self.add(elsewhere)
        with self.connection.begin():
            for new, state in (
                (held, FileState.HELD),
                (clean, FileState.CLEAN),
                (infected, FileState.INFECTED),
            ):
                self.settle(self.connection, new.id, state)
        with self.connection.begin():
            box = files.of_account(self.connection, self.alice.account.id)
            waiting = files.unscanned(self.connection, PLACE)
            here = files.with_content(self.connection, PLACE)
        self.assertEqual([stored.id for stored in box], [first.id, receiving.id])
        self.assertEqual([stored.id for stored in waiting], [first.id, held.id])
        expected = {first.id, receiving.id, held.id, clean.id}
        self.assertEqual(here.keys(), expected)

    def test_drop(self) -> None:
        """A file is dropped from the box that it is in, and from no other."""
        new = self.complete(self.alice)
        with self.connection.begin():
            bob = self.bob.account.id
            self.assertFalse(files.drop(self.connection, bob, new.id))
        self.assertIsNotNone(self.load(new.id))
        with self.connection.begin():
            alice = self.alice.account.id
            self.assertTrue(files.drop(self.connection, alice, new.id))
            self.assertFalse(files.drop(self.connection, alice, new.id))
        self.assertIsNone(self.load(new.id))

    def test_expiry(self) -> None:
        """Unfinished files go after a day without progress, others when it is time."""
        receiving, active = self.new(self.alice), self.new(self.alice)
        self.add(receiving)
        self.add(active)
        scanning = self.complete(self.alice)
        clean = self.complete(self.alice)
        with self.connection.begin():
            self.settle(self.connection, clean.id, FileState.CLEAN)
        everything = {receiving.id, active.id, scanning.id, clean.id}

        def left() -> set[bytes]:
            with self.connection.begin():
                return set(self.connection.scalars(select(file.c.id)))

        self.expire(NOW_S + RECOGNISED_S - 1, active.id)
        self.assertEqual(left(), everything)
        self.expire(NOW_S + RECOGNISED_S, active.id)
        self.assertEqual(left(), everything - {receiving.id})
        self.expire(NOW_S + RETENTION_S - 1, active.id)
        self.assertEqual(left(), everything - {receiving.id})
        self.expire(NOW_S + RETENTION_S, active.id)
        self.assertEqual(left(), {active.id})

    def test_identities_are_forgotten(self) -> None:
        """After a day nothing tells any more what a file was announced as."""
        receiving = self.new(self.alice)
        self.add(receiving)
        scanning = self.complete(self.alice)
        for now_s, expected in (
            (NOW_S + RECOGNISED_S - 1, scanning.identity),
            (NOW_S + RECOGNISED_S, None),
        ):
            self.expire(now_s, receiving.id)
            with self.connection.begin():
                query = select(file.c.id, file.c.identity)
                found = {row.id: row.identity for row in self.connection.execute(query)}
            self.assertEqual(found[scanning.id], expected)
            self.assertEqual(found[receiving.id], receiving.identity)


class SqliteFileRowTests(OnSqlite, FileRowTests, SynchronousTestCase):
    """On SQLite."""


class PostgresFileRowTests(OnPostgres, FileRowTests, SynchronousTestCase):
    """On PostgreSQL."""
