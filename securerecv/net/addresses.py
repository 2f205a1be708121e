"""The address that limits count."""

from functools import lru_cache
from ipaddress import IPv4Address, ip_address


@lru_cache(maxsize=4096)
def host_of(host: str) -> str:
    """
    Give what is counted for a host.

    An IPv4 address that came in on an IPv6 socket is the IPv4 address; of an
    IPv6 address the /64 counts, which is what one subscriber has.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_address(int(address) >> 64 << 64))
