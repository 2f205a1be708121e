"""
The ceiling: a bare TLS server on Twisted that parses requests and keeps nothing.

It does what no server on the same transport can leave out: decrypt, find each
request, and answer once per read. With ``--file`` it does what no durable one can
leave out either: messages are appended to a file, and answered after fdatasync(2),
those that come during one together after the next. Run as ``python -m bench.sink``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol, ServerFactory

from bench.certificate import certificate
from securerecv.net.tls import ServerTls
from securerecv.net.tlsport import listen_tls

GREETING = b"* sink ready\r\n"
ANON_ANSWER = b"+OK anon-0000000000000000\r\n"
SEND_ANSWER = b"+OK 0\r\n"
BACKLOG = 512


class Journal:
    """
    A file that is appended to in a thread.

    Args:
        path: of the file.
        reactor: whose thread pool is used.
    """

    def __init__(self, path: Path, reactor: Any) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._reactor = reactor
        self._waiting: list[tuple[bytes, Callable[[], None]]] = []
        self._is_writing = False

    def append(self, data: bytes, done: Callable[[], None]) -> None:
        """Append, and call back when it is on the disk."""
        self._waiting.append((data, done))
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and not self._is_writing:
            group, self._waiting = self._waiting, []
            self._is_writing = True
            self._reactor.callInThread(self._write, group)

    def _write(self, group: list[tuple[bytes, Callable[[], None]]]) -> None:
        os.write(self._file, b"".join(data for data, _ in group))
        os.fdatasync(self._file)
        self._reactor.callFromThread(self._written, group)

    def _written(self, group: list[tuple[bytes, Callable[[], None]]]) -> None:
        self._is_writing = False
        self._go_on()
        for _, done in group:
            done()


class Sink(Protocol):
    """
    Answers ``ANON``, and ``SEND <to> <bytes>`` with its payload.

    Args:
        journal: where payloads go; without one they are dropped.
    """

    _buffer = b""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal

    def connectionMade(self) -> None:
        """Greet."""
        transport = cast("ITCPTransport", self.transport)
        transport.setTcpNoDelay(True)
        transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        """Answer every whole request in one write; keep what is incomplete."""
        buffer = self._buffer + data
        start = sends = 0
        kept: list[bytes] = []
        while (line_end := buffer.find(b"\n", start)) >= 0:
            words = buffer[start:line_end].split()
            if len(words) == 3:
                end = line_end + 1 + int(words[2]) + 2
                if end > len(buffer):
                    break
                sends += 1
                if self._journal is not None:
                    kept.append(buffer[line_end + 1 : end])
                start = end
            else:
                cast("ITCPTransport", self.transport).write(ANON_ANSWER)
                start = line_end + 1
        self._buffer = buffer[start:]
        if not sends:
            return
        transport, answer = cast("ITCPTransport", self.transport), SEND_ANSWER * sends
        if self._journal is None:
            transport.write(answer)
        else:
            self._journal.append(b"".join(kept), partial(transport.write, answer))


def server_tls() -> ServerTls:
    """Make the TLS of the server under test, with a certificate of its own."""
    with tempfile.TemporaryDirectory() as name:
        return ServerTls(*certificate(Path(name)))


def serve(factory: Factory[Any], reactor: Any) -> None:
    """Listen on a free port of 127.0.0.1, print it, serve until terminated."""
    port = listen_tls(server_tls(), 0, factory, BACKLOG, "127.0.0.1", reactor)
    address = cast("IPv4Address", port.getHost())
    print(f"tcp 127.0.0.1:{address.port}", flush=True)
    reactor.run()


def main() -> None:
    """Take messages, and keep them if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description=__doc__)
    parser.add_argument("--file", type=Path, help="append messages to it")
    path = parser.parse_args().file
    from twisted.internet import reactor

    journal = None if path is None else Journal(path, reactor)
    serve(ServerFactory.forProtocol(lambda: Sink(journal)), reactor)


if __name__ == "__main__":
    main()
