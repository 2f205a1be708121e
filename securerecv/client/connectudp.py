"""Finding a server on UDP and beginning a conversation with it."""

from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.datagrams import find_hosts, listen_in_batches
from securerecv.client.dtls import DtlsPath
from securerecv.client.errors import UnreachableError
from securerecv.client.trust import Trust
from securerecv.client.udp import GREETING_TIMEOUT_S, UdpChannel

NEXT_ADDRESS_AFTER_S = 3.0
"""So long a host may be silent until its next address is tried."""


async def _connect(reactor: Any, server: ServerAddress, trust: Trust) -> Client:
    try:
        hosts = await find_hosts(reactor, server.host)
        for host in hosts[:-1]:
            with suppress(UnreachableError):
                return await _try(
                    reactor, host, server.port, trust, NEXT_ADDRESS_AFTER_S
                )
        return await _try(reactor, hosts[-1], server.port, trust, GREETING_TIMEOUT_S)
    except UnreachableError as reason:
        raise UnreachableError(f"cannot reach {server}: {reason}") from None


async def _try(
    reactor: Any, host: str, port: int, trust: Trust, silence_s: float
) -> Client:
    channel = UdpChannel(trust, reactor)
    path = channel.path = DtlsPath(channel, reactor, host, port)
    impatient = reactor.callLater(silence_s, _look, path)
    try:
        listen_in_batches(reactor, path, host)
    except UnreachableError as reason:
        channel.lost(reason)
    try:
        await channel.ready
    finally:
        if impatient.active():
            impatient.cancel()
    return Client(channel)


def _look(path: DtlsPath) -> None:
    if not path.heard:
        path.give_up("nobody answers there on UDP")


def connect_udp(
    reactor: Any, server: ServerAddress, trust: Trust
) -> "Deferred[Client]":
    """
    Begin a conversation; see `securerecv.client.connect.connect`.

    Fails with `UnreachableError` when no server answers within
    `GREETING_TIMEOUT_S`.
    """
    return Deferred.fromCoroutine(_connect(reactor, server, trust))
