"""Tables of figures, for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich import box
from rich.table import Table


@dataclass(frozen=True)
class Spread:
    """
    The values of one figure in some runs.

    Attributes:
        values: one for each run.
        form: how to write one, for `format`.
    """

    values: Sequence[float]
    form: str

    def written(self) -> list[str]:
        """Return the median; if there are several, also the lowest and highest."""
        few = [median(self.values)]
        if len(self.values) > 1:
            few += [min(self.values), max(self.values)]
        return [format(value, self.form) for value in few]

    def stacked(self) -> str:
        """Write them below each other."""
        return "\n".join(self.written())

    def inline(self) -> str:
        """Write them in one line."""
        middle, *ends = self.written()
        return f"{middle} ({'–'.join(ends)})" if ends else middle


Cell = str | Spread


@dataclass
class Sheet:
    """
    One table.

    Attributes:
        title: what was measured.
        columns: their headings; the first ``words`` of them hold words.
        notes: sentences that belong below it.
        words: how many columns are not figures.
        rows: one cell for each column.
    """

    title: str
    columns: Sequence[str]
    notes: Sequence[str]
    words: int = 1
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def terminal(self) -> Table:
        """Return it for a terminal."""
        table = Table(
            title=self.title,
            caption=" ".join(self.notes),
            box=box.SIMPLE_HEAD,
            collapse_padding=True,
            pad_edge=False,
        )
        for number, heading in enumerate(self.columns):
            if number < self.words:
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            cells = [c.stacked() if isinstance(c, Spread) else c for c in row]
            table.add_row(*cells)
        return table

    def markdown(self) -> str:
        """Return it as Markdown, with a heading."""
        rules = [":--" if n < self.words else "--:" for n in range(len(self.columns))]
        lines = [_line(self.columns), _line(rules)]
        lines += [
            _line(c.inline() if isinstance(c, Spread) else c for c in row)
            for row in self.rows
        ]
        return "\n".join(
            [f"### {self.title}", "", *lines, "", " ".join(self.notes), ""]
        )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", " ") for cell in cells) + " |"
