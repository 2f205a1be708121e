"""``securerecv account``: the accounts of a data folder."""

import sys
from functools import partial
from typing import Any

import click

from securerecv.cli.place import settings_of, with_place
from securerecv.cli.prompts import ask_secret, ask_yes_or_no, read_secret_line
from securerecv.cli.terminal import visible_line
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.accountbook import AccountBook, open_account_book

_from_stdin = click.option(
    "--password-stdin",
    is_flag=True,
    help="read passwords and codes from standard input, one a line",
)


def _open(place: dict[str, str | None], *, make: bool = False) -> AccountBook:
    return open_account_book(settings_of(**place), make=make)


def _secret(what: str, *, from_stdin: bool, is_new: bool = False) -> str:
    if from_stdin:
        return read_secret_line(what)
    return ask_secret(what, instead="--password-stdin", twice=is_new)


_new_password = partial(_secret, "new password", is_new=True)


def _show_code(code: str) -> None:
    click.echo(f"Recovery code: {code}")
    click.echo(
        "Write it down: it is shown only now, and without it a forgotten"
        " password cannot be replaced.",
        err=True,
    )


class AccountCommand(click.Command):
    """A command to which a name or a password that is none is wrong usage."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except PeerError as error:
            if error.code is ErrorCode.USAGE:
                raise click.UsageError(error.words, ctx) from None
            raise


@click.group()
def account() -> None:
    """Add, change and remove accounts."""


@account.command(cls=AccountCommand)
@click.argument("name")
@with_place
@_from_stdin
def add(name: str, *, password_stdin: bool, **place: str | None) -> None:
    """Make an account and print its recovery code."""
    book = _open(place, make=True)
    book.check_free(name)
    _show_code(book.add(name, _new_password(from_stdin=password_stdin)))


@account.command(cls=AccountCommand)
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
    book.check_there(name)
    old = _secret("present password", from_stdin=password_stdin)
    book.change_password(name, old, _new_password(from_stdin=password_stdin))


@account.command(cls=AccountCommand)
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
    book.check_there(name)
    code = _secret("recovery code", from_stdin=password_stdin)
    # Shown first: a code that nobody could read must not replace one that works.
    book.recover(name, code, _new_password(from_stdin=password_stdin), _show_code)


@account.command(cls=AccountCommand)
@click.argument("name")
@with_place
@click.option("--yes", is_flag=True, help="do not ask")
def remove(name: str, *, yes: bool, **place: str | None) -> None:
    """Delete an account and everything in its box."""
    book = _open(place)
    book.check_there(name)
    if not yes and sys.stdin.isatty():
        question = f"Delete {visible_line(name)} and all messages in the box?"
        if not ask_yes_or_no(question, or_enter=True):
            raise click.ClickException("nothing was removed")
    book.remove(name)
