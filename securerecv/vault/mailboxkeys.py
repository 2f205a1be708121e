"""
The key pair of a mailbox: made once, its private half only ever stored wrapped.

The public half seals epoch keys (`securerecv.vault.epochs`).  The private half
is wrapped twice, by the owner's password and by a recovery code, so that
either opens the box and nothing that the server keeps does.
"""

import secrets

from attrs import field, frozen
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF, scrypt
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from securerecv.errors import ErrorCode, PeerError

_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_SALT_BYTES = 16
_TAG_BYTES = 16
_KEY_BYTES = 32

SCRYPT_LOG_N = 16
"""64 MiB and about 0.2 s a guess: no cheaper to guess than bcrypt's cost 12."""

_MAX_SCRYPT_LOG_N = 20
"""1 GiB: a wrapped key that asks for more is damaged."""

_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_CHARACTERS = 28
_CODE_GROUP = 4

# HPKE (RFC 9180) with the hybrid ML-KEM-768 + X25519 KEM: what is sealed stays
# sealed as long as one of the two holds.
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class WrongSecretError(PeerError):
    """The password or recovery code does not open the mailbox."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.AUTH, "that does not open the mailbox")


@frozen
class MailboxPublicKey:
    """
    The half that seals.

    Attributes:
        raw: 1,184 bytes ML-KEM-768 and 32 bytes X25519.
    """

    raw: bytes = field(repr=False)

    def is_whole(self) -> bool:
        """Tell whether it is a key, and not what a damaged disk left of one."""
        try:
            self._key()
        except ValueError:
            return False
        return True

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Seal for the owner; ``info`` must be the same when it is opened."""
        return _SUITE.encrypt(plaintext, self._key(), info)

    def _key(self) -> MLKEM768X25519PublicKey:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_BYTES:]),
        )


@frozen
class MailboxPrivateKey:
    """
    The half that opens.

    Attributes:
        raw: 64 bytes ML-KEM-768 seed and 32 bytes X25519.
    """

    raw: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> "MailboxPrivateKey":
        """Make a new one."""
        return cls(secrets.token_bytes(_MLKEM_SEED_BYTES + _KEY_BYTES))

    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        return (
            MLKEM768PrivateKey.from_seed_bytes(self.raw[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(self.raw[_MLKEM_SEED_BYTES:]),
        )

    def public_key(self) -> MailboxPublicKey:
        """Give the other half."""
        mlkem, x25519 = self._halves()
        return MailboxPublicKey(
            mlkem.public_key().public_bytes_raw()
            + x25519.public_key().public_bytes_raw()
        )

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """
        Open what was sealed to the public half.

        Raises:
            cryptography.exceptions.InvalidTag: it was not, or was changed.
        """
        return _SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(*self._halves()), info)


# -- wrapping -----------------------------------------------------------------


def wrap_with_password(
    private: MailboxPrivateKey, secret: bytes, log_n: int = SCRYPT_LOG_N
) -> bytes:
    """
    Wrap the private half under a password.  Slow on purpose.

    Args:
        private: what is wrapped.
        secret: 32 bytes made of the password and a server key
            (`securerecv.access.passwords.PasswordMixer.mailbox_secret`).
        log_n: the logarithm of scrypt's cost.

    Returns:
        One byte ``log_n``, 16 bytes salt, 96 bytes ciphertext, 16 bytes tag.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    sealed = _wrap(private, _password_key(secret, salt, log_n))
    return bytes([log_n]) + salt + sealed


def unwrap_with_password(wrapped: bytes, secret: bytes) -> MailboxPrivateKey:
    """
    Undo `wrap_with_password`.  Slow on purpose.

    Raises:
        WrongSecretError: it is not the password.
    """
    log_n, salt, sealed = wrapped[0], wrapped[1:][:_SALT_BYTES], wrapped[1:]
    if not 0 < log_n <= _MAX_SCRYPT_LOG_N:
        raise WrongSecretError
    return _unwrap(sealed[_SALT_BYTES:], _password_key(secret, salt, log_n))


def new_recovery_code() -> str:
    """Make a code of 140 random bits, in groups of four characters."""
    characters = [secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_CHARACTERS)]
    groups = range(0, _CODE_CHARACTERS, _CODE_GROUP)
    return "-".join("".join(characters[at : at + _CODE_GROUP]) for at in groups)


def wrap_with_code(private: MailboxPrivateKey, code: str) -> bytes:
    """
    Wrap the private half under a recovery code.

    Returns:
        16 bytes salt, 96 bytes ciphertext, 16 bytes tag.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    return salt + _wrap(private, _code_key(code, salt))


def unwrap_with_code(wrapped: bytes, code: str) -> MailboxPrivateKey:
    """
    Undo `wrap_with_code`.

    Raises:
        WrongSecretError: it is not the code.
    """
    salt = wrapped[:_SALT_BYTES]
    return _unwrap(wrapped[_SALT_BYTES:], _code_key(code, salt))


def _password_key(secret: bytes, salt: bytes, log_n: int) -> bytes:
    return bytes(scrypt(secret, salt, _KEY_BYTES, N=1 << log_n, r=8, p=1))


def _code_key(code: str, salt: bytes) -> bytes:
    # The code is random and long enough not to be guessed, so it needs no
    # stretching: HKDF (RFC 5869) only gives it the shape of a key.
    typed = code.upper().translate(str.maketrans("ILO", "110", "- "))
    key = HKDF(typed.encode(), _KEY_BYTES, salt, SHA256, 1, b"securerecv/1 recovery")
    if not isinstance(key, bytes):  # several keys are a tuple, one is bytes
        raise TypeError
    return key


def _wrap(private: MailboxPrivateKey, key: bytes) -> bytes:
    # The key is used once: its salt is fresh, so a fixed nonce cannot meet a
    # second plaintext under it.
    cipher = AES.new(key, AES.MODE_GCM, nonce=bytes(12))
    ciphertext, tag = cipher.encrypt_and_digest(private.raw)
    return ciphertext + tag


def _unwrap(sealed: bytes, key: bytes) -> MailboxPrivateKey:
    cipher = AES.new(key, AES.MODE_GCM, nonce=bytes(12))
    try:
        raw = cipher.decrypt_and_verify(sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
    except ValueError:
        raise WrongSecretError from None
    return MailboxPrivateKey(raw)
