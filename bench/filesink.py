"""
The ceiling for files: a bare TLS server on Twisted that counts bytes and drops them.

It understands of the protocol what `bench.fileload` says. Run as
``python -m bench.filesink``.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorCore, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory

from bench.sink import ANON_ANSWER, BACKLOG, GREETING, server_tls
from securerecv.net.tlsport import listen_tls


class FileSink(Protocol):
    """Answers ``ANON`` and ``PUT``, and drops what follows the latter."""

    _left = 0

    def connectionMade(self) -> None:
        """Greet."""
        transport = cast("ITCPTransport", self.transport)
        transport.setTcpNoDelay(True)
        transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        """Count the content of a file; requests come whole from this generator."""
        transport = cast("ITCPTransport", self.transport)
        if self._left:
            self._left -= len(data)
            if not self._left:
                transport.write(b"+OK received 0 scanning\r\n")
        elif data.startswith(b"PUT "):
            self._left = int(data.split()[2])
            transport.write(b"+OK go 0 0\r\n")
        else:
            transport.write(ANON_ANSWER)


def main() -> None:
    """Listen on a free port of 127.0.0.1, print it, serve until terminated."""
    from twisted.internet import reactor

    factory = ServerFactory.forProtocol(FileSink)
    port = listen_tls(server_tls(), 0, factory, BACKLOG, "127.0.0.1", reactor)
    address = cast("IPv4Address", port.getHost())
    print(f"tcp 127.0.0.1:{address.port}", flush=True)
    cast("IReactorCore", reactor).run()


if __name__ == "__main__":
    main()
