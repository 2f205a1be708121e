"""``securerecv console``: a receiver for one person at one terminal."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from securerecv.cli.place import WrongSettingsError
from securerecv.cli.serveroptions import with_server_options
from securerecv.errors import OperatorError
from securerecv.settings import Settings, load

if TYPE_CHECKING:
    from securerecv.console.questions import Person


@click.command()
@with_server_options
def console(config: str | None, **options: str | bool | None) -> None:
    """
    Receive at this terminal: asks who you are, and shows what comes in.

    The options are the server's.  With --proto tcp or udp that is not asked for.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            "the console needs a terminal; without one, use securerecv serve"
        )
    written = {
        name.replace("_", "-"): "true" if value is True else str(value)
        for name, value in options.items()
        if value not in (None, False)
    }
    try:
        settings = load(written, Path(config) if config else None)
    except OperatorError as error:
        raise WrongSettingsError(str(error)) from None
    try:
        settings, person = _ask(settings)
    except (EOFError, KeyboardInterrupt):
        click.echo("Goodbye.")
        return
    _serve(settings, person)
    click.echo("Goodbye.")


def _ask(settings: Settings) -> "tuple[Settings, Person]":
    """Ask everything that must be known before; raises as `Asker.ask`."""
    from securerecv.banner import HEADING
    from securerecv.console.asker import TerminalAsker
    from securerecv.console.questions import ask_person, ask_transport
    from securerecv.intake.accountbook import open_account_book

    click.echo(HEADING)
    asker = TerminalAsker()
    book = open_account_book(settings)
    try:
        person = ask_person(asker, book, anonymous=settings.anonymous)
    finally:
        book.close()
    if settings.proto == "both":
        settings = attrs.evolve(settings, proto=ask_transport(asker))
    # Others reach the person at the one port that is shown.
    return attrs.evolve(settings, listen=()), person


def _serve(settings: Settings, person: "Person") -> None:
    # The prompt lives on asyncio's loop, so the receiver does as well.
    from twisted.internet import asyncioreactor
    from twisted.internet.process import reapAllProcesses

    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)

    from securerecv.cli.loop import run
    from securerecv.console.prompt import TerminalPrompt
    from securerecv.console.receiving import Sitting
    from securerecv.process import keep_secrets_in_memory
    from securerecv.service import Receiver

    async def work(reactor: Any) -> None:
        receiver = Receiver(settings, reactor)
        receiver.privilegedStartService()
        receiver.startService()
        prompt = TerminalPrompt(loop)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(ending, prompt.end, EOFError())
        # As `run` keeps Ctrl-C from Twisted, Twisted hears of no signal by itself,
        # and might wait for ever for the end of a clamd that has ended.
        loop.add_signal_handler(signal.SIGCHLD, reapAllProcesses)
        try:
            with prompt.below_output():
                await Sitting(receiver, reactor, person, prompt).serve()
        finally:
            await receiver.stopService()

    keep_secrets_in_memory()
    run(work)
