"""How far a file is, shown at a terminal; elsewhere nothing is shown."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import click

from securerecv.cli.terminal import visible_line

if TYPE_CHECKING:
    from securerecv.client.content import Stage

_SHOW_EVERY_S = 0.1


class Display:
    """
    A bar for each stage, with the pace and the time that is left.

    Args:
        what: is on its way, fit for a terminal.
        seconds: tells the time.

    Attributes:
        moved: how often something was done; tells whether anything was.
    """

    def __init__(
        self, what: str, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.moved = 0
        self._seconds = seconds
        self._what = what
        self._bars: Any = None
        self._tasks: dict[Stage, Any] = {}
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = _bars(self._seconds)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def progress(self, stage: "Stage", done: int, total: int) -> None:
        """See `securerecv.client.content.Progress`."""
        self.moved += 1
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(
                f"{stage.value} {self._what}", completed=done, total=total
            )
        now = self._seconds()
        is_due = now - self._shown_at >= _SHOW_EVERY_S
        if is_due or done == total:
            self._shown_at = now
            self._bars.update(self._tasks[stage], completed=done)
            self._bars.refresh()

    def note(self, words: str) -> None:
        """Say something besides."""
        line = visible_line(words)
        if self._bars is None:
            click.echo(line, err=True)
        else:
            self._bars.console.print(line, markup=False, highlight=False)


def _bars(seconds: Callable[[], float]) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # The reactor's thread draws: no other may while a question is asked.
        auto_refresh=False,
        get_time=seconds,
        transient=True,
    )
