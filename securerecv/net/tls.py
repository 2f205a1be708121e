"""
TLS as this project uses it: the only place that names versions and ciphers.

TLS 1.3 with AES-256-GCM and nothing else.  Groups are OpenSSL's own choice,
which puts the hybrid X25519MLKEM768 first where it is known.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from zope.interface import implementer

from securerecv.errors import OperatorError

_CIPHERSUITES = b"TLS_AES_256_GCM_SHA384"


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERSUITES)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Idle connections then hold no record buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """
    Makes the server's side of TLS connections.

    Args:
        certificate: the certificate chain, PEM.
        key: its private key, PEM.

    Raises:
        OperatorError: the files are not what they should be.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = _context(SSL.TLS_SERVER_METHOD)
        try:
            self.pin = pin_of(x509.load_pem_x509_certificate(certificate.read_bytes()))
            self._context.use_certificate_chain_file(str(certificate))
            self._context.use_privatekey_file(str(key))
            self._context.check_privatekey()
        except (OSError, ValueError, SSL.Error) as error:
            raise OperatorError(
                f"{certificate} and {key} do not make a TLS identity: {error}"
            ) from None

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """Make one connection."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """
    Makes the client's side of TLS connections.

    It accepts any certificate: the client compares the key with the one that
    it knows (`peer_pin`) before it says anything.
    """

    def __init__(self) -> None:
        self._context = _context(SSL.TLS_CLIENT_METHOD)
        self._context.set_verify(SSL.VERIFY_NONE)

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """Make one connection."""
        return SSL.Connection(self._context, None)


def pin_of(certificate: x509.Certificate) -> str:
    """
    Give the pin of a certificate's key, in the form that curl uses.

    Returns:
        ``sha256//`` and the base64 of SHA-256 over the key's
        SubjectPublicKeyInfo (RFC 7469 section 2.4).
    """
    key = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashlib.sha256(key).digest()
    return "sha256//" + base64.b64encode(digest).decode()


def peer_pin(connection: SSL.Connection) -> str:
    """Give the pin of the peer's key, after the handshake."""
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise ValueError("the peer showed no certificate")
    return pin_of(certificate)
