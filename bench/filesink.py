"""
The ceiling for files: a bare TLS server on Twisted that counts bytes and drops them.

It understands of the protocol what `bench.fileload` says. Run as
``python -m bench.filesink``.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory

from bench.sink import ANON_ANSWER, GREETING, serve


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
    """Take files."""
    from twisted.internet import reactor

    serve(ServerFactory.forProtocol(FileSink), reactor)


if __name__ == "__main__":
    main()
