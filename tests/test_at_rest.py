"""What lies on the disk, and what can be made of it without a password."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import Connection
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from securerecv.access.passwords import PasswordMixer
from securerecv.errors import PeerError, StorageError
from securerecv.intake.accountbook import open_account_book
from securerecv.log import log_observer
from securerecv.settings import Settings
from securerecv.vault import accounts, boxes
from securerecv.vault.accounts import Account
from securerecv.vault.database import database_url, open_database
from securerecv.vault.epochs import EpochReader
from securerecv.vault.keyring import Keyring, open_keyring
from securerecv.vault.mailboxkeys import (
    MailboxPrivateKey,
    unwrap_with_code,
    unwrap_with_password,
)
from tests.support import (
    QUICK,
    Talker,
    anonymous,
    connect,
    dial,
    logged_in,
    new_folder,
    pause,
    start_receiver,
)
from tests.vaults import contents_of

ROOT = Path(__file__).resolve().parent.parent

OWNER = "zephyrine.qx77"
OWNER_PASSWORD = "Wüstenfuchs-9f3b-trägt-Mütze"
NEW_PASSWORD = "Schneehase-41aa-hört-Radio"
WRONG_PASSWORD = "Murmeltier-77e0-schläft"
SENDER = "balthasar_kv82"
SENDER_PASSWORD = "Eichhörnchen-0c5d-zählt"
STRANGER = "philomena-jw63"
TEXT = "the heron lands at dawn, bring the ledger"
BINARY = b"\0\x01quicksilver\xff\xfe in the north tower\r\n"
LARGE = secrets.token_bytes(300_000)
PATIENCE_S = 10.0


def forms(secret: bytes) -> Iterator[bytes]:
    """Give a secret raw, in hexadecimal, and in base64 wherever it begins."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(bytes(shift) + secret + bytes(3))
            # Only the characters that depend on nothing but the secret.
            yield whole[(shift * 8 + 5) // 6 : (shift + len(secret)) * 8 // 6]


def wanted_needles(codes: dict[str, str]) -> dict[str, bytes]:
    """Give everything that must never be found, by what it is."""
    needles = {
        "owner's name": OWNER.encode(),
        "sender's name": SENDER.encode(),
        "stranger's name": STRANGER.encode(),
        "password": OWNER_PASSWORD.encode(),
        "new password": NEW_PASSWORD.encode(),
        "wrong password": WRONG_PASSWORD.encode(),
        "sender's password": SENDER_PASSWORD.encode(),
        "text": TEXT.encode(),
        "binary": BINARY.strip(),
    }
    for at in (0, 70_000, 150_001, len(LARGE) - 32):
        needles[f"large body at {at}"] = LARGE[at : at + 32]
    for name, code in codes.items():
        needles[f"code of {name}"] = code.encode()
        needles[f"bare code of {name}"] = code.replace("-", "").encode()
    return needles


def found(files: dict[str, bytes], needles: dict[str, bytes]) -> set[tuple[str, str]]:
    """Search files, and give what was found in which."""
    return {
        (path, what)
        for path, content in files.items()
        for what, secret in needles.items()
        if any(form in content for form in forms(secret))
    }


def add_accounts(settings: Settings) -> dict[str, str]:
    """Make both accounts; their recovery codes are returned by name."""
    book = open_account_book(settings, QUICK)
    passwords = {OWNER: OWNER_PASSWORD, SENDER: SENDER_PASSWORD}
    try:
        return {name: book.add(name, word) for name, word in passwords.items()}
    finally:
        book.close()


def read_account(settings: Settings, name: str) -> tuple[Account, PasswordMixer]:
    """Give an account of a data folder, and what mixes its passwords."""
    book = open_account_book(settings, QUICK)
    try:
        account = book._find(name)
        if account is None:
            raise AssertionError(name)
        return account, book._locksmith.mixer
    finally:
        book.close()


def mailbox_key(settings: Settings, name: str, password: str) -> MailboxPrivateKey:
    """Open a mailbox's private key with a password."""
    account, mixer = read_account(settings, name)
    secret = mixer.mailbox_secret(name, password)
    return unwrap_with_password(account.wrapped_by_password, secret)


def key_needles(key: MailboxPrivateKey, what: str) -> dict[str, bytes]:
    """Give the halves of a private key as things that must not be found."""
    return {f"{what}, ML-KEM": key.raw[:64], f"{what}, X25519": key.raw[64:]}


class SearchTests(TestCase):
    """The search itself, so that it is known to find what is there."""

    def test_finds(self) -> None:
        """A secret is found raw, in hexadecimal and in base64 at any place."""
        secret = OWNER_PASSWORD.encode()
        for content in (
            b"x" + secret + b"y",
            secret.hex().encode(),
            secret.hex().upper().encode(),
            *(base64.b64encode(b"a" * n + secret + b"b" * n) for n in range(5)),
        ):
            self.assertEqual(
                found({"file": content}, {"password": secret}), {("file", "password")}
            )
        self.assertEqual(found({"file": secret[:-1]}, {"password": secret}), set())


class ServerTests(TestCase):
    """The data folder and the log of a server with traffic."""

    def setUp(self) -> None:
        """Make accounts whose names and passwords are found nowhere else."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        self.codes = add_accounts(self.settings)
        self.needles = wanted_needles(self.codes)
        for name, password in ((OWNER, OWNER_PASSWORD), (SENDER, SENDER_PASSWORD)):
            key = mailbox_key(self.settings, name, password)
            self.needles |= key_needles(key, f"key of {name}")

    def assert_nothing(self, moment: str) -> None:
        """See that nothing is on the disk that must not be."""
        files = contents_of(self.settings.data)
        self.assertIn("keys/server-secret", files)
        self.assertIn("store.sqlite3", files)
        self.assertEqual(found(files, self.needles), set(), moment)

    def query(self, statement: str) -> list[Any]:
        """Read the database over a connection of the test's own."""
        path = self.settings.data / "store.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            return [row[0] for row in connection.execute(statement)]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; fail if it does not for long."""
        for _ in range(int(PATIENCE_S / 0.1)):
            if holds():
                return
            await pause(0.1)
        self.fail(what)

    def on_disk(self, values: list[bytes]) -> bool:
        """Tell whether any of some bytes are in a file."""
        files = contents_of(self.settings.data).values()
        return any(value in content for value in values for content in files)

    async def send_all(self, talker: Talker) -> None:
        """Send each of the bodies to the owner."""
        await talker.ask(f"SAY {OWNER} {TEXT}")
        for body in (BINARY, LARGE):
            head = b"SEND %b %d\n" % (OWNER.encode(), len(body))
            answer = await talker.ask(head + body + b"\r\n")
            self.assertTrue(answer[-1].startswith("+OK"), answer)

    async def test_everything(self) -> None:
        """Neither the files nor the logs tell anything at any moment."""
        logs = {"text": StringIO(), "json": StringIO()}
        for log_format, file in logs.items():
            observer = log_observer(file, log_format)
            globalLogPublisher.addObserver(observer)
            self.addCleanup(globalLogPublisher.removeObserver, observer)
        receiver = start_receiver(self, self.settings)
        nobody, _ = await anonymous(self, receiver)
        sender = await logged_in(self, receiver, SENDER, SENDER_PASSWORD)
        owner = await logged_in(self, receiver, OWNER, OWNER_PASSWORD)
        await owner.ask("WATCH")
        await owner.ask("UNWATCH")
        for talker in (nobody, sender):
            await self.send_all(talker)
            self.assert_nothing("when it is acknowledged")
        owner.say("LAST")
        await owner.take(b"messages\n")
        self.assert_nothing("when it has been read")
        await self.until(
            lambda: self.query("SELECT count(*) FROM arrival") == [0],
            "it does not settle",
        )
        self.assertEqual(self.query("SELECT count(*) FROM message"), [5])
        self.assert_nothing("when it has settled")
        other = await connect(self, receiver)
        for name, word in ((OWNER, WRONG_PASSWORD), (STRANGER, WRONG_PASSWORD)):
            answer = await other.ask(f"LOGIN {name} {word}")
            self.assertTrue(answer[-1].startswith("-ERR auth"), answer)
        await nobody.ask(f"SAY {STRANGER} {TEXT}")
        await nobody.ask(f"{TEXT}")
        answer = await owner.ask(f"PASSWD {NEW_PASSWORD}")
        self.assertTrue(answer[-1].startswith("+OK"), answer)
        self.assert_nothing("when the password was changed")
        await receiver.stopService()
        self.assert_nothing("when the server has stopped")
        for log_format, file in logs.items():
            text = file.getvalue()
            self.assertIn("receiving on tcp", text)
            self.assertEqual(found({log_format: text.encode()}, self.needles), set())

    async def test_dropped(self) -> None:
        """What is dropped is soon gone from the files, sealed as it was."""
        receiver = start_receiver(self, self.settings)
        owner = await logged_in(self, receiver, OWNER, OWNER_PASSWORD)
        for body in (TEXT.encode(), LARGE):
            await self.send_and_drop(owner, body)

    async def send_and_drop(self, owner: Talker, body: bytes) -> None:
        """Have the owner drop a message, and wait until it is gone."""
        head = b"SEND %b %d\n" % (OWNER.encode(), len(body))
        answer = await owner.ask(head + body + b"\r\n")
        # Idle, so that nothing but the drop itself has it cleared away.
        await pause(0.8)
        (sealed,) = self.query("SELECT sealed FROM message")
        parts = [sealed[:40], sealed[-40:], sealed[len(sealed) // 2 :][:40]]
        self.assertTrue(self.on_disk(parts))
        await owner.ask(f"DROP {answer[-1].removeprefix('+OK ')}")
        await self.until(
            lambda: not self.on_disk(parts), "a dropped message is on the disk"
        )

    async def test_outdated(self) -> None:
        """What newer messages push out is soon gone from the files."""
        receiver = start_receiver(self, self.settings)
        nobody, _ = await anonymous(self, receiver)
        await self.send_all(nobody)
        await self.until(
            lambda: self.query("SELECT count(*) FROM message") == [3],
            "it does not settle",
        )
        sealed = self.query("SELECT sealed FROM message")
        parts = [part for row in sealed for part in (row[:40], row[-40:])]
        self.assertTrue(self.on_disk(parts))
        for number in range(5):
            await nobody.ask(f"SAY {OWNER} {number}")
        await self.until(
            lambda: not self.on_disk(parts), "an outdated message is on the disk"
        )

    async def test_replaced_password(self) -> None:
        """What an old password opened is soon gone from the files."""
        receiver = start_receiver(self, self.settings)
        owner = await logged_in(self, receiver, OWNER, OWNER_PASSWORD)
        await pause(0.5)
        account, _ = read_account(self.settings, OWNER)
        old = [account.wrapped_by_password, account.password_hash]
        self.assertTrue(self.on_disk(old))
        await owner.ask(f"PASSWD {NEW_PASSWORD}")
        await self.until(lambda: not self.on_disk(old), "an old lock is on the disk")

    async def test_killed(self) -> None:
        """A server that is killed leaves nothing readable, and loses nothing."""
        place = new_folder(self)
        place.mkdir()
        log = place / "output"
        process = self.start_process(place, log)
        try:
            acknowledged = await self.stream_until_killed(process, log)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assert_nothing("when the server was killed")
        around = contents_of(place)
        self.assertIn("output", around)
        self.assertEqual(found(around, self.needles), set())
        receiver = start_receiver(self, self.settings)
        owner = await logged_in(self, receiver, OWNER, OWNER_PASSWORD)
        box = [line for line in await owner.ask("LAST") if line.startswith(TEXT)]
        numbers = [int(line.removeprefix(TEXT)) for line in box]
        self.assertEqual(numbers, list(range(numbers[-1] - 4, numbers[-1] + 1)))
        self.assertGreaterEqual(numbers[-1], acknowledged - 1)

    def start_process(self, place: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a server with everything that it may write in known places."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from twisted.scripts.twistd import run; run()",
                    *("--nodaemon", "--pidfile=", "securerecv", "--proto", "tcp"),
                    *("--port", "0", "--interface", "127.0.0.1"),
                    *("--data", str(self.settings.data)),
                ],
                cwd=place,
                env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
                stdout=output,
                stderr=output,
            )

    async def stream_until_killed(
        self, process: subprocess.Popen[bytes], log: Path
    ) -> int:
        """Send without a pause, kill the server; count what it acknowledged."""

        def port() -> re.Match[str] | None:
            return re.search(r"receiving on tcp 127\.0\.0\.1:(\d+)", log.read_text())

        await self.until(lambda: port() is not None, "the server does not start")
        match = port()
        talker = await dial(self, int(match[1]) if match else 0)
        await talker.ask("ANON")
        for number in range(3000):
            talker.say(f"SAY {OWNER} {TEXT}{number}")
        for _ in range(50):
            await talker.answer()
        process.kill()
        await talker.lost
        return 50 + talker.heard.count(b"+OK ")


class CopiedFolderTests(TestCase):
    """A copy of the whole folder, in the hands of somebody with its keys."""

    def setUp(self) -> None:
        """Fill a box, and copy the folder while the server runs."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        self.codes = add_accounts(self.settings)
        self.copy = Settings(data=new_folder(self), port=0)

    async def fill_and_copy(self) -> None:
        """Send, let it settle, and copy."""
        receiver = start_receiver(self, self.settings)
        nobody, _ = await anonymous(self, receiver)
        await nobody.ask(f"SAY {OWNER} {TEXT}")
        await receiver.stopService()
        shutil.copytree(self.settings.data, self.copy.data)
        self.keyring = open_keyring(self.copy.data)
        engine = open_database(database_url("", self.copy.data))
        self.addCleanup(engine.dispose)
        with engine.begin() as connection:
            self.take_rows(connection)

    def take_rows(self, connection: Connection) -> None:
        """Read the account, its epoch and its message from the copy."""
        lookup = accounts.lookup_of(self.keyring.name_key, OWNER)
        account = accounts.find(connection, lookup)
        if account is None:
            self.fail("the account is not in the copy")
        self.account = account
        (self.sealed,), keys = boxes.read(connection, account.id)
        ((_, self.epoch_key),) = keys.items()

    def opens_with(self, key: MailboxPrivateKey) -> bool:
        """Try to open the message with a mailbox key."""
        try:
            reader = EpochReader(key, self.epoch_key, self.account.lookup)
            message = reader.open(self.sealed.message_id, self.sealed.sealed)
        except StorageError:
            return False
        return message.body == TEXT.encode()

    def wrapping_opens(self, secret: bytes) -> bool:
        """Try a secret as what the mailbox key is wrapped under."""
        for unwrap, wrapped, tried in (
            (unwrap_with_password, self.account.wrapped_by_password, secret),
            (unwrap_with_code, self.account.wrapped_by_code, secret.hex()),
            (unwrap_with_code, self.account.wrapped_by_code, secret.decode("latin-1")),
        ):
            attempt: Any = unwrap
            try:
                key: MailboxPrivateKey = attempt(wrapped, tried)
            except PeerError:
                continue
            if self.opens_with(key):
                return True
        return False

    def epoch_opens(self, secret: bytes) -> bool:
        """Try a secret as the epoch's key."""
        nonce, ciphertext = self.sealed.sealed[:12], self.sealed.sealed[12:]
        bound = self.account.lookup + self.sealed.message_id
        try:
            AESGCM(secret).decrypt(nonce, ciphertext, bound)
        except InvalidTag:
            return False
        return True

    async def test_server_keys(self) -> None:
        """No key of the server opens a message, in whatever place it is tried."""
        await self.fill_and_copy()
        candidates = list(server_secrets(self.keyring))
        candidates += [self.account.lookup, self.account.password_hash[-32:]]
        self.assertGreaterEqual(len(candidates), 8)
        for one in candidates:
            self.assertEqual(len(one), 32)
            self.assertFalse(self.wrapping_opens(one))
            self.assertFalse(self.epoch_opens(one))
            for other in candidates:
                for raw in (one * 2 + other, one + other * 2):
                    self.assertFalse(self.opens_with(MailboxPrivateKey(raw)))
        for name in (OWNER, SENDER):
            mixer = PasswordMixer(self.keyring.password_key, self.keyring.mailbox_key)
            for password in ("", WRONG_PASSWORD, name, SENDER_PASSWORD):
                self.assertFalse(
                    self.wrapping_opens(mixer.mailbox_secret(name, password))
                )

    async def test_every_32_bytes(self) -> None:
        """No run of bytes in the folder is the key of the message's epoch."""
        await self.fill_and_copy()
        tried = 0
        for content in contents_of(self.copy.data).values():
            stripped = content.replace(bytes(32), b"")
            for at in range(len(stripped) - 31):
                self.assertFalse(self.epoch_opens(stripped[at : at + 32]))
                tried += 1
        self.assertGreater(tried, 1000)

    async def test_other_user(self) -> None:
        """Another user of the same server cannot open it either."""
        await self.fill_and_copy()
        self.assertFalse(
            self.opens_with(mailbox_key(self.copy, SENDER, SENDER_PASSWORD))
        )

    async def test_password(self) -> None:
        """With the password, and with the code, the same attempts do open it."""
        await self.fill_and_copy()
        mixer = PasswordMixer(self.keyring.password_key, self.keyring.mailbox_key)
        secret = mixer.mailbox_secret(OWNER, OWNER_PASSWORD)
        self.assertTrue(self.wrapping_opens(secret))
        self.assertTrue(self.wrapping_opens(self.codes[OWNER].encode("latin-1")))
        key = mailbox_key(self.copy, OWNER, OWNER_PASSWORD)
        self.assertTrue(self.opens_with(key))
        info = b"securerecv/1 epoch " + self.account.lookup
        self.assertTrue(self.epoch_opens(key.open(self.epoch_key, info)))

    async def test_password_without_keys(self) -> None:
        """A password is worth nothing without the keys of the server."""
        await self.fill_and_copy()
        mixer = PasswordMixer(bytes(32), bytes(32))
        secret = mixer.mailbox_secret(OWNER, OWNER_PASSWORD)
        self.assertFalse(self.wrapping_opens(secret))


def server_secrets(keyring: Keyring) -> Iterator[bytes]:
    """Give every secret of a server, 32 bytes each."""
    keys = keyring.certificate_key.parent
    yield bytes.fromhex((keys / "server-secret").read_text())
    yield bytes.fromhex((keys / "sealing-key").read_text())
    yield from (keyring.name_key, keyring.password_key, keyring.mailbox_key)
    yield keyring.sealing_public_key
    tls: Any = load_pem_private_key(keyring.certificate_key.read_bytes(), None)
    yield tls.private_numbers().private_value.to_bytes(32)
