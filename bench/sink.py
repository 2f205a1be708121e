"""
The ceiling: a bare TLS server on Twisted that parses requests and keeps nothing.

It does what no server on the same transport can leave out: decrypt, find each
request, and answer once per read. Run as ``python -m bench.sink``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorCore, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory

from securerecv.net.tls import ServerTls
from securerecv.net.tlsport import listen_tls
from securerecv.vault.certificates import self_made_certificate

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


def server_tls() -> ServerTls:
    """Make the TLS of the server under test, with a certificate of its own."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name) / "certificate.pem", Path(name) / "key.pem"
        for file, content in zip(files, self_made_certificate(), strict=True):
            file.write_bytes(content)
        return ServerTls(*files)


def main() -> None:
    """Listen on a free port of 127.0.0.1, print it, serve until terminated."""
    from twisted.internet import reactor

    factory = ServerFactory()
    factory.protocol = Sink
    port = listen_tls(server_tls(), 0, factory, BACKLOG, "127.0.0.1", reactor)
    address = cast("IPv4Address", port.getHost())
    print(f"tcp 127.0.0.1:{address.port}", flush=True)
    cast("IReactorCore", reactor).run()


if __name__ == "__main__":
    main()
