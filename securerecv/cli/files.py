"""``securerecv put``, ``files`` and ``get``: sending files and fetching them."""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securerecv.cli.loop import run
from securerecv.cli.persist import persist, sleep
from securerecv.cli.progress import Display
from securerecv.cli.reach import enter, leave, way, with_way, word
from securerecv.cli.showfile import show_file, show_file_json
from securerecv.cli.terminal import visible_line
from securerecv.errors import ErrorCode, PeerError, SecurerecvError

if TYPE_CHECKING:
    from securerecv.client.client import Client
    from securerecv.client.incoming import Incoming
    from securerecv.client.outgoing import Outgoing
    from securerecv.wire.filelines import FileRecord
    from securerecv.wire.filereplies import FileReceipt, Found

VERDICT_PATIENCE_S = 60.0
"""How long to ask what became of a file that is still being scanned."""

_ASK_EVERY_S = 1.0


@click.command()
@with_way("else the session is anonymous")
@click.option(
    "--to", metavar="NAME", required=True, callback=word, help="Which user to send to."
)
@click.option(
    "--name", metavar="NAME", help="What the file is to be called; else as it is."
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def put(to: str, name: str | None, file: Path, **options: Any) -> None:
    """
    Send a file to a user of SERVER.

    SERVER is HOST or HOST:PORT.  What was sent in part before is gone on with,
    and so it is when the connection is lost.  The file is scanned when it is
    there; what came of that is shown if it is known within a minute.
    """
    road = way(**options)
    shown = visible_line(name or file.name)

    with Display(shown) as display:

        async def work(reactor: Any) -> "FileReceipt":
            from securerecv.client.outgoing import outgoing

            with await outgoing(file, name, display.progress) as ready:

                async def send(client: "Client") -> "FileReceipt":
                    return await _until_scanned(reactor, client, to, ready, display)

                return await persist(reactor, road, send, display)

        receipt = run(work)
    click.echo(f"sent {visible_line(receipt.id)}: {receipt.state.value}")
    _explain_state(receipt, shown)


async def _until_scanned(
    reactor: Any, client: "Client", to: str, file: "Outgoing", display: Display
) -> "FileReceipt":
    """Send a file, and ask what became of it: the same again sends nothing."""
    from securerecv.wire.filelines import FileState

    receipt = await client.put(to, file)
    if receipt.state is FileState.SCANNING:
        display.note("It is there, and being scanned.")
    give_up_at = reactor.seconds() + VERDICT_PATIENCE_S
    while receipt.state is FileState.SCANNING and reactor.seconds() < give_up_at:
        await sleep(reactor, _ASK_EVERY_S)
        receipt = await client.put(to, file)
    return receipt


def _explain_state(receipt: "FileReceipt", shown: str) -> None:
    from securerecv.wire.filelines import FileState

    if receipt.state is FileState.INFECTED:
        raise SecurerecvError(f"{shown} was found infected: nobody can fetch it")
    if receipt.state is FileState.HELD:
        click.echo("It could not be scanned yet and is held until it was.", err=True)
    if receipt.state is FileState.SCANNING:
        click.echo("It is still being scanned.", err=True)


@click.command()
@with_way("only users have a box")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def files(*, as_json: bool, **options: Any) -> None:
    """
    List the files in your box on SERVER, oldest first.

    SERVER is HOST or HOST:PORT.
    """
    _want_user(options)
    road = way(**options)

    async def work(reactor: Any) -> "list[FileRecord]":
        client, _ = await enter(reactor, road)
        records = await client.files()
        await leave(client)
        return records

    records = run(work)
    for record in records:
        (show_file_json if as_json else show_file)(record)
    if not records and not as_json:
        click.echo("no files", err=True)


@click.command()
@with_way("only users have a box")
@click.option(
    "-o",
    "--output",
    "place",
    metavar="PATH",
    help="Where to write it: a file, a folder, or - for standard output; else into"
    " this folder, under its own name.",
)
@click.option("--force", is_flag=True, help="Take the place of a file that is there.")
@click.argument("file_id", metavar="ID", callback=word)
def get(file_id: str, place: str | None, *, force: bool, **options: Any) -> None:
    """
    Fetch a file from your box on SERVER, and check its SHA-256.

    SERVER is HOST or HOST:PORT.  ID is shown by `securerecv files`; that of a
    message will do, too.  Until it is complete the file is called ID.part, and
    gone on with if it is there already.
    """
    _want_user(options)
    if place == "-" and sys.stdout.isatty():
        raise click.UsageError(
            "-o - is not for a terminal, which would obey what is in a file:"
            " send it into a file or a pipe"
        )
    road = way(**options)

    with Display(visible_line(file_id)) as display:

        async def work(reactor: Any) -> tuple["Incoming", "Found"]:
            target = await _target(file_id, place, force, display)
            try:
                found = await persist(
                    reactor, road, lambda client: client.get(file_id, target), display
                )
            finally:
                target.close()
            return target, found

        target, found = _explained(work)
    if target.path is not None:
        where = visible_line(str(target.path))
        click.echo(f"wrote {where} ({found.size} bytes, SHA-256 is right)")


def _want_user(options: dict[str, Any]) -> None:
    if options["user"] is None:
        raise click.UsageError(
            "give --user NAME: an anonymous session has no box, only users have"
        )


async def _target(
    file_id: str, place: str | None, force: bool, display: Display
) -> "Incoming":
    from securerecv.client.incoming import Incoming, incoming_file

    if place == "-":
        return Incoming(sys.stdout.buffer, display.progress)
    return await incoming_file(
        file_id, place or ".", force=force, progress=display.progress
    )


def _explained(work: Any) -> Any:
    """Run, and say what may help."""
    try:
        return run(work)
    except FileExistsError as error:
        words = f"{error.filename} exists already; --force takes its place"
        raise SecurerecvError(words) from None
    except PeerError as error:
        if error.code is ErrorCode.NOT_CLEAN:
            words = f"{error.words} ({error.code.value}); try again later"
            raise SecurerecvError(words) from None
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SecurerecvError(
                f"no space is left for {error.filename or 'it'}; what came is kept"
            ) from None
        raise
