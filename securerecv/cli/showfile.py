"""Printing files of a box: for people, and for scripts."""

import json
from datetime import UTC, datetime

import click

from securerecv.cli.terminal import visible_line
from securerecv.wire.filelines import FileRecord
from securerecv.wire.lines import rfc3339

_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_STEP = 1000


def show_file(record: FileRecord) -> None:
    """Print a file for a person: a heading as for a message, and what it is."""
    seconds = record.when_ms // 1000
    when = datetime.fromtimestamp(seconds, UTC).astimezone()
    heading = f"{record.sender}  {when:%Y-%m-%d %H:%M:%S}  {record.id}"
    click.secho(visible_line(heading), bold=True)
    state = record.state.value
    # The name is last, so that nothing in it can be taken for anything else.
    line = f"    file, {state}, {size_in_words(record.size)}: {record.name}"
    click.echo(visible_line(line))
    if record.why:
        click.echo(visible_line(f"    {state} because of: {record.why}"))


def show_file_json(record: FileRecord) -> None:
    """
    Print a file as one line of JSON.

    It has ``id``, ``state``, ``bytes``, ``sha256``, ``from``, ``when`` (RFC
    3339, UTC), ``name`` and, where there is a reason, ``why``.
    """
    values: dict[str, str | int] = {
        "id": record.id,
        "state": record.state.value,
        "bytes": record.size,
        "sha256": record.sha256,
        "from": record.sender,
        "when": rfc3339(record.when_ms),
        "name": record.name,
    }
    if record.why:
        values["why"] = record.why
    # json writes all but ASCII as \u…: nothing in it can steer a terminal.
    click.echo(json.dumps(values))


def size_in_words(size: int) -> str:
    """Write a number of bytes as a person would."""
    value = float(size)
    unit = 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value /= _STEP
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} bytes"
