"""The options of commands that work on a data folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from securerecv.settings import Settings, load


def with_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where the data is."""
    options = (
        click.option("--data", metavar="DIR", help="the data folder (./var)"),
        click.option("--store", metavar="URL", help="the store, as the server's"),
        click.option("--config", metavar="FILE", help="the server's TOML file"),
    )
    for option in options:
        command = option(command)
    return command


def settings_of(
    data: str | None = None, store: str | None = None, config: str | None = None
) -> Settings:
    """
    Make the settings that the options, the environment and the file say.

    Raises:
        OperatorError: something written is wrong.
    """
    written = {"data": data, "store": store}
    given = {name: value for name, value in written.items() if value is not None}
    return load(given, Path(config) if config else None)
