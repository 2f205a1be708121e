"""
Epochs: messages of one box and hour share a key that the server then forgets.

The key is random.  It is sealed to the box's public key once, when the epoch
begins; the server holds it in memory while the epoch lasts and nowhere else.
After that, only the owner can get it back.
"""

import struct
from secrets import randbits, token_bytes

from attrs import define, field
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securerecv.errors import StorageError
from securerecv.limits import EPOCH_S
from securerecv.vault.mailboxkeys import MailboxPrivateKey, MailboxPublicKey
from securerecv.wire.lines import Message

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BITS = 63
_INFO = b"securerecv/1 epoch "
_HEADER = struct.Struct(">QH")
MESSAGE_ID_BYTES = 8


@define
class Epoch:
    """
    The server's side: it can seal, for as long as it remembers the key.

    Attributes:
        id: the random number under which the sealed key is stored.
        began_s: when it began, on the caller's clock.
    """

    id: int
    began_s: float
    _cipher: AESGCM = field(repr=False)
    _box: bytes
    _sealed_messages: int = 0

    def lasts(self, now_s: float) -> bool:
        """Tell whether the key is still used; not if the clock was set back."""
        return 0 <= now_s - self.began_s < EPOCH_S

    def seal(self, message_id: bytes, header: bytes, body: bytes) -> bytes:
        """
        Encrypt one message for the owner of the box.

        Args:
            message_id: 8 bytes.
            header: from `header_of`.
            body: the text or bytes that were sent.

        Returns:
            12 bytes nonce, then ciphertext and tag of header and body.
        """
        # The key lives in this object alone and the count only rises, so no
        # nonce is used twice (NIST SP 800-38D section 8.2.1).
        self._sealed_messages += 1
        nonce = self._sealed_messages.to_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(
            nonce, header + body, self._box + message_id
        )


def header_of(sender: str, when_ms: int) -> bytes:
    """
    Write what is kept of a message beside its body.

    Returns:
        When (8 bytes, milliseconds since 1970), the length of the sender's
        name (2 bytes), the name in UTF-8.
    """
    name = sender.encode()
    return _HEADER.pack(when_ms, len(name)) + name


def begin(key: MailboxPublicKey, lookup: bytes, now_s: float) -> tuple[Epoch, bytes]:
    """
    Begin an epoch.

    Args:
        key: the box's public key.
        lookup: the 32 bytes under which the box is found; they are bound in,
            so that a sealed key cannot be moved to another box.
        now_s: when it begins.

    Returns:
        The epoch, and its key sealed to the owner, which must be stored
        before the first message is.
    """
    secret = token_bytes(_KEY_BYTES)
    epoch = Epoch(randbits(_ID_BITS), now_s, AESGCM(secret), lookup)
    return epoch, key.seal(secret, _INFO + lookup)


class EpochReader:
    """The owner's side: opens the messages of one epoch."""

    def __init__(
        self, private: MailboxPrivateKey, sealed_key: bytes, lookup: bytes
    ) -> None:
        """
        Open the key of an epoch.

        Raises:
            StorageError: the sealed key was changed on disk.
        """
        try:
            self._cipher = AESGCM(private.open(sealed_key, _INFO + lookup))
        except InvalidTag:
            raise StorageError("an epoch key on disk is damaged") from None
        self._box = lookup

    def open(self, message_id: bytes, sealed: bytes) -> Message:
        """
        Decrypt what `Epoch.seal` made.

        Raises:
            StorageError: it was changed on disk, or belongs elsewhere.
        """
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, ciphertext, self._box + message_id)
        except (InvalidTag, ValueError):  # a ValueError if the nonce is cut short
            raise StorageError("a message on disk is damaged") from None
        when_ms, length = _HEADER.unpack_from(plain)
        body = _HEADER.size + length
        sender = plain[_HEADER.size : body].decode()
        return Message(message_id.hex(), sender, when_ms, plain[body:])
