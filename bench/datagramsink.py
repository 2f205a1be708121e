"""
The ceilings of what comes in datagrams: bare loops that parse and keep nothing.

Each is one blocking socket and one loop, without a reactor, sessions or limits:

* ``sealed``: receive a sealed datagram, send a reply of the length that ours has.
* ``dtls``: decrypt a record, and encrypt an answer of the length that ours has.

Without ``--batched``, each datagram is received and answered by itself. With it, the
kernel hands over those of one peer together (UDP_GRO), and their answers leave
together: of ``sealed`` by UDP_SEGMENT, of ``dtls`` in as few records as hold them.
Run as ``python -m bench.datagramsink KIND [--batched]``.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from pathlib import Path

from OpenSSL import SSL

from bench.certificate import certificate
from securerecv.net import sockopts
from securerecv.net.dtlspeer import taken_from
from securerecv.net.gro import RECEIVE_BUFFER_BYTES
from securerecv.net.inbox import MAX_RECEIVED_BYTES
from securerecv.net.outbox import Address, DatagramCounters, Outbox
from securerecv.net.tls import DATAGRAM_BYTES, ServerDtls
from securerecv.wire.datagram import KIND_REPLY
from securerecv.wire.dtlsrecords import MAX_RECORD_BYTES, datagrams, random_of_hello
from securerecv.wire.records import RECORD_BYTES

ANSWER = b" +OK " + b"0" * 32 + b"\n"
"""What follows the tag, as long as ours."""

SEALED_ANSWER = bytes(8 + len(ANSWER) + 16)
"""Tag, answer and authentication tag; nobody decrypts it."""

SEQUENCE_AND_ENC = slice(18, 34)
"""Of a sealed datagram: what a reply repeats."""

READ_BYTES = 1 << 16


def sealed_reply(datagram: bytes) -> bytes:
    """Return what stands for the sealed reply."""
    return b"%c%b%b" % (KIND_REPLY, datagram[SEQUENCE_AND_ENC], SEALED_ANSWER)


def answer_to(record: bytes) -> bytes:
    """Return the answer to a tagged request."""
    return record[: record.index(b" ")] + ANSWER


class Batches:
    """Receives what one peer has sent together, and sends it answers together."""

    def __init__(self, sock: socket.socket) -> None:
        if not sockopts.receive_in_batches(sock):
            raise OSError("this kernel has no UDP_GRO")
        self._socket = sock
        self._outbox = Outbox(sock, DatagramCounters(), batched=True)
        self.send = self._outbox.send

    def receive(self) -> tuple[list[bytes], Address]:
        """Return one datagram or more, and whose they are."""
        data, control, _, address = self._socket.recvmsg(
            MAX_RECEIVED_BYTES, sockopts.GRO_CONTROL_BYTES
        )
        size = sockopts.segment_bytes(control) or len(data) or 1
        return [data[at : at + size] for at in range(0, len(data), size)], address


def serve_sealed(sock: socket.socket) -> None:
    """Answer sealed datagrams one by one."""
    while True:
        datagram, address = sock.recvfrom(MAX_RECEIVED_BYTES)
        sock.sendto(sealed_reply(datagram), address)


def serve_sealed_batched(sock: socket.socket) -> None:
    """Answer sealed datagrams in batches."""
    batches = Batches(sock)
    while True:
        received, address = batches.receive()
        batches.send([sealed_reply(datagram) for datagram in received], address)


class Peers:
    """The DTLS peers, by their addresses."""

    def __init__(self, tls: ServerDtls, sock: socket.socket) -> None:
        self._tls = tls
        self._socket = sock
        self._connections: dict[Address, SSL.Connection] = {}
        self._randoms: dict[Address, bytes] = {}

    def connection(self, datagram: bytes, address: Address) -> SSL.Connection:
        """Return whose datagram it is; a hello begins a new conversation."""
        connection = self._connections.get(address)
        random = random_of_hello(datagram)
        # The hello with the cookie has the random of the one without.
        if connection is None or (random and random != self._randoms.get(address)):
            connection = self._connections[address] = self._tls.connection()
            connection.set_app_data(address)
            self._randoms[address] = random or b""
        return connection

    def record(
        self, connection: SSL.Connection, datagram: bytes, address: Address
    ) -> bytes | None:
        """Decrypt a record; None, and the handshake goes on, if it holds no data."""
        connection.bio_write(datagram)
        try:
            return connection.recv(MAX_RECORD_BYTES)
        except SSL.WantReadError:
            for part in datagrams(taken_from(connection), DATAGRAM_BYTES):
                self._socket.sendto(part, address)
        except SSL.Error:
            del self._connections[address]
        return None


def serve_dtls(sock: socket.socket, tls: ServerDtls) -> None:
    """Answer DTLS records one by one."""
    peers = Peers(tls, sock)
    while True:
        datagram, address = sock.recvfrom(MAX_RECEIVED_BYTES)
        connection = peers.connection(datagram, address)
        record = peers.record(connection, datagram, address)
        if record is not None:
            connection.send(answer_to(record))
            sock.sendto(connection.bio_read(READ_BYTES), address)


def serve_dtls_batched(sock: socket.socket, tls: ServerDtls) -> None:
    """Answer DTLS records in batches."""
    peers = Peers(tls, sock)
    batches = Batches(sock)
    while True:
        received, address = batches.receive()
        connection = peers.connection(received[0], address)
        answers: list[bytes] = []
        for datagram in received:
            record = peers.record(connection, datagram, address)
            if record is not None:
                answers.append(answer_to(record))
        if answers:
            in_one = RECORD_BYTES // len(answers[0])
            for at in range(0, len(answers), in_one):
                connection.send(b"".join(answers[at : at + in_one]))
            batches.send(taken_from(connection), address)


def server_dtls() -> ServerDtls:
    """Make the DTLS of the server under test, with a certificate of its own."""
    with tempfile.TemporaryDirectory() as name:
        return ServerDtls(*certificate(Path(name)), time.monotonic)


def main() -> None:
    """Take a free port of 127.0.0.1, print it, serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m bench.datagramsink")
    parser.add_argument("kind", choices=("dtls", "sealed"))
    parser.add_argument("--batched", action="store_true")
    given = parser.parse_args()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockopts.grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    print(f"udp 127.0.0.1:{sock.getsockname()[1]}", flush=True)
    if given.kind == "sealed":
        (serve_sealed_batched if given.batched else serve_sealed)(sock)
    else:
        (serve_dtls_batched if given.batched else serve_dtls)(sock, server_dtls())


if __name__ == "__main__":
    main()
