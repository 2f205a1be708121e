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
    return with_options(*_WHERE)(command)


def with_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command some of the server's options, and ``--config``."""
    options = [
        click.option(f"--{option.name}", metavar=option.metavar, help=option.help)
        for option in OPTIONS
        if option.name in names
    ]
    options += [
        click.option("--config", metavar="FILE", help="the server's TOML file"),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for add in reversed(options):
            command = add(command)
        return command

    return decorate


def settings_of(config: str | None = None, **written: str | None) -> Settings:
    """
    Make the settings that the options, the environment and the file say.

    Raises:
        WrongSettingsError: something written is wrong.
    """
    given = {
        name.replace("_", "-"): value
        for name, value in written.items()
        if value is not None
    }
    try:
        return load(given, Path(config) if config else None)
    except OperatorError as error:
        raise WrongSettingsError(str(error)) from None
