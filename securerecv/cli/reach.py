"""Which server, as whom: the options that all client commands share."""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import field, frozen

from securerecv.cli.prompts import ask_password, ask_yes_or_no, can_ask
from securerecv.cli.terminal import visible_line
from securerecv.errors import SecurerecvError

if TYPE_CHECKING:
    from securerecv.client.address import ServerAddress
    from securerecv.client.client import Client

PASSWORD_VARIABLE = "SECURERECV_PASSWORD"  # noqa: S105 - the name of a variable
MAX_PASSWORD_LINE_BYTES = 8192

_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f]")


@frozen
class Way:
    """
    How to get to a server.

    Attributes:
        server: where it is.
        pins: the keys it may have; none when known servers decide.
        user: who logs in, or None for an anonymous session.
        password: None when it must be asked for.
    """

    server: "ServerAddress"
    pins: tuple[str, ...]
    user: str | None
    password: str | None = field(repr=False)


def word(_context: object, _parameter: object, value: str | None) -> str | None:
    """Check an option that is a name."""
    if value is not None and (not value or _NOT_IN_NAMES.search(value)):
        raise click.BadParameter("a name has no blanks in it")
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


def with_way(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument SERVER and the options that go with it."""
    for add in (
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
            help="Log in; else the session is anonymous. The password is asked"
            f" for, or taken from {PASSWORD_VARIABLE}.",
        ),
        click.argument("server", metavar="SERVER", callback=_server),
    ):
        command = add(command)
    return command


def way(
    server: "ServerAddress",
    pin: tuple[str, ...],
    user: str | None,
    *,
    password_stdin: bool,
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
        password = _password_line()
    elif user is not None:
        password = os.environ.get(PASSWORD_VARIABLE) or None
    return Way(server, pin, user, password)


def _password_line() -> str:
    line = sys.stdin.buffer.readline(MAX_PASSWORD_LINE_BYTES)
    if len(line) == MAX_PASSWORD_LINE_BYTES:
        raise click.UsageError("the first line of standard input is no password")
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.UsageError("the password is not UTF-8") from None
    if not password:
        raise click.UsageError("standard input has no password in its first line")
    return password


async def enter(reactor: Any, way: Way) -> tuple["Client", str | None]:
    """
    Get to the server, and log in or go on without a name.

    A server that is not known yet is asked about at a terminal.

    Returns:
        The client, and the address of the session if it is anonymous.

    Raises:
        SecurerecvError: it cannot be done.
        click.UsageError: there is no terminal to ask for the password.
        click.Abort: the person would not answer.
    """
    client = await _reach(reactor, way)
    if way.user is None:
        return client, await client.anonymous()
    password = way.password
    if password is None:
        # The server waits while the person types, and nothing else goes on.
        who = visible_line(f"{way.user} on {way.server}")
        password = ask_password(f"Password of {who}: ")
    await client.login(way.user, password)
    return client, None


async def leave(client: "Client") -> None:
    """Say goodbye; what was asked for is done, however that goes."""
    with contextlib.suppress(SecurerecvError):
        await client.quit()


async def _reach(reactor: Any, way: Way) -> "Client":
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
