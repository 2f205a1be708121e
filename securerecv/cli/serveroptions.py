"""The server's options, for the commands that serve."""

from collections.abc import Callable
from typing import Any

import click

from securerecv.settings import OPTIONS


def with_server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of the server, as they were written."""
    command = click.option(
        "--config", metavar="FILE", help="a TOML file with these options"
    )(command)
    for option in reversed(OPTIONS):
        names = f"--{option.name}", option.name.replace("-", "_")
        if option.is_switch:
            add = click.option(*names, is_flag=True, help=option.help)
        else:
            add = click.option(
                *names,
                metavar=option.metavar,
                help=option.help,
                multiple=option.is_list,
                callback=_joined if option.is_list else None,
            )
        command = add(command)
    return command


def _joined(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> str | None:
    return " ".join(values) or None
