"""Which server, as whom: the options that all client commands share."""

import contextlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import define, field

from securerecv.cli.prompts import (
    ask_secret,
    ask_yes_or_no,
    can_ask,
    read_secret_line,
)
from securerecv.cli.terminal import visible_line
from securerecv.errors import SecurerecvError
from securerecv.settings import PASSWORD_VARIABLE

if TYPE_CHECKING:
    from securerecv.client.address import ServerAddress
    from securerecv.client.client import Client

_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f]")


@define
class Way:
    """
    How to get to a server.

    Attributes:
        server: where it is.
        pins: the keys it may have; none when known servers decide.
        user: who logs in, or None for an anonymous session.
        password: None until it was asked for, when it must be.
        udp: whether to get there over UDP and DTLS.
    """

    server: "ServerAddress"
    pins: tuple[str, ...]
    user: str | None
    password: str | None = field(repr=False)
    udp: bool


def word(_context: object, _parameter: object, value: str | None) -> str | None:
    """Check what is a name or an id."""
    if value is not None and (not value or _NOT_IN_NAMES.search(value)):
        raise click.BadParameter("this is one word and has no blanks in it")
    return value


def _server(_context: object, _parameter: object, value: str) -> "ServerAddress":
    from securerecv.client.address import ServerAddress

    try:
        return ServerAddress.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _pins(_context: object, _parameter: object, value: str | None) -> tuple[str, ...]:
    from securerecv.client.trust import parse_pins

    try:
        return () if value is None else parse_pins(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def with_way(
    without_user: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Give a command the argument SERVER and the options that go with it.

    Args:
        without_user: what the help says of leaving ``--user`` out.
    """
    options = (
        click.option(
            "--udp", is_flag=True, help="Speak over UDP (DTLS) instead of TCP (TLS)."
        ),
        click.option(
            "--pin",
            metavar="PIN",
            callback=_pins,
            help="Take only a server with this key, sha256// and base64, as the"
            " server prints it and curl writes it; several with ; between them.",
        ),
        click.option(
            "--password-stdin",
            is_flag=True,
            help="Read the password from the first line of standard input.",
        ),
        click.option(
            "--user",
            metavar="NAME",
            callback=word,
            help=f"Log in; {without_user}. The password is asked for, or taken"
            f" from {PASSWORD_VARIABLE}.",
        ),
        click.argument("server", metavar="SERVER", callback=_server),
    )

    def add_all(command: Callable[..., Any]) -> Callable[..., Any]:
        for add in options:
            command = add(command)
        return command

    return add_all


def way(
    server: "ServerAddress",
    pin: tuple[str, ...],
    user: str | None,
    *,
    password_stdin: bool,
    udp: bool,
) -> Way:
    """
    Make a `Way` of the options of `with_way`.

    With ``--password-stdin`` this reads one line of standard input.

    Raises:
        click.UsageError: they do not go together.
    """
    password = None
    if password_stdin:
        if user is None:
            raise click.UsageError("--password-stdin goes with --user")
        password = read_secret_line("password")
    elif user is not None:
        password = os.environ.get(PASSWORD_VARIABLE) or None
    return Way(server, pin, user, password, udp)


async def enter(reactor: Any, way: Way) -> tuple["Client", str | None]:
    """
    Get to the server, and log in or go on without a name.

    A server that is not known yet is asked about at a terminal.

    Returns:
        The client, and the address of the session if it is anonymous.

    Raises:
        SecurerecvError: it cannot be done.
        click.UsageError: there is no terminal to ask for the password, or it
            is no text.
        click.ClickException: the person would not answer.
    """
    client = await reach(reactor, way)
    if way.user is None:
        return client, await client.anonymous()
    password = way.password
    if password is None:
        # The server waits while the person types, and nothing else goes on.
        who = visible_line(f"{way.user} on {way.server}")
        instead = f"--password-stdin or {PASSWORD_VARIABLE}"
        password = ask_secret("password", f" of {who}", instead=instead)
        way.password = password
    await client.login(way.user, password)
    return client, None


async def leave(client: "Client") -> None:
    """Say goodbye; what was asked for is done, however that goes."""
    with contextlib.suppress(SecurerecvError):
        await client.quit()


async def reach(reactor: Any, way: Way) -> "Client":
    """
    Get to the server, and say nothing yet; as `enter`.

    Returns:
        A client that is neither logged in nor anonymous.

    Raises:
        SecurerecvError: it cannot be done.
    """
    if way.udp:
        from securerecv.client.connectudp import connect_udp as connect
    else:
        from securerecv.client.connect import connect
    from securerecv.client.errors import UnknownServerError, UntrustedServerError
    from securerecv.client.knownservers import KnownServers, default_path
    from securerecv.client.trust import only

    if way.pins:
        return await connect(reactor, way.server, only(way.pins))
    known = KnownServers(default_path())

    def trust(pin: str) -> None:
        known.check(way.server, pin)

    try:
        return await connect(reactor, way.server, trust)
    except UnknownServerError as error:
        if not can_ask():
            raise UntrustedServerError(
                f"{error}, and there is no terminal to ask at; compare it with what"
                f" the server printed when it started and give --pin {error.pin}"
            ) from None
        click.echo(
            f"The server {way.server} is not known yet. Its key is\n\n"
            f"    {error.pin}\n\n"
            "Compare it with what the server printed when it started.",
            err=True,
        )
        if not ask_yes_or_no("Is it the same, and shall it be remembered?"):
            raise UntrustedServerError(
                f"the key of {way.server} was not accepted; nothing was sent"
            ) from None
        known.remember(way.server, error.pin)
        click.echo(f"Remembered in {known.path}.", err=True)
    return await connect(reactor, way.server, trust)
