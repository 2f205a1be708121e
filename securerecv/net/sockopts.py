"""
What the Linux kernel is asked of a UDP socket.

Sources: udp(7), ip(7), ipv6(7), socket(7) and the kernel's `linux/udp.h`,
`linux/in.h`, `linux/in6.h` and `asm-generic/socket.h`.
"""

import socket
import struct
from contextlib import suppress

# Of the kernel's headers; `socket` has none of them in Python 3.11.
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23
IPV6_PMTUDISC_PROBE = 3
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SK_MEMINFO_FORMAT = "=9I"
SK_MEMINFO_DROPS = 8
UDP_SEGMENT = 103
UDP_GRO = 104

GRO_CONTROL_BYTES = socket.CMSG_SPACE(4)
"""Room for the control message that says how a received batch is cut."""

_IPV4_INFO_BYTES = 12
_IPV6_INFO_BYTES = 20

LOCAL_CONTROL_BYTES = socket.CMSG_SPACE(_IPV4_INFO_BYTES) + socket.CMSG_SPACE(
    _IPV6_INFO_BYTES
)
"""Room for those that name the local address: IPv4 on a dual-stack socket has two."""

ControlMessage = tuple[int, int, bytes]
"""Of `recvmsg` and for `sendmsg`: level, type, data."""

ControlMessages = list[ControlMessage]


def forbid_fragments(sock: socket.socket) -> None:
    """
    Let datagrams leave whole or not at all.

    What is longer than the interface takes is then refused with EMSGSIZE. PROBE
    and not DO: the sender finds the path's MTU by probes that its peer confirms,
    and the kernel's own idea of it, which comes from ICMP messages that anybody
    can forge, does not get in the way (RFC 8899, section 4.6).
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
    # On an IPv6 socket this is for the IPv4 peers of a dual-stack one.
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)


def grow_receive_buffer(sock: socket.socket, size_bytes: int) -> int:
    """
    Let more datagrams wait while the process is busy elsewhere.

    Args:
        sock: a buffer that is larger already is left as it is.
        size_bytes: what is wished for. `CAP_NET_ADMIN` gets it, others no more
            than `net.core.rmem_max`.

    Returns:
        What was granted, as the kernel counts: twice the wish, because it counts
        its own bookkeeping, at least 768 bytes a datagram.
    """
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * size_bytes:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size_bytes)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def receive_in_batches(sock: socket.socket) -> bool:
    """
    Ask for neighbours in the queue to be handed over together (UDP_GRO).

    Returns:
        Whether the kernel can do that (Linux 5.0).
    """
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        return True
    return False


def sends_in_batches(sock: socket.socket) -> bool:
    """Tell whether the kernel can cut one buffer into datagrams (Linux 4.18)."""
    with suppress(OSError):
        sock.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
        return True
    return False


def segment_control(segment_bytes: int) -> ControlMessages:
    """Say to `sendmsg` how long each datagram of a batch is."""
    return [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", segment_bytes))]


def segment_bytes(control: ControlMessages) -> int | None:
    """Read how long each datagram of a received batch is; None: it is only one."""
    for level, kind, data in control:
        if level == socket.IPPROTO_UDP and kind == UDP_GRO:
            return int(struct.unpack("=i", data)[0])
    return None


def tell_local_address(sock: socket.socket) -> None:
    """Ask which of the machine's addresses each datagram was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    # On an IPv6 socket this is for the IPv4 peers of a dual-stack one: unlike
    # IPV6_PKTINFO it says whence to answer what was sent to a broadcast address.
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def local_control(control: ControlMessages) -> ControlMessage | None:
    """
    Find out whence to answer a datagram.

    Args:
        control: what came with it, on a socket of `tell_local_address`.

    Returns:
        What makes `sendmsg` answer from the address that was asked, the same for
        all datagrams that were sent to it; None if it is nobody's (multicast).
    """
    found = None
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # struct in_pktinfo: interface, the address to answer from, the one in
            # the header.  The way back is left to routing, so no interface.
            return level, kind, b"\0\0\0\0" + data[4:8] + b"\0\0\0\0"
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            found = _local_ipv6(data)
    return found


def _local_ipv6(data: bytes) -> ControlMessage | None:
    # struct in6_pktinfo: address, interface.
    if data.startswith(b"\xff"):
        return None
    if not data.startswith(b"\xfe\x80"):  # a link-local one means its interface only
        data = data[:16] + b"\0\0\0\0"
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data


def kernel_drops(sock: socket.socket) -> int:
    """
    Read how many datagrams the kernel had no room for, or found damaged.

    The count that SO_RXQ_OVFL would attach to the next datagram that is not
    dropped, but as it is now. 32 bits, after which it begins anew.
    """
    size = struct.calcsize(SK_MEMINFO_FORMAT)
    with suppress(OSError):  # before Linux 4.12 it does not say
        data = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, size)
        return int(struct.unpack(SK_MEMINFO_FORMAT, data)[SK_MEMINFO_DROPS])
    return 0
