"""Listening at endpoints: where else to receive than on a port number."""

import os
import socket
from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IStreamServerEndpoint

from securerecv.errors import OperatorError


@define
class Endpoints:
    """
    Where to receive.

    Attributes:
        streams: by what was written, or by the class's name of what an
            application brought.
        datagrams: a bound socket that systemd has passed on, if there is one.
    """

    streams: list[tuple[str, IStreamServerEndpoint]] = field(factory=list)
    datagrams: socket.socket | None = None


def parse_endpoints(reactor: Any, written: Sequence[str]) -> Endpoints:
    """
    Understand Twisted's endpoint strings.

    A ``systemd:`` one may name a UDP socket.  Which sockets systemd has passed on
    is known to Twisted alone: it reads that once, when it is imported, and removes
    it from the environment.

    Args:
        reactor: what the endpoints will listen with.
        written: the strings.

    Raises:
        OperatorError: one is not understood, or names a socket that is not there.
    """
    endpoints = Endpoints()
    for words in written:
        endpoint = _parse(reactor, words)
        if not _is_for_datagrams(words, endpoint):
            endpoints.streams.append((words, endpoint))
        elif endpoints.datagrams is None:
            # Other programs that are started from here do not get it.
            sock = socket.socket(fileno=endpoint.fileno)
            sock.set_inheritable(False)
            endpoints.datagrams = sock
        else:
            raise OperatorError(f"--listen {words}: there is a UDP socket already")
    return endpoints


def _parse(reactor: Any, words: str) -> Any:
    try:
        return serverFromString(reactor, words)
    except (IndexError, KeyError):
        raise OperatorError(
            f"--listen {words}: systemd has passed no such socket"
        ) from None
    except Exception as error:  # noqa: BLE001 - parsers are plugins, and fail in ways of their own
        raise OperatorError(f"--listen {words}: {error}") from None


def _is_for_datagrams(words: str, endpoint: Any) -> bool:
    """Tell whether it is a UDP socket that systemd has passed on."""
    if not isinstance(endpoint, AdoptedStreamServerEndpoint):
        return False
    try:
        with socket.socket(fileno=os.dup(endpoint.fileno)) as sock:
            kind, family = sock.type, sock.family
    except OSError as error:
        raise OperatorError(f"--listen {words}: {error.strerror}") from None
    is_internet = family in (socket.AF_INET, socket.AF_INET6)
    if kind == socket.SOCK_STREAM and (is_internet or family == socket.AF_UNIX):
        return False
    if kind == socket.SOCK_DGRAM and is_internet:
        return True
    raise OperatorError(f"--listen {words}: it is no TCP, UDP or UNIX socket")
