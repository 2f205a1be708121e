"""``securerecv account``: the accounts of a data folder."""

import sys

import click

from securerecv.cli.place import settings_of, with_place
from securerecv.intake.accountbook import AccountBook, open_account_book

_from_stdin = click.option(
    "--password-stdin",
    is_flag=True,
    help="read passwords and codes from standard input, one a line",
)


def _open(place: dict[str, str | None]) -> AccountBook:
    return open_account_book(settings_of(**place))


class _Secrets:
    """Asks for secrets, at the terminal or on standard input."""

    def __init__(self, *, from_stdin: bool) -> None:
        self._from_stdin = from_stdin

    def ask(self, what: str, *, twice: bool = False) -> str:
        """Get one; a new one is asked for twice at a terminal."""
        if not self._from_stdin:
            answer: str = click.prompt(
                what, hide_input=True, confirmation_prompt=twice, err=True
            )
            return answer
        line = sys.stdin.readline()
        if not line:
            raise click.UsageError(f"standard input ends before the {what.lower()}")
        return line.rstrip("\r\n")


def _show_code(code: str) -> None:
    click.echo(f"Recovery code: {code}")
    click.echo(
        "Write it down: it is shown only now, and without it a forgotten"
        " password cannot be replaced.",
        err=True,
    )


@click.group()
def account() -> None:
    """Add, change and remove accounts."""


@account.command()
@click.argument("name")
@with_place
@_from_stdin
def add(name: str, *, password_stdin: bool, **place: str | None) -> None:
    """Make an account and print its recovery code."""
    book = _open(place)
    password = _Secrets(from_stdin=password_stdin).ask("New password", twice=True)
    _show_code(book.add(name, password))


@account.command()
@click.argument("name")
@with_place
@_from_stdin
def passwd(name: str, *, password_stdin: bool, **place: str | None) -> None:
    """
    Change a password.

    With --password-stdin the first line is the present password, the second
    the new one.
    """
    book = _open(place)
    secrets = _Secrets(from_stdin=password_stdin)
    old = secrets.ask("Present password")
    book.change_password(name, old, secrets.ask("New password", twice=True))


@account.command()
@click.argument("name")
@with_place
@_from_stdin
def recover(name: str, *, password_stdin: bool, **place: str | None) -> None:
    """
    Set a new password with the recovery code.

    A new code is printed and the old one is void.  With --password-stdin the
    first line is the code, the second the new password.
    """
    book = _open(place)
    secrets = _Secrets(from_stdin=password_stdin)
    code = secrets.ask("Recovery code")
    _show_code(book.recover(name, code, secrets.ask("New password", twice=True)))


@account.command()
@click.argument("name")
@with_place
@click.option("--yes", is_flag=True, help="do not ask")
def remove(name: str, *, yes: bool, **place: str | None) -> None:
    """Delete an account and everything in its box."""
    book = _open(place)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name} and all messages in the box?", abort=True)
    book.remove(name)
