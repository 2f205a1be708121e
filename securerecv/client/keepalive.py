"""Noticing that a connection broke without a word."""

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from securerecv.client.client import Client

PING_INTERVAL_S = 60.0


def keep_alive(client: Client, clock: IReactorTime) -> None:
    """
    Ask the server for a sign of life now and then, until the conversation ends.

    A watcher says nothing itself, so it would wait for ever behind a network
    that has gone.  With this, `Client.closed` fails when an answer is missing.
    """

    def ping() -> None:
        client.ping().addErrback(_told_by_closed)

    def stop(_: Any) -> None:
        pinging.stop()

    pinging = LoopingCall(ping)
    pinging.clock = clock
    pinging.start(PING_INTERVAL_S, now=False)
    client.closed().addBoth(stop)


def _told_by_closed(_: Any) -> None:
    """Leave it to `Client.closed` to say why there is no answer."""
