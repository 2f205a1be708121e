"""``securerecv send``, ``last`` and ``watch``: talking to a server."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from securerecv.cli.loop import run
from securerecv.cli.reach import Way, enter, leave, way, with_way, word
from securerecv.cli.sealed import Sealing, send_sealed, with_sealing
from securerecv.cli.show import refuse_large, show, show_json, show_raw
from securerecv.cli.showfile import show_file, show_file_json
from securerecv.cli.terminal import visible_line
from securerecv.settings import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from securerecv.wire.lines import Message

Item = TypeVar("Item")


@click.command()
@with_way("else the session is anonymous")
@click.option(
    "--to",
    metavar="NAME",
    required=True,
    callback=word,
    help="Whom to send to: a user or an anon- address.",
)
@with_sealing
@click.argument("text", metavar="[TEXT…]", nargs=-1)
def send(
    to: str,
    text: tuple[str, ...],
    sealing: Sealing | None,
    **options: Any,
) -> None:
    """
    Send a message to a user or an anon- address of SERVER.

    SERVER is HOST or HOST:PORT.  Without TEXT, or when it is -, the message is
    read from standard input, where it follows the password if that is there
    too.
    """
    road = way(**options)
    if sealing is not None and road.user is not None:
        raise click.UsageError(
            "--sealed has no login and so no --user: use --token to be known"
        )
    body = _body(text)
    if sealing is not None:
        send_sealed(road, sealing, to, body)
        return

    async def work(reactor: Any) -> str:
        client, _ = await enter(reactor, road)
        message_id = await client.send(to, body)
        await leave(client)
        return message_id

    click.echo(f"sent {visible_line(run(work))}")


def _body(text: tuple[str, ...]) -> bytes:
    if text and text != ("-",):
        # The very bytes that were on the command line.
        return os.fsencode(" ".join(text))
    if sys.stdin.isatty():
        click.echo("Type the message; Ctrl-D on a line of its own ends it.", err=True)
    body = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    if not body:
        raise click.UsageError("there is nothing to send")
    return body


@click.command()
@with_way("only users have a box")
@click.option(
    "-n", "count", metavar="N", type=click.IntRange(min=1), help="Show at most N."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--raw", is_flag=True, help="Write the bodies as they are, and nothing else."
)
def last(*, count: int | None, as_json: bool, raw: bool, **options: Any) -> None:
    """
    Show the last messages in your box on SERVER, newest last.

    SERVER is HOST or HOST:PORT.
    """
    if options["user"] is None:
        raise click.UsageError(
            "give --user NAME: an anonymous session has no box, only users have"
        )
    if raw and as_json:
        raise click.UsageError("--json and --raw do not go together")
    if raw and sys.stdout.isatty():
        raise click.UsageError(
            "--raw is not for a terminal, which would obey what is in a message:"
            " send it into a file or a pipe"
        )
    road = way(**options)

    async def work(reactor: Any) -> "list[Message]":
        client, _ = await enter(reactor, road)
        messages = await client.last(count)
        await leave(client)
        return messages

    messages = run(work)
    if raw:
        refuse_large(messages)
    printer = show_raw if raw else show_json if as_json else show
    for message in messages:
        printer(message)
    if not messages and printer is show:
        click.echo("no messages", err=True)


@click.command()
@with_way("else the session is anonymous")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def watch(*, as_json: bool, **options: Any) -> None:
    """
    Show messages and files on SERVER as they come in, until Ctrl-C.

    SERVER is HOST or HOST:PORT.  Without --user the session is anonymous: its
    address, and how to send to it, are shown first.
    """
    run(_watcher(way(**options), as_json=as_json))


def _watcher(road: Way, *, as_json: bool) -> Callable[[Any], Any]:
    async def work(reactor: Any) -> None:
        from securerecv.client.keepalive import keep_alive

        client, address = await enter(reactor, road)
        on_message = show_json if as_json else show
        on_file = show_file_json if as_json else show_file
        await client.watch(_now(on_message), _now(on_file))
        if address is not None:
            _show_address(road, address, client.pin, as_json=as_json)
        elif sys.stderr.isatty():
            click.echo("Watching; Ctrl-C ends it.", err=True)

        keep_alive(client, reactor)
        await client.closed()

    return work


def _now(printer: Callable[[Item], None]) -> Callable[[Item], None]:
    """Print at once, not when much has gathered."""

    def print_now(item: Item) -> None:
        printer(item)
        sys.stdout.flush()

    return print_now


def _show_address(road: Way, address: str, pin: str, *, as_json: bool) -> None:
    words = ["securerecv", "send", str(road.server), "--pin", pin, "--to", address]
    if road.udp:
        words.append("--udp")
    command = f"{shlex.join(words)} 'your message'"
    if as_json:
        click.echo(json.dumps({"address": address, "command": command}))
    else:
        click.echo(f"Your address is {visible_line(address)} for as long as this runs.")
        click.echo("Whoever knows it can send to it:")
        click.echo(f"    {visible_line(command)}")
    sys.stdout.flush()
