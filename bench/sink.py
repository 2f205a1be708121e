"""
The ceiling: a bare Twisted TLS server that parses requests and keeps nothing.

It does what no server built on Twisted's TLS can leave out: decrypt, find each
request, and answer once per read. Run as ``python -m bench.sink``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from twisted.internet import ssl
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorCore, IReactorSSL, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory

from bench.tls import CIPHER

GREETING = b"* sink ready\r\n"
ANON_ANSWER = b"+OK anon-0000000000000000\r\n"
SEND_ANSWER = b"+OK 0\r\n"
BACKLOG = 512


class Sink(Protocol):
    """Answers ``ANON``, and ``SEND <to> <bytes>`` with its payload, and drops both."""

    _buffer = b""

    def connectionMade(self) -> None:
        """Greet."""
        transport = cast("ITCPTransport", self.transport)
        transport.setTcpNoDelay(True)
        transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        """Answer every whole request in one write; keep what is incomplete."""
        buffer = self._buffer + data
        start = sends = 0
        while (line_end := buffer.find(b"\n", start)) >= 0:
            words = buffer[start:line_end].split()
            if len(words) == 3:
                end = line_end + 1 + int(words[2]) + 2
                if end > len(buffer):
                    break
                sends += 1
                start = end
            else:
                cast("ITCPTransport", self.transport).write(ANON_ANSWER)
                start = line_end + 1
        self._buffer = buffer[start:]
        if sends:
            cast("ITCPTransport", self.transport).write(SEND_ANSWER * sends)


def tls_options() -> ssl.CertificateOptions:
    """Return TLS 1.3 with one cipher suite and a fresh P-256 certificate in memory."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    options = ssl.CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key),
        certificate=crypto.X509.from_cryptography(certificate),
        raiseMinimumTo=ssl.TLSVersion.TLSv1_3,
    )
    options.getContext().set_tls13_ciphersuites(CIPHER.encode())
    return options


def main() -> None:
    """Listen on a free port of 127.0.0.1, print it, serve until terminated."""
    from twisted.internet import reactor

    factory = ServerFactory()
    factory.protocol = Sink
    factory.noisy = False
    port = cast("IReactorSSL", reactor).listenSSL(
        0, factory, tls_options(), backlog=BACKLOG, interface="127.0.0.1"
    )
    address = cast("IPv4Address", port.getHost())
    print(f"tcp 127.0.0.1:{address.port}", flush=True)
    cast("IReactorCore", reactor).run()


if __name__ == "__main__":
    main()
