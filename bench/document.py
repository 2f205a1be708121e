"""Writes tables into a document."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.sheets import Sheet

BEGIN = "<!-- figures: written by make bench -->"
END = "<!-- end of figures -->"


def parts(path: Path) -> tuple[str, str]:
    """
    Return what stands before and behind the tables of a document, if it exists.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no place for tables.
    """
    if not path.exists():
        return "", "\n"
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} lacks {BEGIN} or {END}")
    return before, after


def write_into(
    path: Path, machine: Mapping[str, object], sheets: Sequence[Sheet]
) -> None:
    """
    Write tables between the two marks of a document; a new one has only them.

    Args:
        path: of the document, Markdown.
        machine: what the figures depend on.
        sheets: the tables.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it has no place for tables.
    """
    before, after = parts(path)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    about = ", ".join(
        f"{key.replace('_', ' ')} {what}" for key, what in machine.items()
    )
    tables = "\n".join(sheet.markdown() for sheet in sheets)
    path.write_text(
        f"{before}{BEGIN}\n\nMeasured on {day}: {about}.\n\n{tables}\n{END}{after}",
        encoding="utf-8",
    )
