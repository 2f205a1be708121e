"""
The keys of sealed datagrams, by HPKE (RFC 9180).

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.  HPKE's own
``Seal`` wants messages in order, which UDP does not keep; so both ends only take
exported secrets from HPKE (RFC 9180 section 5.3), and number the datagrams
themselves.
"""

from attrs import field, frozen
from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key
from Crypto.PublicKey.ECC import EccKey

from securerecv.errors import MisuseError
from securerecv.wire.datagram import NONCE_BYTES, PUBLIC_KEY_BYTES, SECRET_BYTES

INFO = b"securerecv/1 sealed"


@frozen
class Psk:
    """
    A token as HPKE sees it: a pre-shared key.

    Attributes:
        psk_id: the token's id, 16 bytes.
        secret: 32 random bytes.  RFC 9180 section 9.5 asks for at least 32
            bytes of entropy, so this is never a password.
    """

    psk_id: bytes
    secret: bytes = field(repr=False)


@frozen
class Secrets:
    """
    What both ends export.

    Each is expanded from the exporter secret under a label of its own, so that
    none says anything about another (RFC 9180 section 5.3).
    """

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    reply_key: bytes = field(repr=False)
    reply_iv: bytes = field(repr=False)


def private_key_of(raw: bytes) -> EccKey:
    """
    Load an X25519 private key of 32 raw bytes.

    Raises:
        MisuseError: it has another size.
    """
    if len(raw) != SECRET_BYTES:
        raise MisuseError("an X25519 private key has 32 bytes")
    return import_x25519_private_key(raw)


def public_key_of(private_key: EccKey) -> bytes:
    """Give the public half, 32 raw bytes."""
    raw: bytes = private_key.public_key().export_key(format="raw")
    return raw


def encapsulate(public_key: bytes, psk: Psk | None = None) -> tuple[bytes, Secrets]:
    """
    Begin to send: make an ephemeral key, and agree with the receiver's.

    The ephemeral key is drawn anew from the system's random source for each call
    and forgotten at once; so no two calls give the same secrets, and who copies
    the sender's device later cannot open what it sent.

    Args:
        public_key: the receiver's, 32 raw bytes.
        psk: for PSK mode; without it, base mode.

    Returns:
        ``enc`` (32 bytes), and the secrets.

    Raises:
        MisuseError: no public key to which anything can be sealed, or a
            secret of another size.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise MisuseError("an X25519 public key has 32 bytes")
    try:
        receiver_key = import_x25519_public_key(public_key)
    except ValueError:
        raise MisuseError("that is no usable X25519 public key") from None
    context = HPKE.new(
        receiver_key=receiver_key,
        aead_id=HPKE.AEAD.AES256_GCM,
        psk=_pair(psk),
        info=INFO,
    )
    return context.enc, _export(context)


def decapsulate(private_key: EccKey, enc: bytes, psk: Psk | None = None) -> Secrets:
    """
    Begin to receive: agree with the sender's ephemeral key.

    The secrets depend on every bit of ``enc`` and on the receiver's public key,
    since both are hashed into them (``kem_context``, RFC 9180 section 4.1): X25519
    takes several encodings for one point, but each gives other secrets.  They
    depend on the mode, the info, the token's id and its secret as well (section
    5.1).  That the sender knew the token shows only when something decrypts.

    Args:
        private_key: from `private_key_of`.
        enc: 32 bytes from a stranger.
        psk: as in `encapsulate`.

    Raises:
        ValueError: ``enc`` is a point of small order, whose agreement would be
            known to everybody (RFC 9180 section 7.1.4).
        MisuseError: a secret of another size.
    """
    return _export(_receiving(private_key, enc, psk, INFO))


def _receiving(
    private_key: EccKey, enc: bytes, psk: Psk | None, info: bytes
) -> HPKE.HPKE_Cipher:
    return HPKE.new(
        receiver_key=private_key,
        aead_id=HPKE.AEAD.AES256_GCM,
        enc=enc,
        psk=_pair(psk),
        info=info,
    )


def _pair(psk: Psk | None) -> tuple[bytes, bytes] | None:
    if psk is None:
        return None
    if len(psk.secret) != SECRET_BYTES:
        raise MisuseError("a token's secret has 32 bytes")
    return psk.psk_id, psk.secret


def _export(context: HPKE.HPKE_Cipher) -> Secrets:
    return Secrets(
        key=context.export(b"securerecv/1 key", SECRET_BYTES),
        iv=context.export(b"securerecv/1 iv", NONCE_BYTES),
        reply_key=context.export(b"securerecv/1 reply key", SECRET_BYTES),
        reply_iv=context.export(b"securerecv/1 reply iv", NONCE_BYTES),
    )
