"""
Sends one file to `bench.lanesink`, and prints one JSON line about it.

Run as ``python -m bench.laneload KIND --port PORT --pid PID --size BYTES``.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from bench.lanesink import COUNT_BYTES, SECRET
from bench.meter import Meter
from securerecv.net import sockopts
from securerecv.net.gro import BatchProtocol, listen_datagrams
from securerecv.net.lane import SendingLane
from securerecv.net.outbox import MAX_BATCH_BYTES, MAX_SEGMENTS, Address
from securerecv.wire import pathmtu
from securerecv.wire.lanekeys import LANE_ID_BYTES, NONCE_BYTES, derive
from securerecv.wire.lanepackets import FIRST_BYTE, HEADER, OVERHEAD_BYTES, Kind
from securerecv.wire.lanesender import LaneSender
from securerecv.wire.outgoing import CHUNK_BYTES

WINDOW_BYTES = 1 << 19
"""What the bare loop has under way."""


class Zeros:
    """A file of zeros; how many bytes it has does not matter."""

    def __init__(self) -> None:
        self._zeros = bytes(CHUNK_BYTES)

    def read(self, _offset: int, size: int) -> Deferred[bytes]:
        """See `securerecv.net.lane.Reader`."""
        return succeed(self._zeros[:size])


class LaneLoad(BatchProtocol):
    """Sends one file by a lane."""

    def __init__(self, size: int, reactor: Any, port: int) -> None:
        self._size = size
        self._reactor = reactor
        self._address = ("127.0.0.1", port)
        self.lane: SendingLane

    def startProtocol(self) -> None:
        """Begin."""
        self.transport.connect(*self._address)
        lane_id = secrets.token_bytes(LANE_ID_BYTES)
        self.end = LaneSender(
            lane_id,
            derive(SECRET),
            0,
            self._size,
            self._address,
            self._reactor.seconds(),
            secrets.token_bytes,
        )
        self.lane = SendingLane(
            self.end, self._reactor, self._send, self._over, Zeros(), _ignore
        )
        self.lane.proceed()

    def _send(self, datagrams: Sequence[bytes], address: Address) -> int:
        count: int = self.transport.send(datagrams, None)
        return count

    def _over(self, _: Failure | None) -> None:
        self._reactor.stop()

    def datagrams_received(self, datagrams: list[bytes], address: Address) -> None:
        """Take acknowledgements."""
        self.lane.received(datagrams, self._address)


def _ignore(_: int) -> None:
    """Take no notice."""


def send_by_lane(size: int, port: int, longest: int | None) -> int:
    """Send; give the length of datagrams at the end."""
    from twisted.internet import reactor

    run: Any = reactor
    load = LaneLoad(size, reactor, port)
    sizes = tuple(one for one in pathmtu.SIZES if one <= (longest or one))
    with patch.object(pathmtu, "SIZES", sizes):
        listen_datagrams(run, 0, load, "127.0.0.1")
        run.run()
    if not load.end.is_complete:
        raise SystemExit("the file did not arrive")
    return load.end.datagram_bytes


def send_bare(size: int, port: int, longest: int | None) -> int:
    """Send in a bare loop; give the length of datagrams."""
    datagram = longest or pathmtu.SIZES[-1]
    piece_bytes = datagram - OVERHEAD_BYTES
    in_batch = min(MAX_SEGMENTS, MAX_BATCH_BYTES // datagram)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    control = sockopts.segment_control(datagram)
    cipher = AESGCM(SECRET)
    zeros = memoryview(bytes(piece_bytes))
    lane_id = secrets.token_bytes(LANE_ID_BYTES)
    sent = arrived = number = 0
    while arrived < size:
        while sent < size and sent - arrived < WINDOW_BYTES:
            batch = []
            for _ in range(in_batch):
                count = min(piece_bytes, size - sent)
                if not count:
                    break
                header = HEADER.pack(FIRST_BYTE, Kind.DATA, lane_id, number, sent)
                nonce = number.to_bytes(NONCE_BYTES, "big")
                batch.append(header + cipher.encrypt(nonce, zeros[:count], header))
                sent += count
                number += 1
            sock.sendmsg(batch, control)
        arrived = int.from_bytes(sock.recv(COUNT_BYTES), "big")
    return datagram


def main() -> None:
    """Parse the command line, send, print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.laneload")
    parser.add_argument("--kind", choices=("lane", "bare"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--longest", type=int, help="bytes of a datagram")
    given = parser.parse_args()
    send = send_by_lane if given.kind == "lane" else send_bare
    meter = Meter(given.pid)
    datagram = send(given.size, given.port, given.longest)
    # What was sent twice, and what was shorter at first, is not counted.
    packets = -(-given.size // (datagram - OVERHEAD_BYTES))
    figures: dict[str, Any] = meter.figures(packets)
    figures["datagram_bytes"] = datagram
    figures["mb_per_s"] = round(given.size / figures["elapsed_s"] / 1e6, 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
