"""
The load generator for datagrams that nobody answers.

Run as a process of its own, ``python -m bench.blast``, it prints one JSON line: how
many it has sent, how many of them the receiver's socket had room for, and what that
took until the receiver had read the last. All are made before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice

from bench.dialects import BODY_BYTES
from bench.meter import Meter
from bench.proc import udp_socket
from bench.tls import BenchError
from securerecv.net import sockopts
from securerecv.wire.sealing import SealedSender

MOST_PER_S = 400_000
"""As many as go: more than this process can send one by one."""

AT_ONCE = 32
"""Datagrams between two looks at the clock, or in a batch."""

POLL_S = 0.005
PATIENCE_S = 10.0
"""How long what has been sent may wait to be read."""

SEND_BUFFER_BYTES = 4 * 1024 * 1024
NAMES = 100
"""Of metrics."""


def sealed(key: bytes, count: int) -> Iterator[bytes]:
    """Give messages without a tag, all under one ``enc``."""
    sender = SealedSender(key)
    now_s = time.time()
    for number in range(count):
        body = (b"message %d " % number).ljust(BODY_BYTES, b".")
        yield sender.seal(b"SEND b0 %d\r\n%b\r\n" % (BODY_BYTES, body), now_s)


def syslog() -> list[bytes]:
    """Give one message of syslog (RFC 3164), a body behind its header."""
    header = b"<38>Nov 23 15:00:00 localhost load[1]: "
    return [header + b"." * BODY_BYTES]


def metrics() -> list[bytes]:
    """Give lines of Graphite, a metric each."""
    return [
        b"load.host01.metric%02d %d.5 1700000000\n" % (number, 100 + number)
        for number in range(NAMES)
    ]


class Blast:
    """
    Datagrams on their way to one port of 127.0.0.1.

    Args:
        port: there.
        batched: the kernel is given AT_ONCE of equal length at once, and cuts them.

    Raises:
        BenchError: nobody has that port.
    """

    def __init__(self, port: int, *, batched: bool) -> None:
        self._port = port
        self._batched = batched
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket.connect(("127.0.0.1", port))
        self._drops_before = self._look()[1]

    def send(self, datagrams: Iterable[bytes], rate: float, seconds: float) -> int:
        """
        Send so many a second, or as many as go; return how many.

        It ends early when there are no more.
        """
        waiting = iter(datagrams)
        sent = 0
        began_s = time.perf_counter()
        while (passed_s := time.perf_counter() - began_s) < seconds:
            if sent > passed_s * rate:
                time.sleep(sent / rate - passed_s)
            some = list(islice(waiting, AT_ONCE))
            if not some:
                break
            if self._batched:
                self._socket.sendmsg(some, sockopts.segment_control(len(some[0])))
            else:
                for datagram in some:
                    self._socket.send(datagram)
            sent += len(some)
        return sent

    def await_read(self) -> int:
        """
        Wait until the receiver has read all; return how many found no room.

        Raises:
            BenchError: it does not read, or has ended.
        """
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            waiting, drops = self._look()
            if not waiting:
                return drops - self._drops_before
            if time.monotonic() > give_up_at:
                raise BenchError("what was sent is not read")
            time.sleep(POLL_S)

    def _look(self) -> tuple[int, int]:
        found = udp_socket(self._port)
        if found is None:
            raise BenchError(f"nobody has UDP port {self._port}")
        return found


def run(given: argparse.Namespace) -> dict[str, float | int | str]:
    """
    Send, and return the figures.

    Raises:
        BenchError: see `Blast`.
    """
    datagrams: Iterable[bytes]
    if given.dialect == "sealed":
        count = int(given.rate * given.seconds) + AT_ONCE
        datagrams = list(sealed(given.key, count))
    else:
        datagrams = cycle(syslog() if given.dialect == "syslog" else metrics())
    blast = Blast(given.port, batched=given.batched)
    meter = Meter(given.server_pid)
    began_s = time.perf_counter()
    sent = blast.send(datagrams, given.rate, given.seconds)
    sent_in_s = time.perf_counter() - began_s
    found_room = sent - blast.await_read()
    figures = meter.figures(found_room)
    return figures | {"sent": sent, "sent_per_s": round(sent / sent_in_s, 1)}


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.blast", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument(
        "--dialect", choices=("sealed", "syslog", "metrics"), required=True
    )
    parser.add_argument("--key", type=bytes.fromhex, help="for sealed datagrams")
    parser.add_argument("--rate", type=float, required=True, help="a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--batched", action="store_true")
    try:
        print(json.dumps(run(parser.parse_args())))
    except (BenchError, OSError) as error:
        print(f"bench.blast: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
