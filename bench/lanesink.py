"""
Receives one file, again and again, and keeps nothing of it.

* ``lane``: by our lane, as the server does, but with a secret that is known.
* ``bare``: the ceiling. One blocking socket, batches as the kernel hands them over
  (UDP_GRO), each packet decrypted to its place, and a count sent back for each batch.
  Nothing is sent again, and nothing checked but the tag.

Run as ``python -m bench.lanesink KIND --size BYTES``.
"""

from __future__ import annotations

import argparse
import secrets
import socket
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.python.failure import Failure

from securerecv.net import sockopts
from securerecv.net.gro import RECEIVE_BUFFER_BYTES, BatchProtocol, listen_datagrams
from securerecv.net.inbox import MAX_RECEIVED_BYTES
from securerecv.net.lane import ReceivingLane
from securerecv.net.outbox import Address
from securerecv.wire.lanekeys import NONCE_BYTES, derive
from securerecv.wire.lanepackets import HEADER, HEADER_BYTES, LANE_ID, OVERHEAD_BYTES
from securerecv.wire.lanereceiver import LaneReceiver

SECRET = bytes(32)
COUNT_BYTES = 8


class Nowhere:
    """Takes a file and keeps nothing."""

    def write(self, data: memoryview) -> None:
        """See `securerecv.net.lane.Writer`."""


class LaneSink(BatchProtocol):
    """Receives on the lane that was named last."""

    def __init__(self, size: int, reactor: Any) -> None:
        self._size = size
        self._reactor = reactor
        self._lane_id = b""
        self._lane: ReceivingLane | None = None

    def datagrams_received(self, datagrams: list[bytes], address: Address) -> None:
        """Take packets; those of a new lane begin it."""
        lane_id = datagrams[0][LANE_ID]
        if lane_id != self._lane_id or self._lane is None:
            self._lane_id = lane_id
            end = LaneReceiver(
                lane_id,
                derive(SECRET),
                0,
                self._size,
                address,
                self._reactor.seconds(),
                secrets.token_bytes,
            )
            self._lane = ReceivingLane(
                end, self._reactor, self.transport.send, _over, Nowhere(), _complete
            )
        self._lane.received(datagrams, address)


def _over(_: Failure | None) -> None:
    """Wait for the next."""


def _complete() -> None:
    """Wait for the next."""


def serve_lane(size: int) -> None:
    """Receive by lanes."""
    from twisted.internet import reactor

    port = listen_datagrams(reactor, 0, LaneSink(size, reactor), "127.0.0.1")
    print(f"udp 127.0.0.1:{port.getHost().port}", flush=True)
    run: Any = reactor
    run.run()


def serve_bare() -> None:
    """Receive in a bare loop."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockopts.grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
    sockopts.receive_in_batches(sock)
    sock.bind(("127.0.0.1", 0))
    print(f"udp 127.0.0.1:{sock.getsockname()[1]}", flush=True)
    cipher = AESGCM(SECRET)
    window = memoryview(bytearray(1 << 22))
    received = 0
    while True:
        data, control, _, address = sock.recvmsg(
            MAX_RECEIVED_BYTES, sockopts.GRO_CONTROL_BYTES
        )
        size = sockopts.segment_bytes(control) or len(data)
        for at in range(0, len(data), size):
            packet = data[at : at + size]
            _, _, _, number, offset = HEADER.unpack_from(packet)
            place = offset % (len(window) - size)
            if not number:
                received = 0
            cipher.decrypt_into(
                number.to_bytes(NONCE_BYTES, "big"),
                packet[HEADER_BYTES:],
                packet[:HEADER_BYTES],
                window[place : place + len(packet) - OVERHEAD_BYTES],
            )
            received += len(packet) - OVERHEAD_BYTES
        sock.sendto(received.to_bytes(COUNT_BYTES, "big"), address)


def main() -> None:
    """Take a free port of 127.0.0.1, print it, serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m bench.lanesink")
    parser.add_argument("kind", choices=("lane", "bare"))
    parser.add_argument("--size", type=int, required=True)
    given = parser.parse_args()
    if given.kind == "lane":
        serve_lane(given.size)
    else:
        serve_bare()


if __name__ == "__main__":
    main()
