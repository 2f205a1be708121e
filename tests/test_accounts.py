"""Accounts, and the book in which an operator keeps them, on both databases."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv.access.passwords import matches
from securerecv.errors import ErrorCode, OperatorError, PeerError, StorageError
from securerecv.intake.accountbook import AccountBook, open_account_book
from securerecv.settings import Settings
from securerecv.vault import accounts, schema
from securerecv.vault.accounts import (
    Account,
    AccountExistsError,
    UnknownAccountError,
    lookup_of,
)
from securerecv.vault.database import database_url, open_database
from securerecv.vault.keyring import open_keyring
from securerecv.vault.mailboxkeys import (
    MailboxPrivateKey,
    WrongSecretError,
    unwrap_with_code,
    unwrap_with_password,
)
from securerecv.vault.store import Store
from tests.support import QUICK
from tests.vaults import (
    NAME_KEY,
    OnPostgres,
    OnSqlite,
    VaultTests,
    bodies,
    contents_of,
    group_of,
)


class LookupTests(SynchronousTestCase):
    """Under what a user is stored."""

    def test_depends_on_both(self) -> None:
        """It is the same for one key and name, and differs for any other."""
        lookup = lookup_of(NAME_KEY, "alice")
        self.assertEqual(len(lookup), 32)
        self.assertEqual(lookup, lookup_of(NAME_KEY, "alice"))
        self.assertNotEqual(lookup, lookup_of(NAME_KEY, "alic"))
        self.assertNotEqual(lookup, lookup_of(bytes(32), "alice"))


class AccountTests(VaultTests):
    """The accounts in the database."""

    def set_password(
        self, account_id: int, *, code: bytes | None, before: bytes = b"hash"
    ) -> None:
        """Change what opens an account."""
        with self.engine.begin() as connection:
            accounts.set_password(
                connection,
                account_id,
                before=before,
                password_hash=b"new hash",
                wrapped_by_password=b"new wrap",
                wrapped_by_code=code,
            )

    def find(self, name: str) -> Account | None:
        """Look an account up."""
        with self.engine.begin() as connection:
            return accounts.find(connection, lookup_of(NAME_KEY, name))

    def test_find(self) -> None:
        """An account is found as it was added, and no other is."""
        owner = self.add_owner("alice")
        found = self.find("alice")
        self.assertEqual(found, owner.account)
        self.assertEqual(owner.account.public_key, owner.key.public_key())
        self.assertIsNone(self.find("bob"))

    def test_taken(self) -> None:
        """A name that is taken is refused, and the first account stays."""
        owner = self.add_owner("alice")
        error = self.assertRaises(AccountExistsError, self.add_owner, "alice")
        self.assertIs(error.code, ErrorCode.NOT_ALLOWED)
        self.assertEqual(self.find("alice"), owner.account)

    def test_set_password(self) -> None:
        """Hash and wrapped key change together, the code only if it is given."""
        owner = self.add_owner("alice")
        other = self.add_owner("bob")
        for before, code, expected in (
            (b"-", None, b"-"),
            (b"new hash", b"new code", b"new code"),
        ):
            self.assertRaises(
                UnknownAccountError,
                self.set_password,
                owner.account.id,
                code=code,
                before=b"changed meanwhile",
            )
            self.set_password(owner.account.id, code=code, before=before)
            found = self.find("alice")
            if found is None:
                self.fail("the account is gone")
            self.assertEqual(found.password_hash, b"new hash")
            self.assertEqual(found.wrapped_by_password, b"new wrap")
            self.assertEqual(found.wrapped_by_code, expected)
            self.assertEqual(found.public_key, owner.account.public_key)
        self.assertEqual(self.find("bob"), other.account)

    def test_unknown(self) -> None:
        """What is not there is neither changed nor removed."""
        owner = self.add_owner("alice")
        self.remove_owner(owner)
        self.assertRaises(UnknownAccountError, self.remove_owner, owner)
        error = self.assertRaises(
            UnknownAccountError, self.set_password, owner.account.id, code=None
        )
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)

    def test_nothing_in_repr(self) -> None:
        """An account in a log line shows its number only."""
        owner = self.add_owner("alice")
        self.assertEqual(
            repr(owner.account),
            f"Account(id={owner.account.id}, public_key=MailboxPublicKey())",
        )


class AccountBookTests(VaultTests):
    """What an operator does with accounts."""

    def setUp(self) -> None:
        """Open a book, and keep messages in a store beside it."""
        super().setUp()
        self.settings = Settings(data=self.data / "server", store=self.url)
        self.book = self.open_book()
        self.keyring = open_keyring(self.settings.data)

    def open_book(self) -> AccountBook:
        """Open the book once more."""
        book = open_account_book(self.settings, QUICK)
        self.addCleanup(book.close)
        return book

    def assert_refused(
        self, code: ErrorCode, method: str, *arguments: str
    ) -> PeerError:
        """See that the book refuses something, and changes nothing."""
        before = self.stored()
        error: PeerError = self.assertRaises(
            PeerError, getattr(self.book, method), *arguments
        )
        self.assertIs(error.code, code)
        self.assertEqual(self.stored(), before)
        return error

    def stored(self) -> list[tuple[object, ...]]:
        """Give all that is stored of accounts."""
        with self.engine.begin() as connection:
            rows = connection.execute(schema.account.select()).all()
        return sorted(tuple(row) for row in rows)

    def account(self, name: str) -> Account:
        """Give the account of a normalised name."""
        with self.engine.begin() as connection:
            found = accounts.find(connection, lookup_of(self.keyring.name_key, name))
        if found is None:
            self.fail(f"{name} has no account")
        return found

    def key_of(self, name: str, password: str) -> MailboxPrivateKey:
        """Log in, and open the box."""
        account, mixer = self.account(name), self.book._locksmith.mixer
        if not matches(mixer.bcrypt_secret(name, password), account.password_hash):
            raise WrongSecretError
        return unwrap_with_password(
            account.wrapped_by_password, mixer.mailbox_secret(name, password)
        )

    def fill(self, name: str, *words: bytes) -> None:
        """Send messages."""
        store = self.start_store()
        self.send(store, group_of(*((name, word) for word in words)))
        store.stop()

    def start_store(self) -> Store:
        """Start a store with the keys of the book."""
        store = Store(self.open_engine(), self.keyring.name_key, 5, self.reactor)
        store.start()
        return store

    def read(self, name: str, password: str) -> list[bytes]:
        """Read a box with a password."""
        key = self.key_of(name, password)
        store = self.start_store()
        try:
            messages = self.reactor.wait(store.last(self.account(name), key, 5))
        finally:
            store.stop()
        return bodies(messages)

    def test_add(self) -> None:
        """An account opens with its password and with its recovery code."""
        code = self.book.add("alice", "wonder land")
        self.assertEqual(self.book.count(), 1)
        self.fill("alice", b"1")
        self.assertEqual(self.read("alice", "wonder land"), [b"1"])
        by_code = unwrap_with_code(self.account("alice").wrapped_by_code, code)
        self.assertEqual(by_code, self.key_of("alice", "wonder land"))

    def test_accounts_share_nothing(self) -> None:
        """Two accounts with one password have no stored value in common."""
        codes = {self.book.add(name, "same") for name in ("alice", "bob")}
        self.assertEqual(len(codes), 2)
        first, second = self.stored()
        for one, other in zip(first, second, strict=True):
            self.assertNotEqual(one, other)

    def test_wrong_password(self) -> None:
        """Neither another password nor another user's opens a box."""
        self.book.add("alice", "wonder land")
        self.book.add("bob", "builder")
        for wrong in ("", "builder", "Wonder land", "wonder land "):
            self.assertRaises(WrongSecretError, self.key_of, "alice", wrong)

    def test_names(self) -> None:
        """A name is one account however it is written."""
        self.book.add("Zoë.Q", "one")
        for written in ("zoë.q", "ZOË.Q", "zoe\u0308.q"):
            self.assert_refused(ErrorCode.NOT_ALLOWED, "add", written, "two")
        self.book.change_password("ZOE\u0308.q", "one", "two")
        self.assertTrue(self.key_of("zoë.q", "two"))
        self.book.remove("zoë.Q")
        self.assertEqual(self.book.count(), 0)

    def test_bad_names(self) -> None:
        """What is no name is refused by every command."""
        for name in ("", "a b", "anon", "Anon", "anon-x", "a" * 65, "../x", "a\0"):
            self.assert_refused(ErrorCode.USAGE, "add", name, "word")
            self.assert_refused(ErrorCode.USAGE, "change_password", name, "a", "b")
            self.assert_refused(ErrorCode.USAGE, "recover", name, "code", "b")
            self.assert_refused(ErrorCode.USAGE, "remove", name)

    def test_bad_passwords(self) -> None:
        """What cannot be typed into a line is refused as a new password."""
        code = self.book.add("alice", "word")
        for bad in ("", " ", "a\nb", "a\rb", "a\0b", "x" * 1025):
            self.assert_refused(ErrorCode.USAGE, "add", "bob", bad)
            self.assert_refused(
                ErrorCode.USAGE, "change_password", "alice", "word", bad
            )
            self.assert_refused(ErrorCode.USAGE, "recover", "alice", code, bad)

    def test_any_password(self) -> None:
        """Passwords of one character, of 1,024, with blanks and in any script open."""
        for number, password in enumerate(("x", "x" * 1024, "пароль 密码 🔑", " a ")):
            self.book.add(f"user{number}", password)
            self.assertTrue(self.key_of(f"user{number}", password))

    def test_long_passwords_differ(self) -> None:
        """Passwords that differ only in their last character are different."""
        self.book.add("alice", "x" * 100 + "1")
        self.assertRaises(WrongSecretError, self.key_of, "alice", "x" * 100 + "2")

    def test_unknown(self) -> None:
        """Accounts that are not there cannot be changed or removed."""
        self.assert_refused(ErrorCode.NO_MAILBOX, "change_password", "bob", "a", "b")
        self.assert_refused(ErrorCode.NO_MAILBOX, "recover", "bob", "code", "b")
        self.assert_refused(ErrorCode.NO_MAILBOX, "remove", "bob")

    def test_change_password(self) -> None:
        """After a change the new password opens what is in the box, alone."""
        code = self.book.add("alice", "old")
        self.fill("alice", b"1")
        before = self.key_of("alice", "old")
        self.book.change_password("alice", "old", "new")
        self.fill("alice", b"2")
        self.assertEqual(self.read("alice", "new"), [b"1", b"2"])
        self.assertRaises(WrongSecretError, self.key_of, "alice", "old")
        account, mixer = self.account("alice"), self.book._locksmith.mixer
        self.assertRaises(
            WrongSecretError,
            unwrap_with_password,
            account.wrapped_by_password,
            mixer.mailbox_secret("alice", "old"),
        )
        self.assertEqual(unwrap_with_code(account.wrapped_by_code, code), before)

    def test_change_with_wrong_password(self) -> None:
        """Without the present password nothing is changed."""
        self.book.add("alice", "old")
        error = self.assert_refused(
            ErrorCode.AUTH, "change_password", "alice", "odl", "new"
        )
        self.assertNotIn("odl", str(error))
        self.assertTrue(self.key_of("alice", "old"))

    def test_recover(self) -> None:
        """A recovery code sets a new password, and the box stays readable."""
        code = self.book.add("alice", "forgotten")
        self.fill("alice", b"1")
        new_code = self.book.recover("Alice", code.lower().replace("-", " "), "new")
        self.assertNotEqual(new_code, code)
        self.fill("alice", b"2")
        self.assertEqual(self.read("alice", "new"), [b"1", b"2"])
        self.assertRaises(WrongSecretError, self.key_of, "alice", "forgotten")

    def test_old_code_is_void(self) -> None:
        """A recovery code works once; its successor works."""
        code = self.book.add("alice", "first")
        new_code = self.book.recover("alice", code, "second")
        self.assert_refused(ErrorCode.AUTH, "recover", "alice", code, "third")
        self.assertTrue(self.key_of("alice", "second"))
        self.book.recover("alice", new_code, "third")
        self.assertTrue(self.key_of("alice", "third"))

    def test_wrong_code(self) -> None:
        """Codes of others, passwords and nonsense do not recover an account."""
        self.book.add("alice", "word")
        other = self.book.add("bob", "word")
        for code in (other, "", "word", "0000-0000-0000-0000-0000-0000-0000"):
            error = self.assert_refused(ErrorCode.AUTH, "recover", "alice", code, "new")
            self.assertEqual(error.words, "that is not the recovery code")

    def test_remove(self) -> None:
        """An account is removed with its box; its name is free and box empty."""
        self.book.add("alice", "one")
        self.book.add("bob", "two")
        self.fill("alice", b"1")
        self.fill("bob", b"2")
        self.book.remove("ALICE")
        self.assertEqual(self.book.count(), 1)
        self.book.add("alice", "three")
        self.assertEqual(self.read("alice", "three"), [])
        self.assertRaises(WrongSecretError, self.key_of, "alice", "one")
        self.assertEqual(self.read("bob", "two"), [b"2"])

    def test_reopened(self) -> None:
        """A book that was closed and opened again holds the same accounts."""
        self.book.add("alice", "old")
        self.book.close()
        again = self.open_book()
        self.assertEqual(again.count(), 1)
        again.change_password("alice", "old", "new")

    def test_other_keys(self) -> None:
        """A store does not open with the keys of another data folder."""
        settings = Settings(data=self.data / "other", store=self.url)
        error = self.assertRaises(OperatorError, open_account_book, settings, QUICK)
        self.assertIn("keys", str(error))

    def test_broken_store(self) -> None:
        """When the store cannot be used every command says so, and no more."""
        self.book.add("alice", "word")
        with self.engine.begin() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                table.drop(connection)
        for method, arguments in (
            ("count", ()),
            ("add", ("bob", "word")),
            ("change_password", ("alice", "word", "new")),
            ("recover", ("alice", "code", "new")),
            ("remove", ("alice",)),
        ):
            error = self.assertRaises(
                StorageError, getattr(self.book, method), *arguments
            )
            self.assertEqual(len(str(error).splitlines()), 1)


class SqliteAccountTests(OnSqlite, AccountTests, SynchronousTestCase):
    """On SQLite."""


class PostgresAccountTests(OnPostgres, AccountTests, SynchronousTestCase):
    """On PostgreSQL."""


class SqliteAccountBookTests(OnSqlite, AccountBookTests, SynchronousTestCase):
    """On SQLite."""

    def test_replaced_is_gone(self) -> None:
        """What a change replaces is gone from the files, beside an idle server."""
        code = self.book.add("alice", "old")
        reader = open_database(database_url(self.url, self.data)).connect()
        self.addCleanup(reader.close)

        def change(number: int) -> None:
            if number == 0:
                self.book.change_password("alice", "old", "new")
            elif number == 1:
                self.book.recover("alice", code, "newer")
            else:
                self.book.remove("alice")

        for number in range(3):
            account = self.account("alice")
            old = [account.password_hash, account.wrapped_by_password]
            old += [account.wrapped_by_code] if number else []
            self.assertTrue(all(self.on_disk(value) for value in old))
            change(number)
            self.assertFalse(any(self.on_disk(value) for value in old))

    def on_disk(self, value: bytes) -> bool:
        """Search the files of the database."""
        files = contents_of(self.data)
        self.assertLessEqual(
            {"store.sqlite3", "store.sqlite3-wal", "store.sqlite3-shm"}, files.keys()
        )
        return any(value in content for content in files.values())


class PostgresAccountBookTests(OnPostgres, AccountBookTests, SynchronousTestCase):
    """On PostgreSQL."""
