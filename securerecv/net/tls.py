"""
TLS as this project uses it: the only place that names versions and ciphers.

On TCP, TLS 1.3 with AES-256-GCM and nothing else.  Groups are OpenSSL's own
choice, which puts the hybrid X25519MLKEM768 first where it is known.  On UDP,
DTLS 1.2 with ECDHE and AES-256-GCM: OpenSSL has no DTLS 1.3 yet.
"""

import base64
import hashlib
import hmac
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from OpenSSL._util import lib as _openssl  # for `ServerTls.connection_on`
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from zope.interface import implementer

from securerecv.errors import OperatorError

_CIPHERSUITES = b"TLS_AES_256_GCM_SHA384"
_DATAGRAM_CIPHERS = b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
_DTLS1_2_VERSION = 0xFEFD
"""RFC 6347 section 4.1; pyOpenSSL has no name for it."""

DATAGRAM_BYTES = 1232
"""
The first size of datagrams: 1,280 bytes, which every path of IPv6 lets through
(RFC 8200 section 5), less its header and UDP's.
"""

COOKIE_PERIOD_S = 30.0
"""A cookie is good in the period in which it was made, and in the next."""

_COOKIE_BYTES = 16


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERSUITES)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Idle connections then hold no record buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _datagram_context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_DTLS1_2_VERSION)
    context.set_max_proto_version(_DTLS1_2_VERSION)
    context.set_cipher_list(_DATAGRAM_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(
        SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET
    )
    return context


def _load_identity(context: SSL.Context, certificate: Path, key: Path) -> str:
    """Load certificate and key, and give the pin."""
    try:
        pin = pin_of(x509.load_pem_x509_certificate(certificate.read_bytes()))
        context.use_certificate_chain_file(str(certificate))
        content = key.read_bytes()
    except OSError as error:
        raise OperatorError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, SSL.Error):
        raise OperatorError(f"{certificate} has no certificate in PEM form") from None
    try:
        # With a password given, OpenSSL asks for none at whatever terminal there is.
        private = crypto.load_privatekey(crypto.FILETYPE_PEM, content, b"")
    except crypto.Error:
        raise OperatorError(
            f"{key} has no private key in PEM form, or one with a password"
        ) from None
    try:
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error:
        raise OperatorError(
            f"{key} is not the key of the certificate in {certificate}"
        ) from None
    return pin


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
        self.pin = _load_identity(self._context, certificate, key)

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """Make one connection, for Twisted's TLS."""
        return SSL.Connection(self._context, None)

    def connection_on(self, sock: socket.socket) -> SSL.Connection:
        """Make one connection that reads and writes a socket itself."""
        connection = SSL.Connection(self._context, sock)
        # OpenSSL reads on behind what holds no data, a KeyUpdate for one, as long as
        # there is more: a peer could send those without end, and nobody else would
        # have a turn.  pyOpenSSL has that set, and no way to undo it.
        _openssl.SSL_clear_mode(connection._ssl, _openssl.SSL_MODE_AUTO_RETRY)  # noqa: SLF001  see above
        connection.set_accept_state()
        return connection


class ServerDtls:
    """
    Makes the server's side of DTLS connections, and the cookies before them.

    Args:
        certificate: the certificate chain, PEM.
        key: its private key, PEM.
        seconds: the clock, for the age of cookies.

    Raises:
        OperatorError: the files are not what they should be.
    """

    def __init__(
        self, certificate: Path, key: Path, seconds: Callable[[], float]
    ) -> None:
        self._seconds = seconds
        self._cookie_key = secrets.token_bytes(32)
        self._context = _datagram_context(SSL.DTLS_SERVER_METHOD)
        _load_identity(self._context, certificate, key)
        self._context.set_options(
            SSL.OP_COOKIE_EXCHANGE  # type: ignore[arg-type]  # None without DTLS only
        )
        self._context.set_cookie_generate_callback(
            lambda connection: self._cookie(connection, 0)
        )
        self._context.set_cookie_verify_callback(self._is_cookie)

    def connection(self) -> SSL.Connection:
        """Make one connection; its app data must name the peer's address."""
        connection = SSL.Connection(self._context, None)
        # Before anything else: OpenSSL must never ask the (missing) socket.
        connection.set_ciphertext_mtu(DATAGRAM_BYTES)
        connection.set_accept_state()
        return connection

    def _cookie(self, connection: SSL.Connection, age: int) -> bytes:
        # The cookie is short enough for the whole answer to be smaller than
        # any hello, and long enough not to be guessed within its lifetime.
        period = int(self._seconds() / COOKIE_PERIOD_S) - age
        said = repr((connection.get_app_data(), period)).encode()
        return hmac.digest(self._cookie_key, said, "sha256")[:_COOKIE_BYTES]

    def _is_cookie(self, connection: SSL.Connection, cookie: bytes) -> bool:
        return any(
            hmac.compare_digest(cookie, self._cookie(connection, age)) for age in (0, 1)
        )


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


class ClientDtls:
    """Makes the client's side of DTLS connections; as `ClientTls`."""

    def __init__(self) -> None:
        self._context = _datagram_context(SSL.DTLS_CLIENT_METHOD)
        self._context.set_verify(SSL.VERIFY_NONE)

    def connection(self) -> SSL.Connection:
        """Make one connection."""
        connection = SSL.Connection(self._context, None)
        connection.set_ciphertext_mtu(DATAGRAM_BYTES)
        connection.set_connect_state()
        return connection


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
