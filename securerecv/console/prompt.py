"""The prompt below what comes in."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle
from twisted.internet.defer import Deferred

from securerecv.console.asker import CommandCompleter, do_without_cursor_reports


class TerminalPrompt:
    """
    Reads commands at the process's own terminal.

    See `securerecv.console.receiving.Prompt`.

    Args:
        loop: that of Twisted's asyncio reactor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._completer = CommandCompleter()
        # What is typed here may hold ids; it is forgotten with the process.
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            completer=self._completer,
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            # A task that raises KeyboardInterrupt would end the whole loop.
            interrupt_exception=EOFError,
        )
        do_without_cursor_reports(self._session)
        self._error: Exception | None = None

    @contextmanager
    def below_output(self) -> Iterator[None]:
        """Keep the prompt below all that is written to standard output."""
        # Raw: what is shown has been made safe, and has bold type of ours.
        with patch_stdout(raw=True):
            yield

    def read(self) -> "Deferred[str]":
        """See `securerecv.console.receiving.Prompt`."""
        return Deferred.fromFuture(self._loop.create_task(self._read()))

    async def _read(self) -> str:
        if self._error is not None:
            raise self._error
        return await self._session.prompt_async("> ", handle_sigint=False)

    def end(self, error: Exception) -> None:
        """See `securerecv.console.receiving.Prompt`."""
        self._error = error
        if self._session.app.is_running:
            self._session.app.exit(exception=error)

    def shown(self, thing_id: str) -> None:
        """See `securerecv.console.receiving.Prompt`."""
        self._completer.ids[thing_id] = None

    def show_below(self, text: str | None) -> None:
        """See `securerecv.console.receiving.Prompt`."""
        if self._session.bottom_toolbar != text:
            self._session.bottom_toolbar = text
            self._session.app.invalidate()
