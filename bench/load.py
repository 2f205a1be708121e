"""
The load generator: many requests over TLS, every answer checked.

Run as a process of its own, ``python -m bench.load``, it prints one JSON line.
Requests are slices of one prebuilt ring of bytes, written in batches of as many
as the window has free and one TLS record holds, so that the generator spends far
less time on a message than any server written in Python.
"""

from __future__ import annotations

import argparse
import json
import select
import ssl
import sys
import time

from bench.dialects import DIALECTS, Dialect
from bench.meter import Meter
from bench.tls import (
    ANSWER_TIMEOUT_S,
    CIPHER,
    MAX_RECORD_BYTES,
    BenchError,
    client_context,
    connect_silently,
)

BOX_STRIDE = 7919
"""Prime, so that consecutive messages spread over every box before one repeats."""
RING_MESSAGES = 1000
"""At least this many different messages are prebuilt, however few the boxes."""
FIRST_PASS_WINDOW = 100
POLL_S = 0.1


class Ring:
    """
    The requests of every connection, prebuilt once and sent as slices.

    Message ``n`` of connection ``c`` goes to box ``(n * BOX_STRIDE + c) % boxes``.
    That is one cycle for all connections, each starting elsewhere in it.

    Args:
        dialect: what requests look like.
        boxes: how many boxes b0, b1, … are written to; no multiple of BOX_STRIDE.
    """

    def __init__(self, dialect: Dialect, boxes: int) -> None:
        self.dialect = dialect
        self._boxes = boxes
        self.period = boxes * -(-RING_MESSAGES // boxes)
        requests = [
            dialect.request(n, n * BOX_STRIDE % boxes) for n in range(self.period)
        ]
        self.batch = MAX_RECORD_BYTES // max(map(len, requests))
        requests += requests[: self.batch]
        self.offsets = [0]
        for request in requests:
            self.offsets.append(self.offsets[-1] + len(request))
        self.requests = memoryview(b"".join(requests))

    def start(self, connection: int) -> int:
        """Return the place in the ring where a connection's first message stands."""
        return connection * pow(BOX_STRIDE, -1, self._boxes) % self._boxes


class Sender:
    """One connection: what it may still send, and what was answered."""

    def __init__(self, sock: ssl.SSLSocket, ring: Ring, place: int) -> None:
        self.sock = sock
        self.quota = 0
        self.sent = 0
        self.answered = 0
        self.blocked: memoryview | None = None
        self._ring = ring
        self._place = place
        self._partial = b""

    def fill(self, window: int) -> None:
        """Write as many requests as quota, window and socket allow."""
        if self.blocked is not None and not self._write(self.blocked):
            return
        ring = self._ring
        while True:
            free = window - self.sent + self.answered
            count = min(free, self.quota, ring.batch)
            if count <= 0:
                return
            place = self._place
            batch = ring.requests[ring.offsets[place] : ring.offsets[place + count]]
            self._place = (place + count) % ring.period
            self.quota -= count
            self.sent += count
            if not self._write(batch):
                return

    def _write(self, batch: memoryview) -> bool:
        while batch:
            try:
                batch = batch[self.sock.send(batch) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self.blocked = batch
                return False
        self.blocked = None
        return True

    def read(self) -> None:
        """
        Count the answers of one TLS record.

        Nothing stays behind inside OpenSSL: the buffer holds a whole record.

        Raises:
            BenchError: an answer that is not the right one, or the end of the stream.
        """
        try:
            received = self.sock.recv(MAX_RECORD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not received:
            raise BenchError("the server closed a connection during the run")
        count, self._partial = self._ring.dialect.answers(self._partial + received)
        self.answered += count


class Load:
    """
    Drives all connections from one epoll loop.

    Args:
        port: TCP port on 127.0.0.1.
        connections: how many are opened, and logged in where that is usual.
        ring: what they send.
    """

    def __init__(self, port: int, connections: int, ring: Ring) -> None:
        context = client_context()
        self._epoll = select.epoll()
        self._senders: dict[int, Sender] = {}
        for index in range(connections):
            sock = connect_silently(context, port)
            ring.dialect.enter(sock)
            sock.setblocking(False)
            self._senders[sock.fileno()] = Sender(sock, ring, ring.start(index))
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def send_first(self, count: int) -> None:
        """Send ``count`` messages on the first connection; return when answered."""
        first = next(iter(self._senders.values()))
        first.quota = count
        self._drive([first], FIRST_PASS_WINDOW, ANSWER_TIMEOUT_S)

    def send_for(self, seconds: float, window: int) -> int:
        """
        Keep every window full for some seconds, then await the last answers.

        Returns:
            The number of messages sent in this call; every one was answered.

        Raises:
            BenchError: an answer was wrong or did not come.
        """
        senders = list(self._senders.values())
        before = sum(sender.sent for sender in senders)
        for sender in senders:
            sender.quota = sys.maxsize
        self._drive(senders, window, seconds)
        return sum(sender.sent for sender in senders) - before

    def _drive(self, senders: list[Sender], window: int, seconds: float) -> None:
        stop_at = time.monotonic() + seconds
        give_up_at = stop_at + ANSWER_TIMEOUT_S
        for sender in senders:
            sender.fill(window)
        while True:
            for fd, events in self._epoll.poll(POLL_S):
                sender = self._senders[fd]
                if events & ~select.EPOLLOUT:
                    sender.read()
                was_blocked = sender.blocked is not None
                sender.fill(window)
                if was_blocked or sender.blocked is not None:
                    self._epoll.modify(fd, self._wanted(sender))
            now = time.monotonic()
            if now >= stop_at:
                for sender in senders:
                    sender.quota = 0
            missing = sum(sender.sent - sender.answered for sender in senders)
            if not missing and not any(sender.quota for sender in senders):
                return
            if now >= give_up_at:
                raise BenchError(f"{missing} answers did not come")

    @staticmethod
    def _wanted(sender: Sender) -> int:
        blocked = sender.blocked is not None
        return select.EPOLLIN | (select.EPOLLOUT if blocked else 0)

    def close(self) -> None:
        """Close every connection."""
        for sender in self._senders.values():
            sender.sock.close()
        self._epoll.close()


def measure(given: argparse.Namespace) -> dict[str, float | int | str]:
    """
    Run one load and return its figures, as the JSON line shows them.

    Before the clock starts, the first connection sends one message to every box, so
    that what a box's first message costs once (``first_pass_s``) stays apart.
    """
    ring = Ring(DIALECTS[given.dialect], given.boxes)
    load = Load(given.port, given.connections, ring)
    first_pass_from_s = time.perf_counter()
    load.send_first(given.boxes)
    first_pass_s = time.perf_counter() - first_pass_from_s
    meter = Meter(given.server_pid)
    figures = meter.figures(load.send_for(given.seconds, given.window))
    load.close()
    return figures | {"first_pass_s": round(first_pass_s, 4), "cipher": CIPHER}


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--boxes", type=int, default=1)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dialect", choices=DIALECTS, default="securerecv")
    given = parser.parse_args()
    try:
        print(json.dumps(measure(given)))
    except (BenchError, OSError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
