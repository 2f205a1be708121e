"""Asking the person at the terminal."""

import getpass
import os
import sys

import click

from securerecv.cli.loop import interruptible

MAX_ANSWER_BYTES = 4096


def ask_password(words: str) -> str:
    """
    Ask for a password on the terminal, without echo.

    Raises:
        click.UsageError: there is no terminal.
        click.Abort: nothing was answered.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise click.UsageError(
            "there is no terminal to ask for the password:"
            " use --password-stdin or SECURERECV_PASSWORD"
        ) from None
    with interruptible():
        try:
            return getpass.getpass(words)
        except EOFError:
            raise click.Abort from None


def can_ask() -> bool:
    """Tell whether somebody sees standard error and can type an answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_yes_or_no(words: str) -> bool:
    """Ask until the answer is ``yes`` or ``no``; the end of input is a no."""
    with interruptible():
        while True:
            click.echo(f"{words} (yes/no) ", err=True, nl=False)
            line = sys.stdin.buffer.readline(MAX_ANSWER_BYTES)
            answer = line.strip().lower()
            if not line or answer in (b"no", b"n"):
                return False
            if answer in (b"yes", b"y"):
                return True
