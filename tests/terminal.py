"""A terminal with a person at it: types, and reads the screen."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte

from tests.program import PATIENCE_S, environment

COLUMNS = 160
LINES = 50
_LOOK_EVERY_S = 0.1


class _Screen(pyte.HistoryScreen):
    """
    What a terminal shows.

    Args:
        send: types for the terminal, when a program asks where the cursor is;
            None for one that does not answer.
    """

    def __init__(self, send: Callable[[str], object] | None) -> None:
        super().__init__(COLUMNS, LINES, history=1000)
        self._send = send

    def write_process_input(self, data: str) -> None:
        """Answer a program."""
        if self._send is not None:
            self._send(data)


class Terminal:
    """
    A program on a terminal.

    Args:
        command: the program and its words.
        folder: where it is started; by default where the tests are.
        answers: whether it tells programs where the cursor is, as real ones do.
    """

    def __init__(
        self, *command: str, folder: Path | None = None, answers: bool = True
    ) -> None:
        self.process: Any = pexpect.spawn(
            command[0],
            list(command[1:]),
            cwd=None if folder is None else str(folder),
            encoding="utf-8",
            env=environment() | {"TERM": "xterm-256color"},
            dimensions=(LINES, COLUMNS),
            timeout=PATIENCE_S,
        )
        self._screen: Any = _Screen(self.process.send if answers else None)
        self._stream: Any = pyte.Stream(self._screen)

    def type(self, text: str, end: str = "\r") -> None:
        """Type something, and Enter."""
        self.process.send(text + end)

    def rows(self) -> list[str]:
        """Give what is on the screen, and what has scrolled off it."""
        history = [
            "".join(row[column].data for column in range(COLUMNS)).rstrip()
            for row in self._screen.history.top
        ]
        return [*history, *(row.rstrip() for row in self._screen.display)]

    def text(self) -> str:
        """Give all rows together."""
        return "\n".join(self.rows()).rstrip()

    def last_row(self) -> str:
        """Give the row that the cursor is in."""
        return str(self._screen.display[self._screen.cursor.y]).rstrip()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows something."""
        found: re.Match[str] = self._wait(
            lambda: re.search(pattern, self.text()), pattern
        )
        return found

    def wait_for_prompt(self, question: str) -> None:
        """Wait until something is asked, and nothing is typed yet."""
        self._wait(lambda: self.last_row() == question or None, question)

    def wait_for_end(self) -> int:
        """Wait until the program has ended, and give its exit code."""
        self._wait(lambda: self.process.eof() or None, "the end")
        self.process.close()
        return int(self.process.exitstatus)

    def close(self) -> None:
        """End the program, if it has not ended."""
        self.process.close(force=True)

    def _wait(self, look: Any, wanted: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self._read()
            found = look()
            if found is not None:
                return found
        raise AssertionError(f"no {wanted!r} on this screen:\n{self.text()}")

    def _read(self) -> None:
        try:
            self._stream.feed(self.process.read_nonblocking(65536, _LOOK_EVERY_S))
        except (pexpect.TIMEOUT, pexpect.EOF):
            # Whoever waits looks again, or sees that it has ended.
            return
