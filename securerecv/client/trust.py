"""Pins: the keys of servers, as they are written and compared."""

import re
from collections.abc import Callable, Iterable

from securerecv.client.errors import UntrustedServerError

Trust = Callable[[str], None]
"""Takes the pin that a server showed; raises `UntrustedServerError` to refuse."""

# The base64 of 32 bytes.
_PIN = re.compile(r"sha256//[A-Za-z0-9+/]{43}=")


def is_pin(text: str) -> bool:
    """Tell whether this is a pin, ``sha256//`` and the base64 of 32 bytes."""
    return _PIN.fullmatch(text) is not None


def parse_pins(written: str) -> tuple[str, ...]:
    """
    Read one pin, or several with ``;`` between them, as curl takes them.

    Raises:
        ValueError: one of them is no pin.
    """
    pins = tuple(pin.strip() for pin in written.split(";"))
    for pin in pins:
        if not is_pin(pin):
            raise ValueError(f"{pin!r} is not sha256// and 44 characters of base64")
    return pins


def only(pins: Iterable[str]) -> Trust:
    """Trust a server that shows one of these pins, and no other."""
    trusted = frozenset(pins)

    def trust(pin: str) -> None:
        if pin not in trusted:
            raise UntrustedServerError(
                f"the server's key is {pin} and not the one that was asked for;"
                " nothing was sent"
            )

    return trust
