"""
The load generator for DTLS: many tagged requests, one a record, every answer checked.

Run as a process of its own, ``python -m bench.dtlsload``, it prints one JSON line.
What a peer's window has free is encrypted and sent together. A request that has no
answer after a second is sent again, as any client does; its tag keeps it from
being done twice.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time

from OpenSSL import SSL

from bench.dialects import BODY_BYTES
from bench.meter import Meter
from bench.tls import BenchError
from securerecv.net import sockopts
from securerecv.net.dtlspeer import taken_from
from securerecv.net.outbox import DatagramCounters, Outbox
from securerecv.net.tls import DATAGRAM_BYTES, ClientDtls
from securerecv.wire.answermemory import MAX_REMEMBERED
from securerecv.wire.dtlsrecords import MAX_RECORD_BYTES, datagrams, records

CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"
RESEND_AFTER_S = 1.0
GIVE_UP_AFTER_S = 10.0
POLL_S = 0.1
MAX_RECEIVED_BYTES = 65_535
RECEIVE_BUFFER_BYTES = 1024 * 1024
REQUEST = b"#%07d SEND b0 %d\r\n%b\r\n"
"""Tag, length and body; all requests are equally long, so that they go in batches."""

TAG_DIGITS = slice(1, 8)
AFTER_TAG = slice(8, 13)


def request(number: int) -> bytes:
    """Return a request whose tag and body are not like any other of its peer."""
    body = (b"message %d " % number).ljust(BODY_BYTES, b".")
    return REQUEST % (number, BODY_BYTES, body)


class Peer:
    """
    One DTLS peer, logged in with ANON.

    Args:
        tls: makes its connection.
        port: UDP port on 127.0.0.1.

    Raises:
        BenchError: no handshake, another cipher, or ANON was refused.
    """

    def __init__(self, tls: ClientDtls, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockopts.grow_receive_buffer(self.sock, RECEIVE_BUFFER_BYTES)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.outbox = Outbox(self.sock, DatagramCounters(), batched=True)
        self.pending: dict[int, float] = {}
        self.answered = 0
        self.resent = 0
        self._next = 0
        self._connection = tls.connection()
        self._shake_hands()
        self._log_in()

    # -- before the run ---------------------------------------------------------

    def _shake_hands(self) -> None:
        connection = self._connection
        give_up_at = time.monotonic() + GIVE_UP_AFTER_S
        while time.monotonic() < give_up_at:
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                flight = list(datagrams(taken_from(connection), DATAGRAM_BYTES))
                self.outbox.send(flight, None)
                if not self._await_datagram():
                    connection.DTLSv1_handle_timeout()
        else:
            raise BenchError("the DTLS handshake did not end")
        agreed = connection.get_cipher_name()
        if agreed != CIPHER:
            raise BenchError(f"agreed on {agreed}, not on {CIPHER}")

    def _await_datagram(self) -> bool:
        timeout_s = self._connection.DTLSv1_get_timeout() or RESEND_AFTER_S
        if not select.select([self.sock], [], [], timeout_s)[0]:
            return False
        self._connection.bio_write(self.sock.recv(MAX_RECEIVED_BYTES))
        return True

    def _log_in(self) -> None:
        give_up_at = time.monotonic() + GIVE_UP_AFTER_S
        while time.monotonic() < give_up_at:
            self._connection.send(b"#ANON ANON\r\n")
            self.outbox.send(taken_from(self._connection), None)
            while select.select([self.sock], [], [], RESEND_AFTER_S)[0]:
                lines = self._received_lines(1)
                if any(line.startswith(b"#ANON +OK") for line in lines):
                    return
                if any(b"-ERR" in line for line in lines):
                    raise BenchError(f"ANON was answered {lines[-1]!r}")
        raise BenchError("ANON was not answered")

    # -- during the run -----------------------------------------------------------

    def fill(self, window: int) -> None:
        """Send as many requests as the window has free."""
        end = self._next + window - len(self.pending)
        if self.pending:
            # Further ahead the server may have forgotten the oldest one's answer.
            end = min(end, next(iter(self.pending)) + MAX_REMEMBERED)
        numbers = range(self._next, end)
        if numbers:
            self._next = numbers.stop
            self._send(numbers)

    def _send(self, numbers: range | list[int]) -> None:
        now_s = time.monotonic()
        for number in numbers:
            self._connection.send(request(number))
            self.pending[number] = now_s
        self.outbox.send(taken_from(self._connection), None)

    def read(self) -> None:
        """
        Count the answers that are there.

        Raises:
            BenchError: one is not ``+OK …``.
        """
        for line in self._received_lines(len(self.pending) or 1):
            if line[AFTER_TAG] != b" +OK ":
                raise BenchError(f"SEND was answered {line!r}")
            if self.pending.pop(int(line[TAG_DIGITS]), None) is not None:
                self.answered += 1

    def _received_lines(self, most: int) -> list[bytes]:
        """Return the lines of so many datagrams, or of as many as there are."""
        lines: list[bytes] = []
        for _ in range(most):
            try:
                datagram = self.sock.recv(MAX_RECEIVED_BYTES)
            except BlockingIOError:
                break
            self._connection.bio_write(datagram)
            # Not until OpenSSL wants more: to find that out costs as much again.
            for _ in records(datagram):
                try:
                    lines += self._connection.recv(MAX_RECORD_BYTES).splitlines()
                except SSL.WantReadError:
                    break
                except SSL.Error as error:
                    raise BenchError(f"the server ended DTLS: {error!r}") from None
        return lines

    def resend(self) -> None:
        """Send again what has waited too long for its answer."""
        since_s = time.monotonic() - RESEND_AFTER_S
        late = [number for number, sent_s in self.pending.items() if sent_s < since_s]
        if late:
            self.resent += len(late)
            self._send(late)

    def close(self) -> None:
        """Say goodbye."""
        self._connection.shutdown()
        self.outbox.send(taken_from(self._connection), None)
        self.sock.close()


class Load:
    """
    Drives all peers from one epoll loop.

    Args:
        port: UDP port on 127.0.0.1.
        peers: how many shake hands and log in with ANON.
    """

    def __init__(self, port: int, peers: int) -> None:
        tls = ClientDtls()
        self._epoll = select.epoll()
        self.peers = [Peer(tls, port) for _ in range(peers)]
        self._by_fd = {peer.sock.fileno(): peer for peer in self.peers}
        for fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLIN)

    def send_for(self, seconds: float, window: int) -> int:
        """
        Keep every window full for some seconds, then await the last answers.

        Returns:
            The number of requests that were answered in this call, each with +OK.

        Raises:
            BenchError: an answer was wrong or did not come.
        """
        before = sum(peer.answered for peer in self.peers)
        stop_at = time.monotonic() + seconds
        look_at = 0.0
        for peer in self.peers:
            peer.fill(window)
        while True:
            for fd, _ in self._epoll.poll(POLL_S):
                peer = self._by_fd[fd]
                peer.read()
                peer.fill(window)
            now = time.monotonic()
            if now >= stop_at:
                window = 0
                if not any(peer.pending for peer in self.peers):
                    return sum(peer.answered for peer in self.peers) - before
            if now >= look_at:
                look_at = now + POLL_S
                for peer in self.peers:
                    peer.outbox.flush()
                    peer.resend()
            if now >= stop_at + GIVE_UP_AFTER_S:
                missing = sum(len(peer.pending) for peer in self.peers)
                raise BenchError(f"{missing} answers did not come")

    def close(self) -> None:
        """Say goodbye on every connection."""
        for peer in self.peers:
            peer.close()
        self._epoll.close()


def measure(
    port: int, server_pid: int, peers: int, window: int, seconds: float
) -> dict[str, float | int | str]:
    """
    Run one load and return its figures, as the JSON line shows them.

    Before the clock starts, each peer has sent one message.
    """
    load = Load(port, peers)
    load.send_for(0.0, 1)
    meter = Meter(server_pid)
    figures = meter.figures(load.send_for(seconds, window))
    figures["resent"] = sum(peer.resent for peer in load.peers)
    figures["cipher"] = CIPHER
    load.close()
    return figures


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.dtlsload", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--peers", type=int, required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    try:
        print(json.dumps(measure(**vars(parser.parse_args()))))
    except (BenchError, OSError, SSL.Error) as error:
        print(f"bench.dtlsload: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
