"""
What is known of a file, and who can open it.

While a file is received and scanned, its key and its description are sealed under a
key of the server's.  When it was found clean they are sealed to the owner of the
box instead; when it was found infected, only the description is, and the key is
nowhere any more.  Nothing of it is stored in clear at any time.
"""

import hmac
import secrets
import struct

from attrs import evolve, field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securerecv.errors import StorageError
from securerecv.vault.mailboxkeys import MailboxPrivateKey, MailboxPublicKey
from securerecv.wire.filelines import FileRecord, FileState

SHA256_BYTES = 32

_KEY_BYTES = 32
_NONCE_BYTES = 12
_INFO = b"securerecv/1 file "
_HEAD = struct.Struct(f">{SHA256_BYTES}sQQ")
_LENGTH = struct.Struct(">H")


@frozen
class FileDetails:
    """
    What is known of a file.

    Attributes:
        key: what its segments are sealed under; empty when it was destroyed.
        sha256: of the whole content, 32 bytes, as the sender said.
        size: bytes of the whole content.
        when_ms: when it was announced, milliseconds since 1970.
        owner: the user name of whom it is for.
        sender: a user name, or ``anon``.
        name: `securerecv.names.file_name`.
        why: why it is infected or held; else empty.
    """

    key: bytes = field(repr=False)
    sha256: bytes = field(repr=False)
    size: int
    when_ms: int
    owner: str = field(repr=False)
    sender: str = field(repr=False)
    name: str = field(repr=False)
    why: str = ""

    def without_key(self, why: str) -> "FileDetails":
        """Give what is left to be known of an infected file."""
        return evolve(self, key=b"", why=why)

    def because(self, why: str) -> "FileDetails":
        """Give the same with another reason."""
        return evolve(self, why=why)

    def record(self, file_id: bytes, state: FileState) -> FileRecord:
        """Give what its owner is told of it."""
        return FileRecord(
            id=file_id.hex(),
            state=state,
            size=self.size,
            sha256=self.sha256.hex(),
            sender=self.sender,
            when_ms=self.when_ms,
            name=self.name,
            why=self.why,
        )

    def encode(self) -> bytes:
        """
        Write it down.

        Returns:
            SHA-256 (32 bytes), size and time (8 bytes each), and then key, owner,
            sender, name and reason, each behind its length (2 bytes).
        """
        texts = (self.owner, self.sender, self.name, self.why)
        parts = [self.key, *(text.encode() for text in texts)]
        tail = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
        return _HEAD.pack(self.sha256, self.size, self.when_ms) + tail

    @classmethod
    def decode(cls, written: bytes) -> "FileDetails":
        """Undo `encode`, for what was authenticated."""
        at = _HEAD.size
        parts: list[bytes] = []
        while at < len(written):
            (length,) = _LENGTH.unpack_from(written, at)
            at += _LENGTH.size + length
            parts.append(written[at - length : at])
        key, *texts = parts
        return cls(key, *_HEAD.unpack_from(written), *(t.decode() for t in texts))


class FileKeys:
    """
    What is made of the server's key for files.

    Args:
        file_key: `securerecv.vault.keyring.Keyring.file_key`.
    """

    def __init__(self, file_key: bytes) -> None:
        # RFC 5869 section 3.3; one label a purpose keeps the keys independent.
        self._cipher = AESGCM(_expand(file_key, b"row"))
        self._identity_key = _expand(file_key, b"identity")

    def identity(self, lookup: bytes, sent_by: str, details: FileDetails) -> bytes:
        """
        Give what a file is recognised by when it is announced again.

        Args:
            lookup: of the recipient's account, 32 bytes.
            sent_by: stands for the sender.
            details: what was announced.

        Returns:
            32 bytes.
        """
        texts = (sent_by, details.name)
        said = b"".join(
            _LENGTH.pack(len(text)) + text for text in map(str.encode, texts)
        )
        head = _HEAD.pack(details.sha256, details.size, 0)
        return hmac.digest(self._identity_key, lookup + head + said, "sha256")

    def seal(self, file_id: bytes, lookup: bytes, details: FileDetails) -> bytes:
        """
        Encrypt for the server.

        Returns:
            12 bytes nonce, then ciphertext and tag.
        """
        # Random nonces do for 2**32 files (NIST SP 800-38D section 8.3).  File and
        # box are bound in: a row cannot be moved to another box to be opened there.
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, details.encode(), file_id + lookup)

    def open(self, file_id: bytes, lookup: bytes, sealed: bytes) -> FileDetails:
        """
        Undo `seal`.

        Raises:
            StorageError: it was changed on disk, or belongs elsewhere.
        """
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, ciphertext, file_id + lookup)
        except (InvalidTag, ValueError):  # a ValueError if the nonce is cut short
            raise _damaged() from None
        return FileDetails.decode(plain)


def seal_to_owner(
    key: MailboxPublicKey, file_id: bytes, lookup: bytes, details: FileDetails
) -> bytes:
    """Seal for the owner of the box alone (HPKE, RFC 9180)."""
    return key.seal(details.encode(), _INFO + lookup + file_id)


def open_as_owner(
    key: MailboxPrivateKey, file_id: bytes, lookup: bytes, sealed: bytes
) -> FileDetails:
    """
    Undo `seal_to_owner`.

    Raises:
        StorageError: it was changed on disk, or belongs elsewhere.
    """
    try:
        plain = key.open(sealed, _INFO + lookup + file_id)
    except InvalidTag:
        raise _damaged() from None
    return FileDetails.decode(plain)


def _expand(file_key: bytes, purpose: bytes) -> bytes:
    label = b"securerecv/1 file " + purpose
    return HKDFExpand(SHA256(), _KEY_BYTES, label).derive(file_key)


def _damaged() -> StorageError:
    return StorageError("what is known of a file is damaged on disk")
