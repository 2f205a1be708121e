"""
How many logins there are a second, and how long PING takes meanwhile.

Run as a process of its own, ``python -m bench.logins``, it prints one JSON line.
PINGs leave at fixed times, whether or not earlier ones were answered: a stall of
the server counts for every PING that falls into it.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import ssl
import statistics
import sys
import time
from collections import Counter, deque

from bench import bcryptrate
from bench.proc import cpu_seconds
from bench.tls import (
    ANSWER_TIMEOUT_S,
    MAX_RECORD_BYTES,
    BenchError,
    ask,
    client_context,
    connect,
)

PASSWORD = "a long password for the bench"  # noqa: S105 - it guards nothing
PING_EVERY_S = 0.005
IDLE_S = 1.0
BCRYPT_S = 2.0
THREADS = os.cpu_count() or 1
"""As many as the server computes hashes in."""

POLL_S = 0.1


def box_names(count: int) -> list[str]:
    """Return the names b0, b1, … of ``count`` boxes."""
    return [f"b{number}" for number in range(count)]


class Pinger:
    """Sends PING at fixed times on one connection and times the answers."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.answers_ms: list[float] = []
        self._sent_s: deque[float] = deque()
        self._next_s = 0.0

    def start(self) -> None:
        """Begin a new series, now."""
        self.answers_ms = []
        self._next_s = time.perf_counter()

    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._sent_s)

    def send_due(self) -> float:
        """Send the PINGs that are due; return seconds until the next one is."""
        while (wait_s := self._next_s - time.perf_counter()) <= 0:
            self._sent_s.append(time.perf_counter())
            self.sock.send(b"PING\r\n")
            self._next_s += PING_EVERY_S
        return wait_s

    def take(self, lines: list[bytes]) -> None:
        """
        Time the answers among some lines.

        Raises:
            BenchError: a PING was refused.
        """
        for line in lines:
            if line.startswith(b"-ERR"):
                raise BenchError(f"PING was answered {line!r}")
            if line.startswith(b"+OK"):
                answer_s = time.perf_counter() - self._sent_s.popleft()
                self.answers_ms.append(answer_s * 1000)


class Watch:
    """
    Waits for lines on the pinging connection and on those that log in.

    With select(2), because a wait in whole milliseconds is too coarse here.
    """

    def __init__(self, pinger: Pinger) -> None:
        self._pinger = pinger
        self._selector = selectors.SelectSelector()
        self._rest: dict[ssl.SSLSocket, bytes] = {}
        self.outcomes: Counter[str] = Counter()
        self.add(pinger.sock)

    def add(self, sock: ssl.SSLSocket) -> None:
        """Watch one more connection."""
        sock.setblocking(False)
        self._rest[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ)

    def step(self, wait_s: float) -> None:
        """Wait for at most so long and take what has come."""
        for key, _ in self._selector.select(wait_s):
            sock = key.fileobj
            if not isinstance(sock, ssl.SSLSocket):
                continue
            lines = self._read_lines(sock)
            if sock is self._pinger.sock:
                self._pinger.take(lines)
            else:
                self._count(lines)

    def await_pings(self) -> None:
        """
        Wait until every PING sent was answered.

        Raises:
            BenchError: an answer did not come within ANSWER_TIMEOUT_S.
        """
        give_up_at = time.monotonic() + ANSWER_TIMEOUT_S
        while self._pinger.is_waiting():
            self.step(POLL_S)
            if time.monotonic() > give_up_at:
                raise BenchError("a PING was not answered")

    def _count(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"+OK"):
                self.outcomes["ok"] += 1
            elif line.startswith(b"-ERR"):
                self.outcomes[line.split()[1].decode()] += 1

    def _read_lines(self, sock: ssl.SSLSocket) -> list[bytes]:
        try:
            received = sock.recv(MAX_RECORD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        if not received:
            if sock is self._pinger.sock:
                raise BenchError("the server closed the connection that says PING")
            self._selector.unregister(sock)
            self.outcomes["closed"] += 1
            return []
        *lines, self._rest[sock] = (self._rest[sock] + received).split(b"\n")
        return lines


def summary(answers_ms: list[float]) -> dict[str, float | int]:
    """Return how many answers there were, and their median, p99 and maximum in ms."""
    return {
        "pings": len(answers_ms),
        "median_ms": round(statistics.median(answers_ms), 3),
        "p99_ms": round(statistics.quantiles(answers_ms, n=100)[98], 3),
        "max_ms": round(max(answers_ms), 3),
    }


def measure(port: int, server_pid: int, logins: int) -> dict[str, object]:
    """
    Ping an idle server, then one with a queue of logins until all are answered.

    Before and after that, bcrypt is measured by itself.

    Args:
        port: TCP port on 127.0.0.1.
        server_pid: the server's process.
        logins: how many accounts log in at the same moment, one connection each.

    Raises:
        BenchError: a PING was refused, or answers did not come.
    """
    bcrypt = [bcryptrate.measure(THREADS, BCRYPT_S)]
    context = client_context()
    pinger = Pinger(connect(context, port))
    ask(pinger.sock, b"PING")
    waiting = [connect(context, port) for _ in range(logins)]
    for sock in waiting:
        ask(sock, b"PING")
    watch = Watch(pinger)

    pinger.start()
    idle_until_s = time.perf_counter() + IDLE_S
    while time.perf_counter() < idle_until_s:
        watch.step(pinger.send_due())
    watch.await_pings()
    idle = summary(pinger.answers_ms)

    for sock, name in zip(waiting, box_names(logins), strict=True):
        sock.sendall(f"LOGIN {name} {PASSWORD}\r\n".encode())
        watch.add(sock)
    pinger.start()
    cpu_from_s = cpu_seconds(server_pid)
    from_s = time.perf_counter()
    while watch.outcomes.total() < logins:
        watch.step(pinger.send_due())
        if time.perf_counter() - from_s > ANSWER_TIMEOUT_S:
            raise BenchError(f"of {logins} logins were answered: {watch.outcomes}")
    queue_s = time.perf_counter() - from_s
    cpu_s = cpu_seconds(server_pid) - cpu_from_s
    watch.await_pings()
    pinger.sock.close()
    for sock in waiting:
        sock.close()
    bcrypt.append(bcryptrate.measure(THREADS, BCRYPT_S))
    rates, costs_ms = zip(*bcrypt, strict=True)
    return {
        "idle": idle,
        "queued": summary(pinger.answers_ms),
        "logins": logins,
        "outcomes": dict(watch.outcomes),
        "queue_s": round(queue_s, 2),
        "logins_per_s": round(watch.outcomes["ok"] / queue_s, 3),
        "cpu_ms_each": round(cpu_s * 1000 / logins, 1),
        "bcrypt_per_s": round(statistics.mean(rates), 3),
        "bcrypt_cpu_ms": round(statistics.mean(costs_ms), 1),
        "threads": THREADS,
    }


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.logins", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--logins", type=int, required=True)
    try:
        print(json.dumps(measure(**vars(parser.parse_args()))))
    except (BenchError, OSError) as error:
        print(f"bench.logins: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
