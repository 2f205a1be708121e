"""
The load generator for sealed datagrams: tagged requests, counted by their replies.

Run as a process of its own, ``python -m bench.sealedload``, it prints one JSON line.
A reply says that the message is durable, so nothing is counted that the server has
not taken and stored. Datagrams are sealed before the clock starts, and replies are
opened and checked after it has stopped.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import count, cycle, islice

from bench.dtlsload import request
from bench.meter import Meter
from bench.tls import BenchError
from securerecv.net import sockopts
from securerecv.net.outbox import DatagramCounters, Outbox
from securerecv.wire.sealing import SealedSender

SEALED_AHEAD_PER_S = 30_000
"""So many datagrams are sealed before the clock starts, for each second of the run."""

LOST_AFTER_S = 1.0
"""
A datagram without a reply for so long is given up, and not counted.

To send it again is no use at these rates: its number has left the window of numbers
by which the server tells repeats.
"""

POLL_S = 0.1
MAX_RECEIVED_BYTES = 65_535
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024

FRESH_PER_S = 400
"""Senders a second, each with an ``enc`` of its own: twice what one address may."""

FRESH_EVERY_S = 0.05
SEQUENCE = slice(18, 26)
REPLY_SEQUENCE = slice(1, 9)
REPLY_ENC = slice(9, 17)


class Socket:
    """A UDP socket that is connected to the server, and sends in batches."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockopts.grow_receive_buffer(self.sock, RECEIVE_BUFFER_BYTES)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self._outbox = Outbox(self.sock, DatagramCounters(), batched=True)

    def send(self, datagrams: list[bytes]) -> None:
        """Send, in as few system calls as the kernel allows."""
        self._outbox.send(datagrams, None)

    def replies(self, timeout_s: float) -> list[bytes]:
        """Wait for replies; return what there is."""
        self._outbox.flush()
        select.select([self.sock], [], [], timeout_s)
        found: list[bytes] = []
        try:
            while True:
                found.append(self.sock.recv(MAX_RECEIVED_BYTES))
        except BlockingIOError:
            return found


def check(sender: SealedSender, reply: bytes) -> None:
    """
    Open a reply.

    Raises:
        BenchError: it is not ``+OK …`` to the request with its number.
    """
    number, answer = sender.open_reply(reply)
    if not answer.startswith(b"#%07d +OK " % number):
        raise BenchError(f"SEND was answered {answer!r}")


class OneEnc:
    """
    Datagrams under one ``enc``, as many in flight as a window allows.

    Args:
        key: the server's sealing key, 32 bytes.
        port: UDP port on 127.0.0.1.
        sealed_ahead: how many datagrams are sealed now.
        again: send these again when they are used up: the server is a sink.

    Attributes:
        lost: datagrams without a reply.
        sealed_in_run: datagrams that were not sealed ahead.
    """

    def __init__(
        self, key: bytes, port: int, sealed_ahead: int, *, again: bool
    ) -> None:
        self._sender = SealedSender(key)
        self._socket = Socket(port)
        ready = [self._seal(number) for number in range(sealed_ahead)]
        self._datagrams = cycle(ready) if again else self._go_on(ready)
        self.sealed_in_run = 0
        self._pending: dict[bytes, float] = {}
        self._replies: list[bytes] = []
        self._answered = 0
        self.lost = 0

    def _seal(self, number: int) -> bytes:
        return self._sender.seal(request(number), time.time())

    def _go_on(self, ready: list[bytes]) -> Iterator[bytes]:
        yield from ready
        for number in count(len(ready)):
            self.sealed_in_run += 1
            yield self._seal(number)

    def send_for(self, seconds: float, window: int) -> int:
        """
        Keep the window full for some seconds, then await the last replies.

        Returns:
            The number of datagrams that were answered in this call.
        """
        before = self._answered
        now_s = time.monotonic()
        stop_at = now_s + seconds
        look_at = 0.0
        self._fill(window, now_s)
        while self._pending:
            replies = self._socket.replies(POLL_S)
            now_s = time.monotonic()
            for reply in replies:
                if self._pending.pop(reply[REPLY_SEQUENCE], None) is not None:
                    self._answered += 1
            self._replies += replies
            if now_s < stop_at:
                self._fill(window - len(self._pending), now_s)
            if now_s >= look_at:
                look_at = now_s + POLL_S
                self._give_up(now_s - LOST_AFTER_S)
        return self._answered - before

    def _fill(self, free: int, now_s: float) -> None:
        datagrams = list(islice(self._datagrams, free))
        self._socket.send(datagrams)
        for datagram in datagrams:
            self._pending[datagram[SEQUENCE]] = now_s

    def _give_up(self, since_s: float) -> None:
        late = [key for key, sent_s in self._pending.items() if sent_s < since_s]
        self.lost += len(late)
        for key in late:
            del self._pending[key]

    def check_replies(self) -> None:
        """
        Open every reply.

        Raises:
            BenchError: one is not ``+OK …`` to its request.
        """
        for reply in self._replies:
            check(self._sender, reply)


def under_one_enc(given: argparse.Namespace) -> dict[str, float | int | str]:
    """
    Return the figures of as many datagrams under one ``enc`` as are answered.

    The first, which costs public-key work, comes before the clock starts.

    Raises:
        BenchError: it was not answered, or a reply was not right.
    """
    sealed_ahead = int(SEALED_AHEAD_PER_S * (1.0 if given.sink else given.seconds))
    load = OneEnc(given.key, given.port, sealed_ahead, again=given.sink)
    if not load.send_for(0.0, 1):
        raise BenchError("no datagram was answered")
    meter = Meter(given.server_pid)
    figures = meter.figures(load.send_for(given.seconds, given.window))
    if not given.sink:
        load.check_replies()
    return figures | {"lost": load.lost, "sealed_in_run": load.sealed_in_run}


def with_fresh_encs(given: argparse.Namespace) -> dict[str, float | int | str]:
    """Return the figures of FRESH_PER_S datagrams a second, each of a new sender."""
    made = [SealedSender(given.key) for _ in range(int(FRESH_PER_S * given.seconds))]
    senders = {sender.enc[:8]: sender for sender in made}
    datagrams = [sender.seal(request(0), time.time()) for sender in made]
    path = Socket(given.port)
    replies: list[bytes] = []
    meter = Meter(given.server_pid)
    at_once = int(FRESH_PER_S * FRESH_EVERY_S)
    next_s = time.monotonic()
    for at in range(0, len(datagrams), at_once):
        path.send(datagrams[at : at + at_once])
        next_s += FRESH_EVERY_S
        while (wait_s := next_s - time.monotonic()) > 0:
            replies += path.replies(wait_s)
    while late := path.replies(POLL_S):
        replies += late
    answered = len({reply[REPLY_ENC] for reply in replies})
    if not answered:
        raise BenchError("no datagram was answered")
    figures = meter.figures(answered)
    for reply in replies:
        check(senders[reply[REPLY_ENC]], reply)
    return figures | {"sent": len(datagrams), "lost": len(datagrams) - answered}


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sealedload", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--key", type=bytes.fromhex, required=True)
    parser.add_argument(
        "--window", type=int, help="in flight; without: a fresh enc each"
    )
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--sink", action="store_true", help="it seals no replies")
    given = parser.parse_args()
    run = with_fresh_encs if given.window is None else under_one_enc
    try:
        print(json.dumps(run(given)))
    except (BenchError, OSError) as error:
        print(f"bench.sealedload: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
