"""What the load generator says to each kind of server, and how it reads answers."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Mapping
from typing import Protocol

from bench.tls import BenchError, log_in_anonymously, read_greeting, read_some

BODY_BYTES = 100
REDIS_STREAMS = 10
MQTT_TOPIC = b"q/in"
MQTT_IDS = 65_535

_names = itertools.count()


class Dialect(Protocol):
    """One kind of server."""

    def enter(self, sock: ssl.SSLSocket) -> None:
        """Do on a new connection whatever comes before messages."""

    def request(self, number: int, box: int) -> bytes:
        """Return a message of BODY_BYTES that wants an answer."""

    def answers(self, received: bytes) -> tuple[int, bytes]:
        """
        Count the answers in what was received.

        Returns:
            How many are whole, and the incomplete rest.

        Raises:
            BenchError: one of them is not the right one.
        """


class Securerecv:
    """Ours, and the bare servers that understand as much of it."""

    def enter(self, sock: ssl.SSLSocket) -> None:
        """Say ANON."""
        read_greeting(sock)
        log_in_anonymously(sock)

    def request(self, number: int, box: int) -> bytes:
        """Return a SEND."""
        return b"SEND b%d %d\r\n%b\r\n" % (box, BODY_BYTES, _body(number))

    def answers(self, received: bytes) -> tuple[int, bytes]:
        """Count lines that begin with +OK."""
        rest = b""
        if not received.endswith(b"\n"):
            whole, newline, rest = received.rpartition(b"\n")
            received = whole + newline
        answers = received.count(b"\n")
        right = received.count(b"\n+OK ") + received.startswith(b"+OK ")
        if answers != right:
            wrong = [x for x in received.splitlines() if not x.startswith(b"+OK ")]
            raise BenchError(f"SEND was answered {wrong[0]!r}")
        return answers, rest


class Redis:
    """redis: each message is added to one of ten streams that keep five."""

    def enter(self, sock: ssl.SSLSocket) -> None:
        """Say nothing."""

    def request(self, number: int, box: int) -> bytes:
        """Return an XADD."""
        words = (b"XADD", b"s:%d" % (number % REDIS_STREAMS), b"MAXLEN", b"5", b"*")
        parts = (*words, b"b%d" % box, _body(number))
        strings = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        return b"*%d\r\n%b" % (len(parts), strings)

    def answers(self, received: bytes) -> tuple[int, bytes]:
        """Count bulk strings, which are two lines each."""
        lines = received.split(b"\n")
        whole = (len(lines) - 1) // 2
        if whole != sum(line.startswith(b"$") for line in lines[: 2 * whole : 2]):
            raise BenchError(f"XADD was answered {received[:200]!r}")
        return whole, b"\n".join(lines[2 * whole :])


class Mqtt:
    """A broker of MQTT 3.1.1: each message is a PUBLISH of quality of service 1."""

    def enter(self, sock: ssl.SSLSocket) -> None:
        """Connect with a clean session (chapter 3.1 of the standard)."""
        name = b"bench%d" % next(_names)
        variable = _string(b"MQTT") + bytes([4, 2, 0, 60]) + _string(name)
        sock.sendall(bytes([0x10, len(variable)]) + variable)
        answer = read_some(sock)
        if answer != b"\x20\x02\0\0":
            raise BenchError(f"CONNECT was answered {answer!r}")

    def request(self, number: int, box: int) -> bytes:
        """Return a PUBLISH; numbers may repeat when their answers have come."""
        packet_id = (number % MQTT_IDS + 1).to_bytes(2, "big")
        rest = _string(MQTT_TOPIC) + packet_id + _body(number)
        del box
        return bytes([0x32, len(rest)]) + rest

    def answers(self, received: bytes) -> tuple[int, bytes]:
        """Count PUBACKs, which are four bytes each."""
        whole = len(received) // 4
        if received[: 4 * whole : 4] != b"\x40" * whole:
            raise BenchError(f"PUBLISH was answered {received[:200]!r}")
        return whole, received[4 * whole :]


def _body(number: int) -> bytes:
    return (b"message %d " % number).ljust(BODY_BYTES, b".")


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


DIALECTS: Mapping[str, Dialect] = {
    "securerecv": Securerecv(),
    "redis": Redis(),
    "mqtt": Mqtt(),
}
