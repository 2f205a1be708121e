"""
A path in between: so long, so wide, and so lossy, with a queue.

Run as ``python -m bench.lanerelay --to PORT --loss 0.01``.  It prints the port of
127.0.0.1 at which it takes what one client sends.
"""

from __future__ import annotations

import argparse
import heapq
import select
import socket
import time
from itertools import count
from random import Random

from securerecv.net import sockopts
from securerecv.net.gro import RECEIVE_BUFFER_BYTES
from securerecv.wire.pathmtu import SIZES

RATE_BYTES_PER_S = 12_500_000
"""100 Mbit/s, in either direction."""

ONE_WAY_S = 0.01
QUEUE_S = 0.02
HEADERS_BYTES = 28
LONGEST_BYTES = SIZES[2]
"""What an Ethernet carries."""


class Direction:
    """One direction: what is under way, and when the link is free again."""

    def __init__(self, loss: float, seed: int) -> None:
        self._loss = loss
        self._random = Random(seed)  # noqa: S311 - so that runs are comparable
        self._free_s = 0.0
        self._order = count()
        self.under_way: list[tuple[float, int, bytes]] = []

    def put(self, datagram: bytes, now: float) -> None:
        """Take a datagram, or lose it."""
        start = max(now, self._free_s)
        if (
            len(datagram) > LONGEST_BYTES
            or start > now + QUEUE_S
            or self._random.random() < self._loss
        ):
            return
        self._free_s = start + (len(datagram) + HEADERS_BYTES) / RATE_BYTES_PER_S
        due = self._free_s + ONE_WAY_S
        heapq.heappush(self.under_way, (due, next(self._order), datagram))

    def due(self, now: float) -> list[bytes]:
        """Give what has arrived by now."""
        arrived = []
        while self.under_way and self.under_way[0][0] <= now:
            arrived.append(heapq.heappop(self.under_way)[2])
        return arrived


def relay(to: int, loss: float) -> None:
    """Pass datagrams on until terminated."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in sockets:
        sockopts.grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
        sock.setblocking(False)
    client, server = sockets
    client.bind(("127.0.0.1", 0))
    server.connect(("127.0.0.1", to))
    print(f"udp 127.0.0.1:{client.getsockname()[1]}", flush=True)
    there, back = Direction(loss, 1), Direction(loss, 2)
    sender = ("127.0.0.1", 0)
    while True:
        waiting = [way.under_way[0][0] for way in (there, back) if way.under_way]
        pause_s = max(0.0, min(waiting) - time.monotonic()) if waiting else None
        ready, _, _ = select.select(sockets, [], [], pause_s)
        now = time.monotonic()
        for sock in ready:
            way = there if sock is client else back
            try:
                while True:
                    datagram, address = sock.recvfrom(1 << 16)
                    if sock is client:
                        sender = address
                    way.put(datagram, now)
            except (BlockingIOError, ConnectionRefusedError):
                pass
        for datagram in there.due(now):
            server.send(datagram)
        for datagram in back.due(now):
            client.sendto(datagram, sender)


def main() -> None:
    """Parse the command line, and pass on."""
    parser = argparse.ArgumentParser(prog="python -m bench.lanerelay")
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--loss", type=float, required=True)
    given = parser.parse_args()
    relay(given.to, given.loss)


if __name__ == "__main__":
    main()
