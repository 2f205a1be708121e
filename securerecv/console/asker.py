"""Asking a person at a terminal, line by line."""

from collections.abc import Iterable

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory

from securerecv.console.commands import completions


class TerminalAsker:
    """Asks at the process's own terminal; see `securerecv.console.questions.Asker`."""

    def ask(self, question: str) -> str:
        """See `securerecv.console.questions.Asker`."""
        return self._prompt(question, hidden=False).strip()

    def ask_secret(self, question: str) -> str:
        """See `securerecv.console.questions.Asker`."""
        return self._prompt(question, hidden=True)

    def tell(self, words: str) -> None:
        """See `securerecv.console.questions.Asker`."""
        click.echo(words)

    def _prompt(self, question: str, *, hidden: bool) -> str:
        # A session each: what was typed at one question is no history for
        # another, least of all a password.
        session: PromptSession[str] = PromptSession(history=InMemoryHistory())
        do_without_cursor_reports(session)
        return session.prompt(f"{question} ", is_password=hidden)


def do_without_cursor_reports(session: PromptSession[str]) -> None:
    """Say nothing of it if the terminal does not tell where the cursor is."""
    # Only what stands below the prompt is missing then.
    session.app.renderer.cpr_not_supported_callback = None


class CommandCompleter(Completer):
    """
    Completes commands and ids.

    Attributes:
        ids: of what was shown.
    """

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}

    def get_completions(
        self, document: Document, _complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Give what may stand at the cursor."""
        begun = document.get_word_before_cursor(WORD=True)
        for choice in completions(document.text_before_cursor, self.ids):
            yield Completion(choice, start_position=-len(begun))
