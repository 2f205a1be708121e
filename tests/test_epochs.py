"""Epochs: what seals messages, and who opens them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from attrs import asdict
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import StorageError
from securerecv.vault import epochs
from securerecv.vault.epochs import Epoch, EpochReader, header_of
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.wire.lines import Message

BOX = b"alice's box".ljust(32)
OTHER_BOX = b"bob's box".ljust(32)
KEY = MailboxPrivateKey.generate()
ID = "00112233445566ff"


def a_message(body: bytes = b"body", sender: str = "bob", when_ms: int = 1) -> Message:
    """Make a message of the id `ID`."""
    return Message(ID, sender, when_ms, body)


def seal(epoch: Epoch, message: Message) -> bytes:
    """Seal a message."""
    header = header_of(message.sender, message.when_ms)
    return epoch.seal(bytes.fromhex(message.id), header, message.body)


def flipped(whole: bytes) -> Iterator[bytes]:
    """Give the bytes with one bit changed, for every byte."""
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        yield bytes(changed)


class EpochTests(SynchronousTestCase):
    """One epoch of a box."""

    def setUp(self) -> None:
        """Begin an epoch, and open it as the owner."""
        self.epoch, self.sealed_key = epochs.begin(KEY.public_key(), BOX, 100.0)
        self.reader = EpochReader(KEY, self.sealed_key, BOX)

    def assert_shut(self, message_id: bytes, sealed: bytes) -> None:
        """See that something does not open."""
        self.assertRaises(StorageError, self.reader.open, message_id, sealed)

    def test_round_trip(self) -> None:
        """What is sealed is opened as it was: body, sender and time."""
        for body in (b"", b"\0", bytes(range(256)), secrets.token_bytes(1024 * 1024)):
            for sender in ("anon", "é", "😀" * 64):
                for when_ms in (0, 1_700_000_000_123, (1 << 64) - 1):
                    message = a_message(body, sender, when_ms)
                    sealed = seal(self.epoch, message)
                    opened = self.reader.open(bytes.fromhex(ID), sealed)
                    self.assertEqual(opened, message)

    @settings(max_examples=40, deadline=None)
    @given(
        st.binary(max_size=200),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
        st.integers(0, (1 << 64) - 1),
        st.binary(min_size=8, max_size=8),
    )
    def test_any_message(
        self, body: bytes, sender: str, when_ms: int, message_id: bytes
    ) -> None:
        """Whatever is in a message, it comes out the same."""
        message = Message(message_id.hex(), sender, when_ms, body)
        sealed = seal(self.epoch, message)
        self.assertEqual(self.reader.open(message_id, sealed), message)

    def test_size(self) -> None:
        """Sealing adds a nonce, a header with the sender's name, and a tag."""
        sealed = seal(self.epoch, a_message(b"12345", "bob"))
        self.assertEqual(len(sealed), 12 + 8 + 2 + len("bob") + 5 + 16)

    def test_nonces_never_repeat(self) -> None:
        """Ten thousand messages of one epoch have ten thousand nonces."""
        message = a_message()
        nonces = {seal(self.epoch, message)[:12] for _ in range(10_000)}
        self.assertEqual(len(nonces), 10_000)

    def test_epochs_differ(self) -> None:
        """Two epochs of one box have neither the id nor the key in common."""
        other, other_key = epochs.begin(KEY.public_key(), BOX, 100.0)
        self.assertNotEqual(other.id, self.epoch.id)
        info = b"securerecv/1 epoch " + BOX
        keys = KEY.open(self.sealed_key, info), KEY.open(other_key, info)
        self.assertEqual([len(key) for key in keys], [32, 32])
        self.assertNotEqual(*keys)

    def test_id_fits(self) -> None:
        """Ids fit a signed 64-bit column."""
        ids = [epochs.begin(KEY.public_key(), BOX, 0.0)[0].id for _ in range(50)]
        self.assertEqual(len(set(ids)), 50)
        self.assertTrue(all(0 <= number < 1 << 63 for number in ids))

    def test_other_epoch(self) -> None:
        """A message does not open with another epoch of the same box."""
        other, _ = epochs.begin(KEY.public_key(), BOX, 100.0)
        self.assert_shut(bytes.fromhex(ID), seal(other, a_message()))

    def test_other_id(self) -> None:
        """A message that was moved to another id does not open."""
        self.assert_shut(bytes(8), seal(self.epoch, a_message()))

    def test_other_box(self) -> None:
        """An epoch's key that was moved to another box does not open there."""
        self.assertRaises(StorageError, EpochReader, KEY, self.sealed_key, OTHER_BOX)

    def test_message_of_other_box(self) -> None:
        """A box is bound into its messages too, not only into its keys."""
        info = b"securerecv/1 epoch "
        secret = KEY.open(self.sealed_key, info + BOX)
        moved = KEY.public_key().seal(secret, info + OTHER_BOX)
        reader = EpochReader(KEY, moved, OTHER_BOX)
        sealed = seal(self.epoch, a_message())
        self.assertRaises(StorageError, reader.open, bytes.fromhex(ID), sealed)

    def test_other_owner(self) -> None:
        """Somebody else's private key does not open the epoch."""
        other = MailboxPrivateKey.generate()
        self.assertRaises(StorageError, EpochReader, other, self.sealed_key, BOX)

    def test_flipped_message(self) -> None:
        """A change to any byte of a sealed message is noticed."""
        for changed in flipped(seal(self.epoch, a_message(b"some words"))):
            self.assert_shut(bytes.fromhex(ID), changed)

    def test_cut_message(self) -> None:
        """A sealed message that was cut short or made longer is noticed."""
        sealed = seal(self.epoch, a_message())
        for length in range(len(sealed)):
            self.assert_shut(bytes.fromhex(ID), sealed[:length])
        self.assert_shut(bytes.fromhex(ID), sealed + b"\0")

    def test_flipped_key(self) -> None:
        """A change to a sealed epoch key is noticed."""
        for at, changed in enumerate(flipped(self.sealed_key)):
            if at % 13 == 0 or at > 1080:
                self.assertRaises(StorageError, EpochReader, KEY, changed, BOX)

    def test_cut_key(self) -> None:
        """A sealed epoch key that was cut short is noticed."""
        for length in (0, 1, 100, 1088, 1120, 1136, len(self.sealed_key) - 1):
            cut = self.sealed_key[:length]
            self.assertRaises(StorageError, EpochReader, KEY, cut, BOX)

    def test_server_keeps_no_key(self) -> None:
        """No value that the server holds or stores is the epoch's key."""
        secret = KEY.open(self.sealed_key, b"securerecv/1 epoch " + BOX)
        self.assertNotIn(secret, self.sealed_key)
        values = asdict(self.epoch).values()
        held = [value for value in values if isinstance(value, bytes)]
        self.assertEqual(held, [BOX])
        methods = {name for name in dir(self.epoch) if not name.startswith("_")}
        self.assertEqual(methods, {"began_s", "id", "lasts", "seal"})

    def test_nothing_in_repr(self) -> None:
        """An epoch in a log line shows nothing of its key or its messages."""
        sealed = seal(self.epoch, a_message(b"unheard-of"))
        text = repr(self.epoch) + repr(self.reader) + repr(a_message(b"unheard-of"))
        self.assertNotIn("unheard-of", text)
        self.assertNotIn("AESGCM", text)
        self.assertNotIn(sealed.hex(), text)
