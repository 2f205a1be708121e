"""Tokens: what devices send sealed datagrams with, in their owners' names."""

from __future__ import annotations

import hmac
import secrets
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.access.passwords import HashingPool
from securerecv.access.realm import Avatar
from securerecv.access.tokens import Token, TokenTable
from securerecv.assembly import office
from securerecv.errors import PeerError, StorageError
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.tokens import Tokens
from securerecv.limits import MAX_TOKENS_PER_ACCOUNT
from securerecv.log import log_observer
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.vault import accounts, schema, tokens
from securerecv.vault.accounts import UnknownAccountError
from securerecv.vault.database import database_url, open_database
from securerecv.vault.keyring import Keyring, open_keyring
from securerecv.vault.tokens import SealedToken, TokenDetails, TokenKeys
from securerecv.wire.verbs import Standing
from tests.postgres import postgres
from tests.support import (
    Talker,
    add_accounts,
    anonymous,
    connect,
    logged_in,
    new_folder,
    pause,
    remove_account,
    start_receiver,
)
from tests.test_at_rest import forms
from tests.vaults import OnPostgres, OnSqlite, VaultTests, contents_of

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

TOKEN_KEY = bytes(range(32))
TOKEN_ID = bytes(range(100, 116))
DETAILS = TokenDetails(TOKEN_ID, "zoë", "the greenhouse", 1_700_000_000_123)
USAGE = ["-ERR usage TOKEN NEW <label>"]


def expanded(key: bytes, label: bytes) -> bytes:
    """Work out RFC 5869's HKDF-Expand to 32 bytes: its first block and no more."""
    return hmac.digest(key, label + b"\x01", "sha256")


class TokenKeysTests(SynchronousTestCase):
    """What is made of the server's key for tokens."""

    def setUp(self) -> None:
        """Seal a token."""
        self.keys = TokenKeys(TOKEN_KEY)
        self.lookup = self.keys.lookup(TOKEN_ID)
        self.row = SealedToken(1, 7, self.lookup, self.keys.seal(7, DETAILS))

    def test_expanded(self) -> None:
        """Secret and lookup are expanded under labels of their own."""
        for label, made in (
            (b"secret ", self.keys.secret(TOKEN_ID)),
            (b"lookup ", self.lookup),
        ):
            expected = expanded(TOKEN_KEY, b"securerecv/1 token " + label + TOKEN_ID)
            self.assertEqual(made, expected)

    def test_independent(self) -> None:
        """Another id or another server's key has nothing in common with these."""
        other_id, other = bytes(16), TokenKeys(bytes(32))
        made = {
            function(token_id)
            for keys in (self.keys, other)
            for function in (keys.secret, keys.lookup)
            for token_id in (TOKEN_ID, other_id)
        }
        self.assertEqual(len(made), 8)

    def test_opened(self) -> None:
        """What was sealed is opened, and is sealed differently each time."""
        self.assertEqual(self.keys.open(self.row), DETAILS)
        self.assertNotEqual(self.keys.seal(7, DETAILS), self.row.sealed)

    def test_damaged(self) -> None:
        """What was changed, cut short or moved is not opened."""
        sealed = self.row.sealed
        flipped = [
            sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            for at in range(len(sealed))
        ]
        cut = [sealed[:size] for size in range(len(sealed))]
        wrong = [evolve(self.row, sealed=other) for other in (*flipped, *cut)]
        wrong.append(evolve(self.row, account_id=8))
        wrong.append(evolve(self.row, lookup=self.keys.lookup(bytes(16))))
        for row in wrong:
            self.assertRaises(StorageError, self.keys.open, row)
        with self.assertRaises(StorageError):
            TokenKeys(bytes(32)).open(self.row)


class TokenTableTests(SynchronousTestCase):
    """The table in memory."""

    def test_table(self) -> None:
        """Tokens come and go, and the summary goes with them."""
        table = TokenTable()
        self.assertEqual(table.summary, (0, 0))
        first = Token(3, b"a" * 16, b"s" * 32, "alice", 1)
        second = Token(9, b"b" * 16, b"t" * 32, "alice", 1)
        for token in (first, second, first):
            table.add(token)
        table.add_damaged(20)
        self.assertEqual(table.summary, (3, 32))
        self.assertEqual(set(table.numbers), {3, 9, 20})
        self.assertIs(table.find(b"a" * 16), first)
        self.assertIs(table.find(b"b" * 16), second)
        self.assertIsNone(table.find(b"c" * 16))
        for number in (3, 3, 20, 77):
            table.remove(number)
        self.assertEqual(table.summary, (1, 9))
        self.assertIsNone(table.find(b"a" * 16))
        self.assertIs(table.find(b"b" * 16), second)

    def test_secrets_are_not_shown(self) -> None:
        """Neither id nor secret is in what a debugger or a log would print."""
        shown = repr(Token(3, b"a" * 16, b"s" * 32, "alice", 1))
        self.assertNotIn("aaaa", shown)
        self.assertNotIn("ssss", shown)


class StoredTokenTests(VaultTests):
    """Tokens in a store, and the copy of them in memory."""

    def setUp(self) -> None:
        """Make an account with a token, and begin."""
        super().setUp()
        self.keys = TokenKeys(TOKEN_KEY)
        self.owner = self.add_owner("zoë")
        self.number = self.add(DETAILS)
        self.store = self.open_store()
        mailboxes = Mailboxes(self.store, cast(HashingPool, None))
        self.tokens = Tokens(self.store, mailboxes, self.keys, self.reactor.seconds)
        self.tokens.load()
        self.avatar = Avatar(Standing.USER, "zoë")

    def add(self, details: TokenDetails, account_id: int | None = None) -> int:
        """Add a token beside the server."""
        owner = self.owner.account.id if account_id is None else account_id
        with self.engine.begin() as connection:
            return tokens.add(connection, self.keys, owner, details)

    def drop(self, account_id: int, token_id: bytes) -> int | None:
        """Drop a token beside the server."""
        with self.engine.begin() as connection:
            return tokens.drop(connection, account_id, self.keys.lookup(token_id))

    def check(self) -> None:
        """Have the server look what has changed."""
        self.reactor.wait(self.tokens.check())

    def is_found(self, token_id: bytes) -> bool:
        """Tell whether a token is in force."""
        return self.tokens.find(token_id) is not None

    def test_loaded(self) -> None:
        """At the start, all that is needed of a token is in memory."""
        expected = Token(
            self.number,
            TOKEN_ID,
            self.keys.secret(TOKEN_ID),
            "zoë",
            self.owner.account.id,
        )
        self.assertEqual(self.tokens.find(TOKEN_ID), expected)

    def test_same_id(self) -> None:
        """There is no second token of the same id."""
        with self.assertRaises(IntegrityError):
            self.add(DETAILS)

    def test_no_account(self) -> None:
        """An account that is not there any more gets no token."""
        self.remove_owner(self.owner)
        with self.assertRaises(UnknownAccountError):
            self.add(evolve(DETAILS, id=bytes(16)))

    def test_full(self) -> None:
        """One account has so many tokens and no more; another is not concerned."""
        for number in range(1, MAX_TOKENS_PER_ACCOUNT):
            self.add(evolve(DETAILS, id=number.to_bytes(16)))
        with self.assertRaises(PeerError) as raised:
            self.add(evolve(DETAILS, id=bytes(16)))
        self.assertEqual(raised.exception.code.value, "full")
        other = self.add_owner("other").account.id
        self.add(evolve(DETAILS, id=bytes(16), owner="other"), other)
        self.drop(self.owner.account.id, TOKEN_ID)
        self.add(evolve(DETAILS, id=secrets.token_bytes(16)))

    def test_numbers_are_not_used_again(self) -> None:
        """The row of a dropped token is never another's, so changes are seen."""
        self.drop(self.owner.account.id, TOKEN_ID)
        other = evolve(DETAILS, id=bytes(16))
        self.assertGreater(self.add(other), self.number)
        self.check()
        self.assertFalse(self.is_found(TOKEN_ID))
        self.assertTrue(self.is_found(bytes(16)))

    def test_check(self) -> None:
        """What is made and dropped beside the server is followed."""
        others = [secrets.token_bytes(16) for _ in range(600)]
        owners = [self.add_owner(f"user{n}").account.id for n in range(6)]
        owner_of = {other: owners[n // 100] for n, other in enumerate(others)}
        for other, account_id in owner_of.items():
            self.add(evolve(DETAILS, id=other), account_id)
        self.assertFalse(any(map(self.is_found, others)))
        self.check()
        self.assertTrue(all(map(self.is_found, others)))
        for other in others[:300]:
            self.drop(owner_of[other], other)
        self.check()
        self.assertFalse(any(map(self.is_found, others[:300])))
        self.assertTrue(all(map(self.is_found, others[300:])))
        self.assertTrue(self.is_found(TOKEN_ID))

    def test_account_removed(self) -> None:
        """With an account go its tokens, and nobody else's."""
        other = self.add_owner("other").account.id
        self.add(evolve(DETAILS, id=bytes(16)), other)
        self.check()
        self.remove_owner(self.owner)
        self.check()
        self.assertFalse(self.is_found(TOKEN_ID))
        self.assertTrue(self.is_found(bytes(16)))

    def test_check_is_cheap(self) -> None:
        """Where nothing has changed, no token is read."""
        self.add(evolve(DETAILS, id=bytes(16)))
        self.check()
        read: list[object] = []
        self.patch(tokens, "numbers", read.append)
        self.patch(tokens, "numbered", read.append)
        self.check()
        self.assertEqual(read, [])

    def test_dropped_during_check(self) -> None:
        """A token that is dropped while a check reads does not come back."""
        late = secrets.token_bytes(16)
        number = self.add(evolve(DETAILS, id=late))
        has_read: Deferred[None] = Deferred()
        goes_on: Deferred[None] = Deferred()
        query: Any = self.store.query

        def slow(work: Any, *args: Any) -> Any:
            done = query(work, *args)
            if args:

                def hold(result: Any) -> Any:
                    has_read.callback(None)
                    return goes_on.addCallback(lambda _: result)

                done.addCallback(hold)
            return done

        self.patch(self.store, "query", slow)
        check = self.tokens.check()
        self.reactor.wait(has_read)
        self.patch(self.store, "query", query)
        self.reactor.wait(self.tokens.drop(self.avatar, late.hex()))
        goes_on.callback(None)
        self.reactor.wait(check)
        self.assertFalse(self.is_found(late))
        self.assertTrue(self.is_found(TOKEN_ID))
        self.assertGreater(number, self.number)

    def test_store_fails(self) -> None:
        """While the store cannot be read, what was known is in force."""

        def fail(_: object) -> None:
            raise StorageError("no disk")

        self.patch(tokens, "summary", fail)
        self.check()
        self.assertTrue(self.is_found(TOKEN_ID))

    def test_damaged(self) -> None:
        """A damaged token is of no use, logged once, and keeps no other away."""
        other = self.add(evolve(DETAILS, id=bytes(16)))
        with self.engine.begin() as connection:
            row = schema.token.c.id == self.number
            connection.execute(update(schema.token).where(row).values(sealed=b"x" * 60))
        mailboxes = Mailboxes(self.store, cast(HashingPool, None))
        again = Tokens(self.store, mailboxes, self.keys, self.reactor.seconds)
        with capturedLogs() as log:
            again.load()
            self.reactor.wait(again.check())
        self.assertIsNone(again.find(TOKEN_ID))
        found = again.find(bytes(16))
        self.assertEqual(found and found.number, other)
        about = [event for event in log if event.get("number") == self.number]
        self.assertEqual(len(about), 1)
        answer = self.reactor.wait(self.tokens.show(self.avatar))
        self.assertEqual(answer.words, "1 tokens")
        self.reactor.wait(self.tokens.drop(self.avatar, TOKEN_ID.hex()))
        self.reactor.wait(again.check())
        self.assertIsNotNone(again.find(bytes(16)))


class SqliteStoredTokenTests(OnSqlite, StoredTokenTests, SynchronousTestCase):
    """On SQLite."""


class PostgresStoredTokenTests(OnPostgres, StoredTokenTests, SynchronousTestCase):
    """On PostgreSQL."""


class TokenVerbTests(_Base):
    """The verbs, in conversations with a real receiver."""

    def setUp(self) -> None:
        """Start a receiver with two accounts."""
        self.settings = Settings(
            proto="tcp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            store=self.new_store(),
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)

    def new_store(self) -> str:
        """Give what ``--store`` is."""
        raise NotImplementedError

    def engine(self) -> Engine:
        """Connect to the store beside the receiver."""
        engine = open_database(database_url(self.settings.store, self.settings.data))
        self.addCleanup(engine.dispose)
        return engine

    def keyring(self) -> Keyring:
        """Read the receiver's keys."""
        return open_keyring(self.settings.data, make=False)

    def restart(self) -> Receiver:
        """Start the receiver again."""
        self.receiver = start_receiver(self, self.settings)
        return self.receiver

    async def alice(self) -> Talker:
        """Log in as alice."""
        return await logged_in(self, self.receiver, "alice", "wonder land")

    async def bob(self) -> Talker:
        """Log in as bob."""
        return await logged_in(self, self.receiver, "bob", "builder")

    async def make(self, talker: Talker, label: str = "my pi") -> tuple[bytes, bytes]:
        """Make a token; its id and secret are returned."""
        answer = await talker.ask(f"TOKEN NEW {label}")
        self.assertEqual(len(answer), 1)
        self.assertRegex(answer[0], r"^\+OK [0-9a-f]{32} [0-9a-f]{64}$")
        _, token_id, secret = answer[0].split()
        return bytes.fromhex(token_id), bytes.fromhex(secret)

    async def labels(self, talker: Talker) -> list[str]:
        """List the labels of a user's tokens."""
        *lines, last = await talker.ask("TOKEN LIST")
        self.assertEqual(last, f"+OK {len(lines)} tokens")
        return [line.split(" ", 4)[4] for line in lines]

    def is_found(self, token_id: bytes) -> bool:
        """Tell whether datagrams that name this token are let through to its key."""
        return self.receiver.office.tokens.find(token_id) is not None

    async def test_new_list_drop(self) -> None:
        """A token is made, listed without its secret, found, and dropped."""
        alice = await self.alice()
        self.assertEqual(await alice.ask("TOKEN LIST"), ["+OK 0 tokens"])
        first, secret = await self.make(alice, "my  pi")
        second, _ = await self.make(alice, "Gewächshaus 🌱 ")
        lines = await alice.ask("#x token list")
        when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        self.assertRegex(lines[0], rf"^#x \* TOKEN {first.hex()} {when} my  pi$")
        self.assertRegex(
            lines[1], rf"^#x \* TOKEN {second.hex()} {when} Gewächshaus 🌱 $"
        )
        self.assertEqual(lines[2:], ["#x +OK 2 tokens"])
        token = self.receiver.office.tokens.find(first)
        if token is None:
            self.fail("a new token is not in force")
        self.assertEqual((token.secret, token.owner), (secret, "alice"))
        self.assertEqual(await alice.ask(f"TOKEN DROP {first.hex().upper()}"), ["+OK"])
        self.assertFalse(self.is_found(first))
        self.assertTrue(self.is_found(second))
        self.assertEqual(await self.labels(alice), ["Gewächshaus 🌱 "])

    async def test_secret_by_hand(self) -> None:
        """The secret hangs on the server's secret and the id, and on nothing else."""
        token_id, secret = await self.make(await self.alice())
        master = (self.settings.data / "keys" / "server-secret").read_text()
        token_key = expanded(bytes.fromhex(master), b"securerecv/1 tokens")
        expected = expanded(token_key, b"securerecv/1 token secret " + token_id)
        self.assertEqual(secret, expected)

    async def test_secret_is_not_in_the_store(self) -> None:
        """Whoever has all of a row, and the other keys, does not have the secret."""
        token_id, secret = await self.make(await self.alice())
        with self.engine().connect() as connection:
            row = connection.execute(select(schema.token)).one()
        keyring = self.keyring()
        others = (keyring.name_key, keyring.password_key, keyring.mailbox_key)
        pieces = {
            row.sealed[at : at + 32] for at in range(max(1, len(row.sealed) - 31))
        }
        label = b"securerecv/1 token secret " + token_id
        for key in (row.lookup, *others, *pieces):
            self.assertNotIn(
                secret,
                (key, expanded(key, label), hmac.digest(key, token_id, "sha256")),
            )

    async def test_labels(self) -> None:
        """A label is one line of 1 to 64 characters that can be seen."""
        alice = await self.alice()
        for label in ("x", "ж" * 64, "a b  c", "-ERR +OK * !"):
            await self.make(alice, label)
            self.assertEqual((await self.labels(alice))[-1], label)
        for label in ("", " ", "    ", "x" * 65, "a\tb", "a\0b", "a\rb", "a\x7f"):
            self.assertEqual(await alice.ask(f"TOKEN NEW {label}"), USAGE, label)
        for label in ("a\x1b[2Jb", "a\x85b", "a\u2028b", "\u2029", "\u3000"):
            self.assertEqual(await alice.ask(f"TOKEN NEW {label}"), USAGE, label)
        self.assertEqual(await alice.ask("TOKEN NEW"), USAGE)
        self.assertEqual(len(await self.labels(alice)), 4)

    async def test_no_such_id(self) -> None:
        """What is no id of one's own tokens is answered in the same words."""
        alice = await self.alice()
        token_id, _ = await self.make(alice)
        written = token_id.hex()
        answers = set()
        for other in ("0" * 32, "feed", "xyz", "é", written[:-1], written + "00"):
            answers |= set(await alice.ask(f"TOKEN DROP {other}"))
        self.assertEqual(await alice.ask(f"TOKEN DROP {written}"), ["+OK"])
        answers |= set(await alice.ask(f"TOKEN DROP {written}"))
        self.assertEqual(answers, {"-ERR no-such-id you have no such token"})
        usage = ["-ERR usage TOKEN DROP <id>"]
        self.assertEqual(await alice.ask("TOKEN DROP"), usage)
        self.assertEqual(await alice.ask("TOKEN DROP a b"), usage)

    async def test_other_users(self) -> None:
        """Nobody sees or drops somebody else's token."""
        alice, bob = await self.alice(), await self.bob()
        token_id, _ = await self.make(alice, "hers")
        await self.make(bob, "his")
        self.assertEqual(await self.labels(alice), ["hers"])
        self.assertEqual(await self.labels(bob), ["his"])
        answer = await bob.ask(f"TOKEN DROP {token_id.hex()}")
        self.assertEqual(answer, ["-ERR no-such-id you have no such token"])
        self.assertTrue(self.is_found(token_id))

    async def test_who_may(self) -> None:
        """Whoever did not log in is told what is missing."""
        alice = await self.alice()
        token_id, _ = await self.make(alice)
        new = await connect(self, self.receiver)
        nobody, _ = await anonymous(self, self.receiver)
        for request in ("TOKEN NEW x", "TOKEN LIST", f"TOKEN DROP {token_id.hex()}"):
            for talker, code in ((new, "login-first"), (nobody, "not-allowed")):
                answer = await talker.ask(request)
                self.assertEqual(len(answer), 1)
                self.assertTrue(answer[0].startswith(f"-ERR {code} "), answer)
        self.assertTrue(self.is_found(token_id))

    async def test_full(self) -> None:
        """Who has as many as one may have drops one to make another."""
        alice = await self.alice()
        token_id, _ = await self.make(alice)
        for number in range(1, MAX_TOKENS_PER_ACCOUNT):
            await self.make(alice, f"device {number}")
        answer = await alice.ask("TOKEN NEW one more")
        self.assertTrue(answer[0].startswith("-ERR full "), answer)
        self.assertEqual(len(await self.labels(alice)), MAX_TOKENS_PER_ACCOUNT)
        await self.make(await self.bob())
        await alice.ask(f"TOKEN DROP {token_id.hex()}")
        await self.make(alice)

    async def test_restart(self) -> None:
        """Tokens outlive the server; what was dropped does not come back."""
        alice = await self.alice()
        kept, secret = await self.make(alice, "kept")
        dropped, _ = await self.make(alice, "dropped")
        await alice.ask(f"TOKEN DROP {dropped.hex()}")
        await self.receiver.stopService()
        token = self.restart().office.tokens.find(kept)
        if token is None:
            self.fail("a token is lost")
        self.assertEqual((token.secret, token.owner), (secret, "alice"))
        self.assertFalse(self.is_found(dropped))
        self.assertEqual(await self.labels(await self.alice()), ["kept"])

    async def test_password_changed(self) -> None:
        """A device goes on when its owner changes the password."""
        alice = await self.alice()
        token_id, secret = await self.make(alice)
        self.assertEqual(await alice.ask("PASSWD looking glass"), ["+OK"])
        await self.receiver.office.tokens.check()
        token = self.receiver.office.tokens.find(token_id)
        self.assertEqual(token and token.secret, secret)
        self.assertEqual(await self.labels(alice), ["my pi"])

    async def test_account_removed(self) -> None:
        """With an account go its tokens; a new one of that name has none."""
        alice, bob = await self.alice(), await self.bob()
        token_id, _ = await self.make(alice)
        others, _ = await self.make(bob)
        remove_account(self.settings, "alice")
        for request in ("TOKEN NEW x", "TOKEN LIST", f"TOKEN DROP {token_id.hex()}"):
            answer = await alice.ask(request)
            self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)
        await self.receiver.office.tokens.check()
        self.assertFalse(self.is_found(token_id))
        self.assertTrue(self.is_found(others))
        add_accounts(self.settings, alice="wonder land")
        for request in ("TOKEN NEW x", "TOKEN LIST"):
            answer = await alice.ask(request)
            self.assertTrue(answer[0].startswith("-ERR auth "), answer)
        self.assertEqual(await self.labels(await self.alice()), [])
        with self.engine().connect() as connection:
            rows = connection.execute(select(schema.token.c.id)).all()
        self.assertEqual(len(rows), 1)

    async def test_checked_by_itself(self) -> None:
        """The server looks for changes again and again."""
        await self.receiver.stopService()
        self.patch(office, "CHECK_EVERY_S", 0.05)
        self.restart()
        token_id, _ = await self.make(await self.alice())
        remove_account(self.settings, "alice")
        for _ in range(100):
            if not self.is_found(token_id):
                break
            await pause(0.05)
        self.assertFalse(self.is_found(token_id))

    async def test_another_server(self) -> None:
        """Tokens that another server makes and drops in the same store count here."""
        keyring, engine = self.keyring(), self.engine()
        keys, token_id = TokenKeys(keyring.token_key), secrets.token_bytes(16)
        lookup = accounts.lookup_of(keyring.name_key, "bob")
        with engine.begin() as connection:
            account = accounts.find(connection, lookup)
            if account is None:
                self.fail("bob is not there")
            details = TokenDetails(token_id, "bob", "elsewhere", 0)
            tokens.add(connection, keys, account.id, details)
        self.assertFalse(self.is_found(token_id))
        await self.receiver.office.tokens.check()
        self.assertTrue(self.is_found(token_id))
        bob = await self.bob()
        self.assertEqual(await self.labels(bob), ["elsewhere"])
        with engine.begin() as connection:
            tokens.drop(connection, account.id, keys.lookup(token_id))
        await self.receiver.office.tokens.check()
        self.assertFalse(self.is_found(token_id))

    async def test_at_rest(self) -> None:
        """Neither id, secret, label nor name is on the disk, or in the log."""
        label = "the lighthouse at Skagen"
        written = StringIO()
        observer = log_observer(written, "json")
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        add_accounts(self.settings, zephyrine_qx77="Wüstenfuchs-9f3b")
        talker = await logged_in(
            self, self.receiver, "zephyrine_qx77", "Wüstenfuchs-9f3b"
        )
        token_id, secret = await self.make(talker, label)
        needles = (token_id, secret, label.encode(), b"zephyrine_qx77")
        self.assertEqual(await self.labels(talker), [label])
        self.assert_nowhere(needles)
        sealed = self.rows()
        self.assertEqual(len(sealed), 1)
        await talker.ask(f"TOKEN DROP {token_id.hex()}")
        await talker.ask(f"TOKEN DROP {token_id.hex()}")
        self.assertEqual(self.rows(), [])
        self.assert_nowhere(needles)
        for _ in range(100):
            files = contents_of(self.settings.data)
            if not any(sealed[0] in content for content in files.values()):
                break
            await pause(0.1)
        else:
            self.fail("a dropped token is on the disk")
        await self.receiver.stopService()
        self.assert_nowhere(needles)
        text_of_log = written.getvalue().encode()
        self.assertIn(b"stopped", text_of_log)
        for needle in needles:
            for form in forms(needle):
                self.assertNotIn(form, text_of_log)

    def rows(self) -> list[bytes]:
        """Read what is stored of tokens."""
        with self.engine().connect() as connection:
            return list(connection.scalars(select(schema.token.c.sealed)))

    def assert_nowhere(self, needles: tuple[bytes, ...]) -> None:
        """See that something is neither in the data folder nor in a table."""
        places = contents_of(self.settings.data)
        with self.engine().connect() as connection:
            for table in schema.metadata.sorted_tables:
                for number, row in enumerate(connection.execute(select(table))):
                    values = [v for v in row if isinstance(v, bytes | memoryview)]
                    joined = b"|".join(map(bytes, values))
                    places[f"{table.name} {number}"] = joined
        self.assertIn("token 0" if self.rows() else "account 0", places)
        found = {
            place
            for place, content in places.items()
            for needle in needles
            if any(form in content for form in forms(needle))
        }
        self.assertEqual(found, set())


class SqliteTokenVerbTests(TokenVerbTests, TestCase):
    """On SQLite."""

    def new_store(self) -> str:
        """Keep it in the data folder."""
        return ""


class PostgresTokenVerbTests(TokenVerbTests, TestCase):
    """On PostgreSQL."""

    def new_store(self) -> str:
        """Make a database on the server of this test run."""
        server = postgres()
        url = server.new_database()
        self.addCleanup(server.drop_database, url)
        return url.render_as_string(hide_password=False)
