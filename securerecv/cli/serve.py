"""``securerecv serve``: the server, with the options that twistd takes too."""

import sys
from collections.abc import Callable
from typing import Any

import click

from securerecv.settings import OPTIONS


def _with_server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(OPTIONS):
        names = f"--{option.name}", option.name.replace("-", "_")
        if option.is_switch:
            add = click.option(*names, is_flag=True, help=option.help)
        else:
            add = click.option(*names, metavar=option.metavar, help=option.help)
        command = add(command)
    return command


@click.command()
@_with_server_options
@click.option("--config", metavar="FILE", help="a TOML file with these options")
def serve(**options: str | bool | None) -> None:
    """Start the server in the foreground."""
    from twisted.scripts import twistd

    words = []
    for name, value in options.items():
        written = "--" + name.replace("_", "-")
        if value is True:
            words.append(written)
        elif value not in (None, False):
            words += [written, str(value)]
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "securerecv", *words]
    twistd.run()
