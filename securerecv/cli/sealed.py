"""``securerecv send --sealed``: one datagram, and no conversation."""

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
from attrs import field, frozen

from securerecv.cli.loop import run
from securerecv.cli.reach import Way, leave, reach
from securerecv.cli.terminal import visible_line
from securerecv.settings import TOKEN_VARIABLE

if TYPE_CHECKING:
    from securerecv.wire.hpke import Psk

_KEY = re.compile(r"(?:x25519[ /]+)?([0-9A-Fa-f]{64})")
_TOKEN = re.compile(r"([0-9A-Fa-f]{32})[: ]([0-9A-Fa-f]{64})")
_MAX_TOKEN_FILE_BYTES = 4096


@frozen
class Sealing:
    """
    How to seal.

    Attributes:
        key: the server's, 32 bytes; None when it is remembered or asked for.
        token: whose owner is the sender; None for nobody's.
        ack: wait for the answer.
    """

    key: bytes | None
    token: "Psk | None" = field(repr=False)
    ack: bool


def _read_key(_context: object, _parameter: object, value: str | None) -> bytes | None:
    if value is None:
        return None
    match = _KEY.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter("a sealing key has 64 hexadecimal digits")
    return bytes.fromhex(match[1])


def with_sealing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``sealing``, a `Sealing` or None, of options of its own."""

    @wraps(command)
    def with_options(
        *,
        sealed: bool,
        key: bytes | None,
        token: str | None,
        token_file: Path | None,
        ack: bool,
        **others: Any,
    ) -> Any:
        if not sealed and (key or token or token_file or ack):
            raise click.UsageError(
                "--key, --token, --token-file and --ack go with --sealed"
            )
        sealing = Sealing(key, _token(token, token_file), ack) if sealed else None
        return command(sealing=sealing, **others)

    for add in (
        click.option(
            "--ack",
            is_flag=True,
            help="With --sealed: wait for the server's answer.",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="With --sealed: take the token from a file's first line.",
        ),
        click.option(
            "--token",
            metavar="ID:SECRET",
            help="With --sealed: send as the owner of this token. Others on this"
            f" machine may see it: --token-file and {TOKEN_VARIABLE} hide it.",
        ),
        click.option(
            "--key",
            metavar="HEX",
            callback=_read_key,
            help="With --sealed: the server's sealing key, as it prints it; else it"
            " is asked for once and remembered.",
        ),
        click.option(
            "--sealed",
            is_flag=True,
            help="Send one sealed datagram over UDP and no more, without a login.",
        ),
    ):
        add(with_options)
    return with_options


def _token(written: str | None, file: Path | None) -> "Psk | None":
    from securerecv.wire.hpke import Psk

    if written and file:
        raise click.UsageError("--token and --token-file do not go together")
    source = "--token"
    if file:
        with file.open("rb") as lines:
            written = lines.readline(_MAX_TOKEN_FILE_BYTES).decode(errors="replace")
        source = str(file)
    elif not written:
        written = os.environ.get(TOKEN_VARIABLE)
        source = TOKEN_VARIABLE
    if not written:
        return None
    match = _TOKEN.fullmatch(written.strip())
    if match is None:
        # The words do not repeat what may be a secret.
        raise click.UsageError(
            f"{source}: a token is 32 hexadecimal digits, a colon and 64 more"
        )
    return Psk(bytes.fromhex(match[1]), bytes.fromhex(match[2]))


def send_sealed(road: Way, sealing: Sealing, to: str, body: bytes) -> None:
    """
    Send a message in one datagram, and say what became of it.

    Raises:
        SecurerecvError: it cannot be done, or nobody knows whether it is.
    """

    async def work(reactor: Any) -> str | None:
        from securerecv.client.sealed import send_sealed as send

        key = sealing.key or await _key_of(reactor, road)
        return await send(
            reactor, road.server, key, to, body, token=sealing.token, ack=sealing.ack
        )

    message_id = run(work)
    if message_id is None:
        click.echo("sent; nobody says whether it arrived")
    else:
        click.echo(f"sent {visible_line(message_id)}")


async def _key_of(reactor: Any, road: Way) -> bytes:
    """Take the server's key from the known servers, or ask the server once."""
    from securerecv.client.knownservers import KnownServers, default_path

    known = KnownServers(default_path())
    remembered = known.sealing_key(road.server)
    if remembered is not None:
        pin, key = remembered
        if not road.pins or pin in road.pins:
            return key
    # The datagram itself will need UDP, too.
    client = await reach(reactor, attrs.evolve(road, udp=True))
    key = await client.sealing_key()
    await leave(client)
    known.remember_sealing_key(road.server, client.pin, key)
    return key
