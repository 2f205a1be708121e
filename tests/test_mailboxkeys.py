"""The keys of mailboxes: what opens them, and what does not."""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode
from securerecv.vault.mailboxkeys import (
    MailboxPrivateKey,
    MailboxPublicKey,
    WrongSecretError,
    new_recovery_code,
    unwrap_with_code,
    unwrap_with_password,
    wrap_with_code,
    wrap_with_password,
)

LOG_N = 4
MLKEM_SEED_BYTES = 64
MLKEM_PUBLIC_BYTES = 1184
SECRET = bytes(range(32))

KEY = MailboxPrivateKey.generate()


class SealingTests(SynchronousTestCase):
    """What is sealed to a public key."""

    def test_round_trip(self) -> None:
        """The private half opens what was sealed to the public half."""
        for plain in (b"", b"\0", b"epoch key " * 100):
            sealed = KEY.public_key().seal(plain, b"info")
            self.assertEqual(KEY.open(sealed, b"info"), plain)

    def test_sizes(self) -> None:
        """Keys have the documented sizes, and the seal adds 1,136 bytes."""
        self.assertEqual(len(KEY.raw), 64 + 32)
        self.assertEqual(len(KEY.public_key().raw), 1184 + 32)
        # ML-KEM-768's ciphertext, an X25519 public key, AES-GCM's tag.
        self.assertEqual(len(KEY.public_key().seal(b"", b"")), 1088 + 32 + 16)

    def test_generated_keys_differ(self) -> None:
        """No two mailboxes have the same key, nor the same half of one."""
        keys = [MailboxPrivateKey.generate().raw for _ in range(20)]
        self.assertEqual(len({raw[:MLKEM_SEED_BYTES] for raw in keys}), 20)
        self.assertEqual(len({raw[MLKEM_SEED_BYTES:] for raw in keys}), 20)

    def test_seals_differ(self) -> None:
        """The same plaintext sealed twice has nothing in common."""
        first, second = (KEY.public_key().seal(b"same", b"") for _ in range(2))
        for at in range(0, len(first) - 8, 8):
            self.assertNotEqual(first[at : at + 8], second[at : at + 8])

    def test_other_key(self) -> None:
        """Another mailbox's key does not open it."""
        sealed = KEY.public_key().seal(b"plain", b"info")
        other = MailboxPrivateKey.generate()
        self.assertRaises(InvalidTag, other.open, sealed, b"info")

    def test_other_info(self) -> None:
        """What was sealed for one purpose does not open for another."""
        sealed = KEY.public_key().seal(b"plain", b"info")
        self.assertRaises(InvalidTag, KEY.open, sealed, b"inf")

    def test_mlkem_half_alone(self) -> None:
        """The right ML-KEM half with another X25519 half opens nothing."""
        sealed = KEY.public_key().seal(b"plain", b"info")
        other = MailboxPrivateKey.generate().raw
        mixed = KEY.raw[:MLKEM_SEED_BYTES] + other[MLKEM_SEED_BYTES:]
        self.assertRaises(InvalidTag, MailboxPrivateKey(mixed).open, sealed, b"info")

    def test_x25519_half_alone(self) -> None:
        """The right X25519 half with another ML-KEM half opens nothing."""
        sealed = KEY.public_key().seal(b"plain", b"info")
        other = MailboxPrivateKey.generate().raw
        mixed = other[:MLKEM_SEED_BYTES] + KEY.raw[MLKEM_SEED_BYTES:]
        self.assertRaises(InvalidTag, MailboxPrivateKey(mixed).open, sealed, b"info")

    def test_sealed_to_half(self) -> None:
        """What was sealed to a public key with one half swapped does not open."""
        right, other = KEY.public_key().raw, MailboxPrivateKey.generate().public_key()
        for raw in (
            right[:MLKEM_PUBLIC_BYTES] + other.raw[MLKEM_PUBLIC_BYTES:],
            other.raw[:MLKEM_PUBLIC_BYTES] + right[MLKEM_PUBLIC_BYTES:],
        ):
            sealed = MailboxPublicKey(raw).seal(b"plain", b"info")
            self.assertRaises(InvalidTag, KEY.open, sealed, b"info")

    def test_every_flipped_byte(self) -> None:
        """A change to any byte of what was sealed is noticed."""
        sealed = KEY.public_key().seal(bytes(32), b"info")
        for at in (*range(0, len(sealed), 11), *range(1080, len(sealed))):
            changed = bytearray(sealed)
            changed[at] ^= 1 << at % 8
            self.assertRaises(InvalidTag, KEY.open, bytes(changed), b"info")

    def test_cut_short(self) -> None:
        """What was sealed and cut short is noticed, however little is left."""
        sealed = KEY.public_key().seal(bytes(32), b"info")
        for length in (0, 1, 32, 1088, 1119, 1120, 1121, 1136, len(sealed) - 1):
            self.assertRaises(InvalidTag, KEY.open, sealed[:length], b"info")

    def test_nothing_in_repr(self) -> None:
        """A key that ends up in a log line or a traceback shows nothing."""
        self.assertEqual(repr(KEY), "MailboxPrivateKey()")


class PasswordTests(SynchronousTestCase):
    """Private halves wrapped by a password."""

    def test_round_trip(self) -> None:
        """The same secret gives the key back."""
        wrapped = wrap_with_password(KEY, SECRET, LOG_N)
        self.assertEqual(unwrap_with_password(wrapped, SECRET), KEY)

    def test_size(self) -> None:
        """A wrapped key is cost, salt, ciphertext and tag: 129 bytes."""
        wrapped = wrap_with_password(KEY, SECRET, LOG_N)
        self.assertEqual(len(wrapped), 1 + 16 + 96 + 16)
        self.assertEqual(wrapped[0], LOG_N)

    def test_cost_is_remembered(self) -> None:
        """Keys that were wrapped at different costs open side by side."""
        for log_n in (1, 2, 10):
            wrapped = wrap_with_password(KEY, SECRET, log_n)
            self.assertEqual(unwrap_with_password(wrapped, SECRET), KEY)

    def test_default_cost(self) -> None:
        """Unless told otherwise a guess takes scrypt 64 MiB."""
        wrapped = wrap_with_password(KEY, SECRET)
        self.assertEqual(128 * 8 << wrapped[0], 64 * 1024 * 1024)

    def test_two_wraps_differ(self) -> None:
        """The same key wrapped twice shares neither salt nor ciphertext."""
        first, second = (wrap_with_password(KEY, SECRET, LOG_N) for _ in range(2))
        for part in (slice(1, 17), slice(17, 113), slice(113, 129)):
            self.assertNotEqual(first[part], second[part])

    def test_wrong_secret(self) -> None:
        """Any other secret is refused as a wrong login, with nothing told."""
        wrapped = wrap_with_password(KEY, SECRET, LOG_N)
        for wrong in (b"", SECRET[:-1], SECRET + b"\1", bytes(32), SECRET[::-1]):
            error = self.assertRaises(
                WrongSecretError, unwrap_with_password, wrapped, wrong
            )
            self.assertIs(error.code, ErrorCode.AUTH)

    def test_every_flipped_byte(self) -> None:
        """A change to any byte of a wrapped key is noticed."""
        wrapped = wrap_with_password(KEY, SECRET, LOG_N)
        for at in range(len(wrapped)):
            changed = bytearray(wrapped)
            changed[at] ^= 1 << at % 4
            self.assertRaises(
                WrongSecretError, unwrap_with_password, bytes(changed), SECRET
            )

    def test_impossible_cost(self) -> None:
        """A damaged cost is refused at once and never tried."""
        wrapped = wrap_with_password(KEY, SECRET, LOG_N)
        for log_n in (0, 21, 31, 63, 64, 128, 255):
            changed = bytes([log_n]) + wrapped[1:]
            self.assertRaises(WrongSecretError, unwrap_with_password, changed, SECRET)


class RecoveryCodeTests(SynchronousTestCase):
    """Private halves wrapped by a recovery code."""

    def setUp(self) -> None:
        """Wrap a key by a code that has digits which look like letters."""
        self.code = "01AB-CDEF-GH10-JKMN-PQRS-TVWX-YZ01"
        self.wrapped = wrap_with_code(KEY, self.code)

    def test_form(self) -> None:
        """A code is seven groups of four characters, none of them I, L, O or U."""
        for _ in range(50):
            self.assertRegex(
                new_recovery_code(),
                r"\A([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}\Z",
            )

    def test_codes_differ(self) -> None:
        """Codes use the whole alphabet, and none comes twice."""
        codes = [new_recovery_code() for _ in range(200)]
        self.assertEqual(len(set(codes)), 200)
        self.assertEqual(len(set("".join(codes))), 32 + 1)

    def test_size(self) -> None:
        """A wrapped key is salt, ciphertext and tag: 128 bytes."""
        self.assertEqual(len(self.wrapped), 16 + 96 + 16)

    def test_as_typed(self) -> None:
        """Case, dashes and blanks, and O, I, L for 0, 1, 1 make no difference."""
        for typed in (
            self.code,
            self.code.lower(),
            self.code.replace("-", ""),
            self.code.replace("-", " "),
            f"  {self.code} ",
            self.code.replace("0", "O").replace("1", "I"),
            self.code.replace("0", "o").replace("1", "l"),
            self.code.replace("1", "L").replace("-", "").lower(),
        ):
            self.assertEqual(unwrap_with_code(self.wrapped, typed), KEY)

    def test_wrong_codes(self) -> None:
        """A code with one character changed, missing or moved is refused."""
        for wrong in (
            "",
            self.code[:-1],
            self.code + "0",
            self.code[::-1],
            re.sub("A", "B", self.code),
            new_recovery_code(),
            "ключ",
        ):
            error = self.assertRaises(
                WrongSecretError, unwrap_with_code, self.wrapped, wrong
            )
            self.assertIs(error.code, ErrorCode.AUTH)

    def test_two_wraps_differ(self) -> None:
        """The same key wrapped twice by one code has nothing in common."""
        again = wrap_with_code(KEY, self.code)
        for part in (slice(16), slice(16, 112), slice(112, 128)):
            self.assertNotEqual(again[part], self.wrapped[part])

    def test_every_flipped_byte(self) -> None:
        """A change to any byte of a wrapped key is noticed."""
        for at in range(len(self.wrapped)):
            changed = bytearray(self.wrapped)
            changed[at] ^= 1 << at % 8
            self.assertRaises(
                WrongSecretError, unwrap_with_code, bytes(changed), self.code
            )

    @settings(max_examples=25, deadline=None)
    @given(st.binary(max_size=200))
    def test_garbage(self, wrapped: bytes) -> None:
        """Whatever stands where a wrapped key should be, no key comes out."""
        self.assertRaises(WrongSecretError, unwrap_with_code, wrapped, self.code)
