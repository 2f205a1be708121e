"""Printing messages: for people, for scripts, and as they are."""

import base64
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from securerecv.cli.terminal import visible_body, visible_line
from securerecv.errors import SecurerecvError
from securerecv.wire.lines import Message, rfc3339
from securerecv.wire.replies import LargeMessage

# A body is set in, so that it cannot be taken for the heading of another.
_INDENT = "    "

_TOO_LARGE = "too large for a datagram; fetch it with get, or over TCP"


def show(message: Message) -> None:
    """Print a message for a person: a heading, and the body below it."""
    seconds = message.when_ms // 1000
    when = datetime.fromtimestamp(seconds, UTC).astimezone()
    heading = visible_line(f"{message.sender}  {when:%Y-%m-%d %H:%M:%S}  {message.id}")
    click.secho(heading, bold=True)
    if isinstance(message, LargeMessage):
        click.echo(f"{_INDENT}({message.size} bytes: {_TOO_LARGE})")
        return
    for line in visible_body(message.body).split("\n"):
        click.echo(f"{_INDENT}{line}" if line else "")


def show_json(message: Message) -> None:
    """
    Print a message as one line of JSON.

    It has ``id``, ``from``, ``when`` (RFC 3339, UTC), ``bytes`` and either
    ``text`` or, where the body is no UTF-8, ``base64``; neither where the body
    is too large for a datagram.
    """
    body = message.body
    is_large = isinstance(message, LargeMessage)
    values: dict[str, str | int] = {
        "id": message.id,
        "from": message.sender,
        "when": rfc3339(message.when_ms),
        "bytes": message.size if isinstance(message, LargeMessage) else len(body),
    }
    try:
        if not is_large:
            values["text"] = body.decode()
    except UnicodeDecodeError:
        values["base64"] = base64.b64encode(body).decode()
    # json writes all but ASCII as \u…: nothing in it can steer a terminal.
    click.echo(json.dumps(values))


def refuse_large(messages: Iterable[Message]) -> None:
    """
    See to it that every body is there.

    Raises:
        SecurerecvError: one is not.
    """
    for message in messages:
        if isinstance(message, LargeMessage):
            raise SecurerecvError(
                f"message {message.id} has {message.size} bytes: {_TOO_LARGE}"
            )


def show_raw(message: Message) -> None:
    """Write a message's body as it is."""
    sys.stdout.buffer.write(message.body)
    sys.stdout.buffer.flush()
