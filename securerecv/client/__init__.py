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
from securerecv.client.sealed import send_sealed
from securerecv.client.trust import Trust, only
from securerecv.errors import ErrorCode, PeerError
from securerecv.wire.hpke import Psk
from securerecv.wire.lines import Message

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
