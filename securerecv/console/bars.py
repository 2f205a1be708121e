"""Bars for files that are on their way, one line each."""

from collections.abc import Callable

from attrs import define

from securerecv.cli.showfile import size_in_words
from securerecv.cli.terminal import visible_line

MAX_BARS = 4
"""Lines that bars may take from what else is on the screen."""

_WIDTH = 24


@define
class _Bar:
    label: str
    began_s: float
    began_at: int
    done: int
    total: int


class Bars:
    """
    How far files are.

    Args:
        seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._bars: dict[str, _Bar] = {}

    def move(self, key: str, label: str, done: int, total: int) -> None:
        """
        Take note of how far a file is.

        Args:
            key: the same for one file and direction.
            label: what is shown of it; may hold anything.
            done: bytes.
            total: bytes.
        """
        bar = self._bars.get(key)
        if bar is None:
            now_s = self._seconds()
            bar = _Bar(visible_line(label), now_s, done, done, total)
            self._bars[key] = bar
        bar.done = done

    def end(self, key: str) -> None:
        """Forget a file; it may be unknown."""
        self._bars.pop(key, None)

    def text(self) -> str | None:
        """Give the lines, or None if nothing is on its way."""
        bars = list(self._bars.values())
        lines = [self._line(bar) for bar in bars[:MAX_BARS]]
        if len(bars) > MAX_BARS:
            lines.append(f"and {len(bars) - MAX_BARS} more")
        return "\n".join(lines) or None

    def _line(self, bar: _Bar) -> str:
        share = bar.done / bar.total if bar.total else 1.0
        full = round(share * _WIDTH)
        drawn = "#" * full + "." * (_WIDTH - full)
        line = f"[{drawn}] {share:4.0%} of {size_in_words(bar.total)}"
        took_s = self._seconds() - bar.began_s
        came = bar.done - bar.began_at
        if came and took_s > 0:
            pace = came / took_s
            left_s = (bar.total - bar.done) / pace
            line += f", {size_in_words(round(pace))}/s, {left_s:.0f} s left"
        return f"{line}  {bar.label}"
