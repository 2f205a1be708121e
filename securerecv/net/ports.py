"""Taking the ports that the operator asked for."""

import errno
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import CannotListenError

from securerecv.errors import OperatorError
from securerecv.settings import Settings

EVERYWHERE = ("::", "0.0.0.0")  # noqa: S104 - what the operator asked for
"""The addresses that mean all; the first takes IPv4 as well, on Linux."""

_ATTEMPTS = 32
"""To find a number that is free for every transport."""

Listen = Callable[[int, str], Any]
"""Takes a port, by its number and the address to bind; raises CannotListenError."""


def take_ports(settings: Settings, listen: Mapping[str, Listen]) -> dict[str, Any]:
    """
    Take one number for every transport.

    Args:
        settings: which number, and where.
        listen: by transport, in the order to take them.

    Returns:
        What `listen` gave, by transport.

    Raises:
        OperatorError: it cannot be had.
    """
    for attempt in range(_ATTEMPTS):
        taken: dict[str, Any] = {}
        try:
            for transport, take in listen.items():
                number = settings.port
                for port in taken.values():
                    number = port.getHost().port
                taken[transport] = _take_first(settings, number, take)
        except CannotListenError as error:
            for port in taken.values():
                port.stopListening()
            # The system has chosen a number that another transport cannot have.
            is_unlucky = not settings.port and taken and _is_taken(error)
            if not is_unlucky or attempt == _ATTEMPTS - 1:
                raise _not_listening(settings, error) from None
        else:
            return taken
    raise AssertionError


def _take_first(settings: Settings, number: int, take: Listen) -> Any:
    addresses = (settings.interface,) if settings.interface else EVERYWHERE
    for address in addresses:
        try:
            return take(number, address)
        except CannotListenError as error:
            # Without IPv6 the address is not there; a port that is taken is
            # taken for good.
            if _is_taken(error) or address == addresses[-1]:
                raise
    raise AssertionError


def _is_taken(error: CannotListenError) -> bool:
    return getattr(error.socketError, "errno", None) == errno.EADDRINUSE


def _not_listening(settings: Settings, error: CannotListenError) -> OperatorError:
    """Say which of the settings is to blame for a port that is not to be had."""
    cause = error.socketError
    words = getattr(cause, "strerror", None) or str(cause)
    is_address = getattr(cause, "errno", None) == errno.EADDRNOTAVAIL
    if settings.interface and (is_address or isinstance(cause, socket.gaierror)):
        return OperatorError(f"--interface {settings.interface}: {words}")
    return OperatorError(f"port {settings.port} cannot be had: {words}")
