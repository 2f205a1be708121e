"""
The ``securerecv`` command: which commands there are, and how they may end.

Exit codes: 0 done; 1 the server or the work said no, and one line on standard
error says why; 2 wrong usage.  After Ctrl-C it ends as SIGINT ends programs.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from securerecv import __version__
from securerecv.cli.terminal import visible_line
from securerecv.errors import PeerError, SecurerecvError

EXIT_NO = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
"""What a shell says of a program that SIGINT has ended."""

COMMANDS = {
    "serve": ("securerecv.cli.serve:serve", "Start the server."),
    "console": (
        "securerecv.cli.console:console",
        "Receive at this terminal, for one person.",
    ),
    "account": (
        "securerecv.cli.account:account",
        "Add, change and remove accounts of a server.",
    ),
    "send": ("securerecv.cli.talk:send", "Send a message."),
    "last": ("securerecv.cli.talk:last", "Show the last messages in your box."),
    "put": ("securerecv.cli.files:put", "Send a file."),
    "files": ("securerecv.cli.files:files", "List the files in your box."),
    "get": ("securerecv.cli.files:get", "Fetch a file from your box."),
    "watch": ("securerecv.cli.talk:watch", "Show messages and files as they come in."),
    "doctor": (
        "securerecv.cli.doctor:doctor",
        "Check a server's data folder and say what to mend.",
    ),
}
"""By name: where the command is, and what it does."""


class LazyGroup(click.Group):
    """The commands of `COMMANDS`, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, if there is one of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List them in the help without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securerecv")
def cli() -> None:
    """Send and receive confidential messages and files."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, the program's own by default, and exit."""
    _replace_closed_streams()
    # What a terminal cannot show must not stop the program.
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(arguments))


def _replace_closed_streams() -> None:
    """
    Open what the program was started without, as by ``>&-``, and lead it nowhere.

    In this order, so that each gets the descriptor that it should have, and no
    socket does.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open to the end
            setattr(sys, name, stream)


def _run(arguments: Sequence[str] | None) -> int:
    """
    Run a command line.

    Returns:
        The exit code.

    Raises:
        SystemExit: standard output is a pipe that nobody reads any more.
    """
    try:
        code = cli.main(arguments, prog_name="securerecv", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        code = _complain(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # click makes the one the other
        _end_as_interrupted()
        code = EXIT_INTERRUPTED
    except PeerError as error:
        code = _complain(f"{error.words} ({error.code.value})", EXIT_NO)
    except SecurerecvError as error:
        code = _complain(str(error), EXIT_NO)
    except OSError as error:
        _abandon(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        code = _complain(f"{where}{error.strerror or error}", EXIT_NO)
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        code = _complain(f"please report this: {_describe(error)}", EXIT_NO)
    return code if isinstance(code, int) else 0


def _end_as_interrupted() -> None:
    """
    End as if SIGINT had not been caught, unless it is blocked.

    A shell tells by that whether Ctrl-C was meant for it as well: after an exit code
    of 130 it would go on with the next round of a loop
    (https://www.cons.org/cracauer/sigint.html).
    """
    with suppress(OSError):
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _complain(words: str, code: int) -> int:
    # Some of the words may be a server's.
    click.echo(f"securerecv: {visible_line(words)}", err=True)
    return code


def _describe(error: Exception) -> str:
    """Say what an unexpected error is and where it came up."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    what = f"{type(error).__name__}: {error}"
    if trace is None:
        return what
    file = Path(trace.tb_frame.f_code.co_filename).name
    return f"{what} ({file}, line {trace.tb_lineno})"


def _abandon(stream: TextIO) -> None:
    """Point a stream nowhere, so that Python's own last flush cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    main()
