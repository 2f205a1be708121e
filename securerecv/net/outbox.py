"""Sending datagrams: as many at once as the kernel takes, and never without end."""

import errno
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from attrs import define, field

from securerecv.net.sockopts import (
    ControlMessage,
    ControlMessages,
    segment_control,
)

Place = tuple[str, int] | tuple[str, int, int, int]
"""Of a peer, as the socket gives and takes it: for IPv4 host and port, for IPv6
flow and scope too. On a dual-stack socket an IPv4 host is ``::ffff:192.0.2.1``."""


class Way(NamedTuple):
    """
    Between a peer and one of our addresses, on a socket that has several.

    Peers expect an answer from the address that they asked, and the kernel by
    itself would choose another. Who speaks with two addresses of ours is two peers.

    Attributes:
        host: of the peer.
        remote: where the peer is.
        local: for `sendmsg`; see `securerecv.net.sockopts.local_control`.
    """

    host: str
    remote: Place
    local: ControlMessage


Address = Place | Way
"""Of a peer; the host comes first in each form."""

MAX_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of the kernels before Linux 6.9; now it is 128."""

MAX_BATCH_BYTES = 65_507
"""The longest IPv4 payload: a batch travels as one datagram until it is cut."""

MAX_QUEUED_BYTES = 1024 * 1024
"""What may wait for room in the socket's send buffer."""

QUEUED_DATAGRAM_BYTES = 64
"""What a queued datagram counts beside its payload: empty ones take memory too."""


@define
class DatagramCounters:
    """
    What has become of datagrams.

    Attributes:
        received: datagrams.
        received_batches: how many the kernel made of them, by UDP_GRO.
        receive_errors: of the network, by name; ICMP messages on the whole.
        kernel_drops: came in while the receive buffer was full.
        sent: datagrams.
        sent_batches: the system calls that took them.
        too_long: to send without fragmenting them.
        dropped: not sent, because too many waited for the send buffer.
        send_errors: not sent for another reason, by name, like ``ENETUNREACH``.
    """

    received: int = 0
    received_batches: int = 0
    receive_errors: Counter[str] = field(factory=Counter)
    kernel_drops: int = 0
    sent: int = 0
    sent_batches: int = 0
    too_long: int = 0
    dropped: int = 0
    send_errors: Counter[str] = field(factory=Counter)


def error_name(error: OSError) -> str:
    """Name an error as errno(3) does."""
    return errno.errorcode.get(error.errno or 0, "unknown")


def batches(datagrams: Sequence[bytes]) -> Iterator[list[bytes]]:
    """
    Group datagrams, in their order, into what one `sendmsg` can carry.

    The kernel cuts a batch into equal pieces and a shorter last one, so a batch
    ends with the first datagram that is shorter, and an empty one goes alone.
    """
    batch: list[bytes] = []
    first = total = 0
    for datagram in datagrams:
        size = len(datagram)
        if batch and (
            size > first
            or size == 0
            or len(batch) == MAX_SEGMENTS
            or total + size > MAX_BATCH_BYTES
        ):
            yield batch
            batch = []
        if not batch:
            first = size
            total = 0
        batch.append(datagram)
        total += size
        if size < first:
            yield batch
            batch = []
    if batch:
        yield batch


def queued_size(datagrams: Sequence[bytes]) -> int:
    """Count what datagrams take while they wait."""
    return sum(map(len, datagrams)) + QUEUED_DATAGRAM_BYTES * len(datagrams)


def _way_of(address: Address | None) -> tuple[Place | None, ControlMessages]:
    """Say it for `sendmsg`."""
    if isinstance(address, Way):
        return address.remote, [address.local]
    return address, []


class Outbox:
    """
    Sends over one socket that does not block.

    Args:
        sock: a datagram socket.
        counters: updated with what happens.
        batched: send in batches; the kernel must be able to.
    """

    def __init__(
        self, sock: socket.socket, counters: DatagramCounters, *, batched: bool
    ) -> None:
        self._socket = sock
        self._counters = counters
        self._batched = batched
        self._queue: deque[tuple[list[bytes], Address | None]] = deque()
        self._queued_bytes = 0

    def __bool__(self) -> bool:
        """Tell whether datagrams wait for room in the send buffer."""
        return bool(self._queue)

    def send(self, datagrams: Sequence[bytes], address: Address | None) -> int:
        """
        Send, or queue while the send buffer is full, or drop when too many wait.

        Args:
            datagrams: 0–65,507 bytes each (65,527 over IPv6). Those of equal
                length, one after the other, travel together.
            address: the receiver, None on a connected socket. The host must be an
                IP address: a name would be looked up, and the process would wait.

        Returns:
            How many were too long to leave here without being fragmented; the
            others are not held up by them. One that has to wait first is only
            counted in `DatagramCounters.too_long`.
        """
        too_long = self._counters.too_long
        groups = batches(datagrams) if self._batched else ([one] for one in datagrams)
        for group in groups:
            left = group if self._queue else self._transmit(group, address)
            if left:
                self._enqueue(left, address)
        return self._counters.too_long - too_long

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._queue:
            group, address = self._queue.popleft()
            self._queued_bytes -= queued_size(group)
            left = self._transmit(group, address)
            if left:
                self._queue.appendleft((left, address))
                self._queued_bytes += queued_size(left)
                return

    def clear(self) -> None:
        """Drop what waits."""
        for group, _ in self._queue:
            self._counters.dropped += len(group)
        self._queue.clear()
        self._queued_bytes = 0

    def _enqueue(self, group: list[bytes], address: Address | None) -> None:
        size = queued_size(group)
        if self._queued_bytes + size > MAX_QUEUED_BYTES:
            self._counters.dropped += len(group)
            return
        self._queued_bytes += size
        self._queue.append((group, address))

    def _transmit(self, group: list[bytes], address: Address | None) -> list[bytes]:
        """Return those for which there was no room; the others are dealt with."""
        place, local = _way_of(address)
        if len(group) > 1:
            control = local + segment_control(len(group[0]))
            try:
                self._socket.sendmsg(group, control, 0, place)
            except BlockingIOError:
                return group
            except OSError:
                # The datagrams are too long for the way they take (EMSGSIZE,
                # EINVAL in older kernels), or the device on it cannot do batches
                # (EIO), or the network has a trouble of its own: each datagram
                # learns for itself which of these it is.
                pass
            else:
                self._counters.sent += len(group)
                self._counters.sent_batches += 1
                return []
        for done, datagram in enumerate(group):
            try:
                self._socket.sendmsg((datagram,), local, 0, place)
            except BlockingIOError:
                return group[done:]
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    self._counters.too_long += 1
                else:
                    self._counters.send_errors[error_name(error)] += 1
            else:
                self._counters.sent += 1
                self._counters.sent_batches += 1
        return []
