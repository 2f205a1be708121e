"""The options of commands that work on a data folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from securerecv.errors import OperatorError
from securerecv.settings import OPTIONS, Settings, load

_WHERE = ("data", "store")


class WrongSettingsError(click.ClickException):
    """What is written in an option, a variable or the file will not do."""

    exit_code = 2


def with_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where the data is."""
    options = [
        click.option(f"--{option.name}", metavar=option.metavar, help=option.help)
        for option in OPTIONS
        if option.name in _WHERE
    ]
    options += [
        click.option("--config", metavar="FILE", help="the server's TOML file"),
    ]
    for add in reversed(options):
        command = add(command)
    return command


def settings_of(
    data: str | None = None, store: str | None = None, config: str | None = None
) -> Settings:
    """
    Make the settings that the options, the environment and the file say.

    Raises:
        WrongSettingsError: something written is wrong.
    """
    written = {"data": data, "store": store}
    given = {name: value for name, value in written.items() if value is not None}
    try:
        return load(given, Path(config) if config else None)
    except OperatorError as error:
        raise WrongSettingsError(str(error)) from None
