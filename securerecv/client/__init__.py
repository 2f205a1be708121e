"""
The other end of the conversation, for programs.

Everything returns a Deferred, which may be awaited::

    from securerecv.client import ServerAddress, connect, only

    server = ServerAddress.parse("receive.example.org")
    trust = only(["sha256//…"])  # as the server prints it

    client = await connect(reactor, server, trust)
    await client.login("alice", "correct horse")
    for message in await client.last():
        print(message.sender, message.body)
    await client.quit()

`connect_udp` does the same over DTLS, and `send_sealed` sends one message in one
datagram.  All that programs need can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.client.connectudp import connect_udp
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.knownservers import KnownServers
from securerecv.client.trust import Trust, only
from securerecv.errors import ErrorCode, PeerError
from securerecv.wire.lines import Message

if TYPE_CHECKING:
    from securerecv.client.sealed import send_sealed
    from securerecv.wire.hpke import Psk

__all__ = [
    "Client",
    "DisconnectedError",
    "ErrorCode",
    "KnownServers",
    "Message",
    "PeerError",
    "Psk",
    "ServerAddress",
    "Trust",
    "UnreachableError",
    "UntrustedServerError",
    "connect",
    "connect_udp",
    "only",
    "send_sealed",
]

# HPKE takes as long to import as all the rest, and most programs hold conversations.
_IMPORTED_ON_USE = {
    "Psk": "securerecv.wire.hpke",
    "send_sealed": "securerecv.client.sealed",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_ON_USE[name]), name)
