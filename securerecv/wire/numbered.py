"""AES-256-GCM for numbered datagrams."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securerecv.wire.datagram import NONCE_BYTES
from securerecv.wire.drops import Dropped, DropReason


class NumberedCipher:
    """
    One direction under one ``enc``.

    The nonce is the IV with the sequence number added by exclusive or (RFC 9180
    section 5.2 makes its own in the same way), so different numbers have different
    nonces.  Whoever seals uses each number once; then no nonce comes again under
    this key, which is all that AES-GCM asks for (NIST SP 800-38D section 8.2.1).

    Args:
        key: 32 bytes, for this direction alone.
        iv: 12 bytes.
    """

    __slots__ = ("_cipher", "_iv")

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._cipher = AESGCM(key)
        self._iv = int.from_bytes(iv, "big")

    def seal(self, sequence: int, plaintext: bytes, header: bytes) -> bytes:
        """
        Encrypt; the header is authenticated with it.

        Args:
            sequence: 0 to 2**64 - 1, never used before.
            plaintext: any bytes.
            header: all that stands before the ciphertext.

        Returns:
            Ciphertext and tag, 16 bytes more than the plaintext.
        """
        nonce = (self._iv ^ sequence).to_bytes(NONCE_BYTES, "big")
        return self._cipher.encrypt(nonce, plaintext, header)

    def open(self, sequence: int, sealed: bytes, header: bytes) -> bytes:
        """
        Decrypt what `seal` made; nothing is returned before the tag was checked.

        Raises:
            Dropped: ``forged``.
        """
        nonce = (self._iv ^ sequence).to_bytes(NONCE_BYTES, "big")
        try:
            return self._cipher.decrypt(nonce, sealed, header)
        except InvalidTag:
            raise Dropped(DropReason.FORGED) from None
