"""
Receiving datagrams: as many at once as there are.

`recvmmsg(2)`, which `socket` does not have: one system call brings what would take
one for each datagram, and the interpreter is let go of once. Why it is safe to call it
by ctypes is in ``docs/decisions/0017-recvmmsg.md``.
"""

import ctypes
import os
import socket
from mmap import mmap
from struct import Struct

from securerecv.net import sockopts
from securerecv.net.outbox import Address, DatagramCounters, Place, Way
from securerecv.net.sockopts import ControlMessages

MAX_MESSAGES = 32
"""At once. Each may be a batch that the kernel has put together."""

MAX_RECEIVED_BYTES = 65_535
"""UDP's length field has 16 bits, and a batch is no longer than one datagram."""

MAX_TOGETHER = 64
"""
Datagrams of one peer that the kernel did not put together are, until they are so
many: what is done once for all of them costs most of what it takes to do it for one.
"""

MAX_ORIGINS = 1024
"""Peers whose addresses need not be read again, about 500 bytes each."""

Received = tuple[list[bytes], Address]
"""Datagrams, in the order in which they came, and the peer that sent them all."""

_Origin = tuple[Address, int | None]
"""Who sent a message, and how long each datagram in it is."""

_STARTS = range(0, MAX_MESSAGES * MAX_RECEIVED_BYTES, MAX_RECEIVED_BYTES)

_IPV4 = Struct("!2xH4s")
_IPV6 = Struct("!2xHI16s")
_FAMILY = Struct("=H")
_SCOPE = Struct("=I")
_NAME_BYTES = 32  # 28 for IPv6; control messages want to begin at a multiple of 8
_CONTROL = Struct("@Nii")  # struct cmsghdr: length with itself, level, type


class _Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)


class Inbox:
    """
    Receives over one socket that does not block.

    Args:
        sock: a datagram socket, of IPv4 or IPv6.
        counters: updated with what happens.
        control_bytes: room for the control messages that come with a datagram, a
            multiple of 8.
        has_many_addresses: they name the address of ours that it was sent to.

    Attributes:
        is_empty: `receive` has left nothing behind.
    """

    def __init__(
        self,
        sock: socket.socket,
        counters: DatagramCounters,
        control_bytes: int,
        *,
        has_many_addresses: bool,
    ) -> None:
        self.is_empty = False
        self._socket = sock
        self._counters = counters
        self._has_many_addresses = has_many_addresses
        # Datagrams in each message, as it was last.
        self._per_message = 1
        # It takes up memory where something was written to it.
        self._content = mmap(-1, MAX_MESSAGES * MAX_RECEIVED_BYTES)
        self._head_bytes = _NAME_BYTES + control_bytes
        self._heads = bytearray(MAX_MESSAGES * self._head_bytes)
        self._split_heads = Struct(f"{self._head_bytes}s")
        self._origins: dict[bytes, _Origin] = {}
        self._vectors = (_Vector * MAX_MESSAGES)()
        self._messages = bytearray(MAX_MESSAGES * ctypes.sizeof(_Message))
        self._lay_out(control_bytes)
        # As each call has to find them: with room in all, and nothing of the last.
        self._no_heads = bytes(self._heads)
        self._no_messages = bytes(self._messages)

    def _lay_out(self, control_bytes: int) -> None:
        """Tell the kernel where everything goes."""
        content_at = _pointer_to(self._content)
        heads_at = _pointer_to(self._heads)
        vectors_at = ctypes.addressof(self._vectors)
        messages = (_Message * MAX_MESSAGES).from_buffer(self._messages)
        for number, message in enumerate(messages):
            content = content_at + number * MAX_RECEIVED_BYTES
            self._vectors[number] = _Vector(content, MAX_RECEIVED_BYTES)
            name = heads_at + number * self._head_bytes
            message.header = _Header(
                name,
                _NAME_BYTES,
                vectors_at + number * ctypes.sizeof(_Vector),
                1,
                name + _NAME_BYTES,
                control_bytes,
            )
        self._messages_at = ctypes.addressof(messages)
        # The length of each message, without what stands between them.
        words = memoryview(self._messages).cast("I")
        first = _Message.length.offset // words.itemsize
        self._lengths = words[first :: ctypes.sizeof(_Message) // words.itemsize]

    def receive(self) -> list[Received]:
        """
        Take what there is, but not without end.

        Returns:
            About `MAX_MESSAGES` datagrams at the most.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the network reports what became of an earlier datagram of ours.
        """
        self._heads[:] = self._no_heads
        self._messages[:] = self._no_messages
        most = max(1, MAX_MESSAGES // self._per_message)
        count = _recvmmsg(
            self._socket.fileno(), self._messages_at, most, socket.MSG_DONTWAIT, None
        )
        self.is_empty = count < most
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        found = self._cut(self._lengths[:count].tolist())
        total = sum([len(datagrams) for datagrams, _ in found])
        self._per_message = -(-total // count)
        self._counters.received += total
        self._counters.received_batches += count
        return found

    def _cut(self, lengths: list[int]) -> list[Received]:
        """Cut messages of these lengths, and put some of a peer together."""
        heads = self._split_heads.iter_unpack(self._heads)
        found: list[Received] = []
        datagrams: list[bytes] = []
        last_head = b""
        size: int | None = None
        for length, at, (head,) in zip(lengths, _STARTS, heads, strict=False):
            if head != last_head or len(datagrams) >= MAX_TOGETHER:
                last_head = head
                address, size = self._origin_of(head)
                datagrams = []
                found.append((datagrams, address))
            content = self._content[at : at + length]
            if size is None:
                datagrams.append(content)
            else:
                datagrams += [
                    content[cut : cut + size] for cut in range(0, length, size)
                ]
        return found

    def _origin_of(self, head: bytes) -> _Origin:
        origin = self._origins.get(head)
        if origin is None:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            origin = self._origins[head] = self._read_head(head)
        return origin

    def _read_head(self, head: bytes) -> _Origin:
        name = _read_name(head)
        control = _read_control(head[_NAME_BYTES:])
        size = sockopts.segment_bytes(control)
        if self._has_many_addresses:
            local = sockopts.local_control(control)
            if local is not None:
                return Way(name[0], name, local), size
        return name, size


def _pointer_to(memory: bytearray | mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _read_name(name: bytes) -> Place:
    """Read a ``struct sockaddr`` as `socket` gives it."""
    if _FAMILY.unpack_from(name)[0] == socket.AF_INET:
        port, host = _IPV4.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _IPV6.unpack_from(name)
    (scope,) = _SCOPE.unpack_from(name, _IPV6.size)
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, scope


def _read_control(data: bytes) -> ControlMessages:
    """Read control messages as `socket` gives them; behind the last are zeros."""
    found: ControlMessages = []
    at = 0
    while at + _CONTROL.size <= len(data):
        size, level, kind = _CONTROL.unpack_from(data, at)
        begin = at + socket.CMSG_LEN(0)
        end = at + size
        if end < begin:
            break
        found.append((level, kind, data[begin:end]))
        at += socket.CMSG_SPACE(end - begin)
    return found
