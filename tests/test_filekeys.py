"""What is known of a file, sealed for the server and for the owner."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import StorageError
from securerecv.vault.filekeys import (
    FileDetails,
    FileKeys,
    open_as_owner,
    seal_to_owner,
)
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.wire.filelines import FileState

FILE_ID = bytes(range(8))
LOOKUP = bytes(range(32))
DETAILS = FileDetails(
    key=b"k" * 32,
    sha256=b"\xab" * 32,
    size=5,
    when_ms=1_700_000_000_123,
    owner="zephyrine",
    sender="balthasar",
    name="Wüstenfuchs 🦊.txt",
    why="the scanner sleeps",
)
SECRETS = [text.encode() for text in ("zephyrine", "balthasar", "fuchs", "sleeps")]
SECRETS += [DETAILS.key[:8], DETAILS.sha256[:8]]


class DetailsTests(SynchronousTestCase):
    """What is known of a file."""

    def test_written_down(self) -> None:
        """Everything comes back as it was, whatever is empty."""
        for details in (
            DETAILS,
            DETAILS.without_key("Eicar"),
            evolve(DETAILS, owner="", sender="", name="", why="", size=0),
        ):
            self.assertEqual(FileDetails.decode(details.encode()), details)

    def test_record(self) -> None:
        """The owner is told what the protocol says, and not the key."""
        record = DETAILS.record(FILE_ID, FileState.HELD)
        self.assertEqual(
            record.lines(),
            [
                f"FILE 0001020304050607 held 5 {'ab' * 32} balthasar"  # noqa: ISC004 - one line of two
                " 2023-11-14T22:13:20.123Z Wüstenfuchs 🦊.txt",
                "WHY 0001020304050607 the scanner sleeps",
            ],
        )

    def test_not_shown(self) -> None:
        """Nothing that somebody wrote is in what a log would show."""
        shown = repr(DETAILS) + repr(DETAILS.record(FILE_ID, FileState.HELD))
        for word in ("zephyrine", "fuchs", "kkkk"):
            self.assertNotIn(word, shown)


class ServerTests(SynchronousTestCase):
    """Sealed for the server."""

    def setUp(self) -> None:
        """Seal."""
        self.keys = FileKeys(b"f" * 32)
        self.sealed = self.keys.seal(FILE_ID, LOOKUP, DETAILS)

    def test_round_trip(self) -> None:
        """It opens again, and shows nothing until then."""
        self.assertEqual(self.keys.open(FILE_ID, LOOKUP, self.sealed), DETAILS)
        for secret in SECRETS:
            self.assertNotIn(secret, self.sealed)

    def test_elsewhere(self) -> None:
        """It does not open for another file, in another box, or with another key."""
        for keys, file_id, lookup in (
            (self.keys, FILE_ID[::-1], LOOKUP),
            (self.keys, FILE_ID, LOOKUP[::-1]),
            (FileKeys(b"g" * 32), FILE_ID, LOOKUP),
        ):
            self.assertRaises(StorageError, keys.open, file_id, lookup, self.sealed)

    def test_damaged(self) -> None:
        """A changed or shortened one is not taken."""
        for at in range(len(self.sealed)):
            changed = bytearray(self.sealed)
            changed[at] ^= 1
            for sealed in (bytes(changed), self.sealed[:at]):
                self.assertRaises(StorageError, self.keys.open, FILE_ID, LOOKUP, sealed)

    def test_identity(self) -> None:
        """The same announcement is recognised, and any other is another."""

        def identity(
            lookup: bytes = LOOKUP,
            sent_by: str = "user a",
            details: FileDetails = DETAILS,
            keys: FileKeys = self.keys,
        ) -> bytes:
            return keys.identity(lookup, sent_by, details)

        again = evolve(DETAILS, key=b"o" * 32, when_ms=1, why="", sender="anon")
        self.assertEqual(identity(), identity(details=again))
        others = {
            identity(),
            identity(lookup=LOOKUP[::-1]),
            identity(sent_by="user b"),
            identity(details=evolve(DETAILS, size=6)),
            identity(details=evolve(DETAILS, sha256=b"\xac" * 32)),
            identity(details=evolve(DETAILS, name="x")),
            identity(keys=FileKeys(b"g" * 32)),
            identity(sent_by="user a" + DETAILS.name[:1]),
        }
        self.assertEqual(len(others), 8)


class OwnerTests(SynchronousTestCase):
    """Sealed for the owner."""

    def setUp(self) -> None:
        """Seal."""
        self.key = MailboxPrivateKey.generate()
        self.sealed = seal_to_owner(self.key.public_key(), FILE_ID, LOOKUP, DETAILS)

    def test_round_trip(self) -> None:
        """It opens with the owner's key, and shows nothing without."""
        opened = open_as_owner(self.key, FILE_ID, LOOKUP, self.sealed)
        self.assertEqual(opened, DETAILS)
        for secret in SECRETS:
            self.assertNotIn(secret, self.sealed)

    def test_elsewhere(self) -> None:
        """It does not open for another file, in another box, or for another user."""
        for key, file_id, lookup in (
            (self.key, FILE_ID[::-1], LOOKUP),
            (self.key, FILE_ID, LOOKUP[::-1]),
            (MailboxPrivateKey.generate(), FILE_ID, LOOKUP),
        ):
            self.assertRaises(
                StorageError, open_as_owner, key, file_id, lookup, self.sealed
            )
