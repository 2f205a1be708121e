"""Asking the person at the terminal, and reading secrets."""

import getpass
import os
import sys

import click

from securerecv.cli.loop import interruptible

MAX_ANSWER_BYTES = 4096
MAX_SECRET_LINE_BYTES = 8192


def read_secret_line(what: str) -> str:
    """
    Read a secret from the next line of standard input.

    Args:
        what: it is, such as ``password``.

    Raises:
        click.UsageError: there is none.
    """
    line = sys.stdin.buffer.readline(MAX_SECRET_LINE_BYTES)
    if len(line) == MAX_SECRET_LINE_BYTES:
        raise click.UsageError(f"a line of standard input is no {what}: it is too long")
    try:
        secret = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise _not_text(what) from None
    if not secret:
        raise click.UsageError(f"standard input has no {what} in the line for it")
    return secret


def ask_secret(what: str, whose: str = "", *, instead: str, twice: bool = False) -> str:
    """
    Ask for a secret on the terminal, without echo, until there is one.

    Args:
        what: it is, such as ``password``.
        whose: more words for the question.
        instead: what to type where there is no terminal.
        twice: ask again, for what cannot be compared with anything else.

    Raises:
        click.UsageError: there is no terminal, or what was typed is no text.
        click.ClickException: it was ended with Ctrl-D.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise click.UsageError(
            f"there is no terminal to ask for the {what}: use {instead}"
        ) from None
    question = f"{what[0].upper()}{what[1:]}{whose}: "
    with interruptible():
        try:
            while True:
                secret = getpass.getpass(question)
                if not secret:
                    continue
                if not twice or getpass.getpass("The same again: ") == secret:
                    return secret
                click.echo("These are not the same: once more.", err=True)
        except EOFError:
            click.echo(err=True)
            raise click.ClickException(f"no {what} was given") from None
        except UnicodeDecodeError:
            raise _not_text(what) from None


def _not_text(what: str) -> click.UsageError:
    return click.UsageError(f"the {what} is not UTF-8")


def can_ask() -> bool:
    """Tell whether somebody sees standard error and can type an answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_yes_or_no(words: str, *, or_enter: bool = False) -> bool:
    """
    Ask until the answer is ``yes`` or ``no``; the end of input is a no.

    Args:
        words: the question.
        or_enter: whether an empty answer is a no, too.
    """
    with interruptible():
        while True:
            click.echo(f"{words} (yes/no) ", err=True, nl=False)
            line = sys.stdin.buffer.readline(MAX_ANSWER_BYTES)
            answer = line.strip().lower()
            if not line or answer in (b"no", b"n") or (or_enter and not answer):
                return False
            if answer in (b"yes", b"y"):
                return True
