"""
A path in between: so long, so wide, and so lossy, with a queue.

Run as ``python -m bench.lanerelay --to PORT --loss 0.01``.  It prints the port of
127.0.0.1 at which it takes what one client sends.
"""

from __future__ import annotations

import argparse
import select
import socket
import time
from collections import deque
from random import Random

from securerecv.net import sockopts
from securerecv.net.gro import RECEIVE_BUFFER_BYTES
from securerecv.net.inbox import MAX_RECEIVED_BYTES
from securerecv.net.outbox import DatagramCounters, Outbox, Place
from securerecv.wire.pathmtu import SIZES

QUEUE_S = 0.02
HEADERS_BYTES = 28
LONGEST_BYTES = SIZES[2]
"""What an Ethernet carries."""


class Direction:
    """
    One direction: what is under way, and when the link is free again.

    Args:
        bytes_per_s: how wide it is.
        one_way_s: how long.
        loss: the share of datagrams that is lost.
        seed: of what happens to which.
    """

    def __init__(
        self, bytes_per_s: float, one_way_s: float, loss: float, seed: int
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._one_way_s = one_way_s
        self._loss = loss
        self._random = Random(seed).random  # noqa: S311 - so that runs are comparable
        self._free_s = 0.0
        self.under_way: deque[tuple[float, bytes]] = deque()

    def put(self, data: bytes, size: int, now: float) -> None:
        """Take datagrams, of which all but the last are so long, or lose them."""
        if size > LONGEST_BYTES:
            return
        free_s = max(now, self._free_s)
        for at in range(0, len(data), size):
            if free_s > now + QUEUE_S:
                break
            if self._random() < self._loss:
                continue
            datagram = data[at : at + size]
            free_s += (len(datagram) + HEADERS_BYTES) / self._bytes_per_s
            self.under_way.append((free_s + self._one_way_s, datagram))
        self._free_s = free_s

    def due(self, now: float) -> list[bytes]:
        """Give what has arrived by now."""
        arrived = []
        while self.under_way and self.under_way[0][0] <= now:
            arrived.append(self.under_way.popleft()[1])
        return arrived


class Side:
    """A socket towards one of the ends."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockopts.grow_receive_buffer(self.sock, RECEIVE_BUFFER_BYTES)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER_BYTES)
        sockopts.receive_in_batches(self.sock)
        self.sock.setblocking(False)
        self.sender: Place | None = None
        self.outbox = Outbox(self.sock, DatagramCounters(), batched=True)

    def receive_into(self, way: Direction, now: float) -> None:
        """Hand on what has come."""
        try:
            while True:
                data, control, _, self.sender = self.sock.recvmsg(
                    MAX_RECEIVED_BYTES, sockopts.GRO_CONTROL_BYTES
                )
                if data:
                    way.put(data, sockopts.segment_bytes(control) or len(data), now)
        except (BlockingIOError, ConnectionRefusedError):
            pass


def relay(to: int, there: Direction, back: Direction) -> None:
    """Pass datagrams on until terminated."""
    client, server = Side(), Side()
    client.sock.bind(("127.0.0.1", 0))
    server.sock.connect(("127.0.0.1", to))
    print(f"udp 127.0.0.1:{client.sock.getsockname()[1]}", flush=True)
    while True:
        waiting = [way.under_way[0][0] for way in (there, back) if way.under_way]
        pause_s = max(0.0, min(waiting) - time.monotonic()) if waiting else None
        select.select([client.sock, server.sock], [], [], pause_s)
        now = time.monotonic()
        client.receive_into(there, now)
        server.receive_into(back, now)
        server.outbox.send(there.due(now), None)
        client.outbox.send(back.due(now), client.sender)
        server.outbox.flush()
        client.outbox.flush()


def main() -> None:
    """Parse the command line, and pass on."""
    parser = argparse.ArgumentParser(prog="python -m bench.lanerelay")
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--loss", type=float, required=True)
    parser.add_argument("--mbit", type=float, required=True, help="a second")
    parser.add_argument("--round-trip-ms", type=float, required=True)
    given = parser.parse_args()
    width, one_way_s = given.mbit * 125_000, given.round_trip_ms / 2000
    ways = [Direction(width, one_way_s, given.loss, seed) for seed in (1, 2)]
    relay(given.to, *ways)


if __name__ == "__main__":
    main()
