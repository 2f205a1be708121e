"""The commands of the console's prompt: one table."""

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from securerecv.cli.terminal import visible_line


@frozen
class ConsoleCommand:
    """
    One command.

    Attributes:
        name: what is typed.
        arguments: how each is shown in the usage line.
        help: one line.
    """

    name: str
    arguments: tuple[str, ...]
    help: str

    @property
    def usage(self) -> str:
        """The line that shows how it is written."""
        return " ".join([self.name, *self.arguments])


COMMANDS: Final = {
    command.name: command
    for command in (
        ConsoleCommand("last", (), "show the last messages in your box"),
        ConsoleCommand("files", (), "list your files"),
        ConsoleCommand("get", ("ID",), "save a file that was found clean here"),
        ConsoleCommand("drop", ("ID",), "delete a message or a file"),
        ConsoleCommand("who", (), "show who you are and how others send to you"),
        ConsoleCommand("help", (), "show this list"),
        ConsoleCommand("quit", (), "stop receiving and leave"),
    )
}


class NotACommandError(Exception):
    """What was typed is no command; the words say what is."""


def parse(line: str) -> tuple[str, tuple[str, ...]]:
    """
    Understand what was typed.

    Args:
        line: not blank.

    Returns:
        The name of a command, and as many words as it has arguments.

    Raises:
        NotACommandError: with the usage of the command, or of all of them.
    """
    name, *words = line.split()
    command = COMMANDS.get(name.lower())
    if command is None:
        raise NotACommandError(
            f'"{visible_line(name)}" is no command. There are:\n{help_text()}'
        )
    if len(words) != len(command.arguments):
        raise NotACommandError(f"usage: {command.usage}  ({command.help})")
    return command.name, tuple(words)


def help_text() -> str:
    """Give a line for each command."""
    width = max(len(command.usage) for command in COMMANDS.values())
    return "\n".join(
        f"  {command.usage:<{width}}  {command.help}" for command in COMMANDS.values()
    )


def completions(before: str, ids: Iterable[str]) -> list[str]:
    """
    Give what the word that is being typed may become.

    Args:
        before: the line up to the cursor.
        ids: of what was shown.
    """
    words = before.split()
    begun = "" if not words or before.endswith(" ") else words.pop()
    if not words:
        choices: Iterable[str] = COMMANDS
    else:
        command = COMMANDS.get(words[0].lower())
        takes_id = command is not None and len(words) <= len(command.arguments)
        choices = ids if takes_id else ()
    return [choice for choice in choices if choice.startswith(begun.lower())]
