"""
The console while it serves: messages as they come, above a prompt.

The person's own session is a client's, over the transport that was chosen: it
sees what anybody sees who logs in, and nothing more.
"""

import shlex
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import click
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from securerecv.cli.show import show
from securerecv.cli.showfile import show_file
from securerecv.cli.terminal import visible_line
from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.client.connectudp import connect_udp
from securerecv.client.content import Stage
from securerecv.client.incoming import incoming_file
from securerecv.client.keepalive import keep_alive
from securerecv.client.trust import only
from securerecv.console.arriving import Arriving
from securerecv.console.bars import Bars
from securerecv.console.commands import NotACommandError, help_text, parse
from securerecv.console.questions import Person
from securerecv.errors import PeerError, SecurerecvError
from securerecv.net.addresses import address_seen_by_others
from securerecv.net.ports import EVERYWHERE
from securerecv.service import Receiver
from securerecv.wire.filelines import FileRecord
from securerecv.wire.lines import Message

DRAW_EVERY_S = 0.2


@frozen
class Place:
    """
    Where a receiver is, for those who want to reach it.

    Attributes:
        transport: ``tcp`` or ``udp``.
        host: an address of this machine.
        port: its port.
        pin: of its key.
    """

    transport: str
    host: str
    port: int
    pin: str

    def commands(self, to: str, *, has_box: bool) -> list[str]:
        """Give the commands that send to somebody here; files need a box."""
        server = str(ServerAddress(self.host, self.port))
        way = [server, "--pin", self.pin, "--to", to]
        udp = ["--udp"] if self.transport == "udp" else []
        dtls = ["-dtls1_2"] if self.transport == "udp" else []
        put = [shlex.join(["securerecv", "put", *way, *udp, "photo.jpg"])]
        return [
            shlex.join(["securerecv", "send", *way, *udp]) + " 'your message'",
            *(put if has_box else []),
            shlex.join(["openssl", "s_client", *dtls, "-connect", server, "-quiet"])
            + f"   # then type ANON, and SAY {to} your message",
        ]


def places(receiver: Receiver) -> tuple[Place, Place]:
    """
    Tell where a receiver is that serves on one transport.

    Returns:
        For this machine, and for others.
    """
    ((transport, (host, port)),) = receiver.ports.items()
    pin = receiver.identity.pin
    if host not in EVERYWHERE:
        place = Place(transport, host, port, pin)
        return place, place
    here = "127.0.0.1"
    there = address_seen_by_others() or here
    return Place(transport, here, port, pin), Place(transport, there, port, pin)


class Prompt(Protocol):
    """Where the person types."""

    def read(self) -> "Deferred[str]":
        """Read one line; fails with EOFError to leave."""

    def end(self, error: Exception) -> None:
        """Have the line that is being read fail with an error."""

    def shown(self, thing_id: str) -> None:
        """Take note of an id that the person may want to type."""

    def show_below(self, text: str | None) -> None:
        """Show lines below what is typed, in place of those that are there."""


class Sitting:
    """
    One person's time at the console.

    Args:
        receiver: serves already.
        reactor: what it runs on.
        person: who sits there.
        prompt: where they type.
    """

    def __init__(
        self, receiver: Receiver, reactor: Any, person: Person, prompt: Prompt
    ) -> None:
        self._receiver = receiver
        self._reactor = reactor
        self._person = person
        self._prompt = prompt
        self._here, self._there = places(receiver)
        self._name = ""
        self._bars = Bars(reactor.seconds)
        self._arriving = Arriving(receiver.office.files.arriving, self._bars)
        self._fetching: set[str] = set()
        self._carry_out: dict[str, Callable[..., Awaitable[None]]] = {
            "last": self._last,
            "files": self._files,
            "get": self._get,
            "drop": self._drop,
            "who": self._who,
            "help": self._help,
        }

    async def serve(self) -> None:
        """
        Receive until the person leaves.

        Raises:
            SecurerecvError: the person's own session ended.
        """
        client, self._name = await self._enter()
        await client.watch(self._came, self._file_came)
        keep_alive(client, self._reactor)
        await self._who(client)
        click.echo("\nhelp lists the commands; what comes in is shown here.")
        ended = client.closed().addErrback(self._lost)
        drawing = LoopingCall(self._draw)
        drawing.clock = self._reactor
        drawing.start(DRAW_EVERY_S)
        try:
            await self._obey(client)
        finally:
            drawing.stop()
        await client.quit()
        await ended

    async def _enter(self) -> tuple[Client, str]:
        """Begin a session of the person's; gives their name or address in it."""
        get_there = connect_udp if self._here.transport == "udp" else connect
        server = ServerAddress(self._here.host, self._here.port)
        client = await get_there(self._reactor, server, only([self._here.pin]))
        if self._person.name is None:
            return client, await client.anonymous()
        await client.login(self._person.name, self._person.password)
        return client, self._person.name

    def _lost(self, failure: Failure) -> None:
        if isinstance(failure.value, Exception):
            self._prompt.end(failure.value)

    async def _obey(self, client: Client) -> None:
        while True:
            try:
                line = await self._prompt.read()
            except EOFError:
                return
            if not line.strip():
                continue
            try:
                name, words = parse(line)
                if name == "quit":
                    return
                await self._carry_out[name](client, *words)
            except NotACommandError as error:
                click.echo(str(error))
            except PeerError as error:
                click.echo(f"{visible_line(error.words)} ({error.code.value})")

    # -- what comes in ----------------------------------------------------------

    def _came(self, message: Message) -> None:
        self._prompt.shown(message.id)
        show(message)

    def _file_came(self, record: FileRecord) -> None:
        self._prompt.shown(record.id)
        show_file(record)

    def _draw(self) -> None:
        """Show how far files are."""
        if self._person.name is not None:
            self._arriving.look(self._name)
        self._prompt.show_below(self._bars.text())

    # -- commands ---------------------------------------------------------------

    async def _last(self, client: Client) -> None:
        messages = await client.last()
        for message in messages:
            self._came(message)
        if not messages:
            click.echo("no messages")

    async def _files(self, client: Client) -> None:
        records = await client.files()
        for record in records:
            self._file_came(record)
        if not records:
            click.echo("no files")

    async def _get(self, _client: Client, file_id: str) -> None:
        """Begin to fetch a file; the person may go on meanwhile."""
        if file_id in self._fetching:
            click.echo(f"{file_id} is being fetched already")
            return
        self._fetching.add(file_id)
        fetched = Deferred.fromCoroutine(self._fetch(file_id))
        fetched.addErrback(self._explain_fetch, file_id)

    async def _fetch(self, file_id: str) -> None:
        # A session of its own: one that fails amid a file is over.
        client, _ = await self._enter()
        key = f"get {file_id}"

        def progress(_stage: Stage, done: int, total: int) -> None:
            self._bars.move(key, f"fetching {file_id}", done, total)

        target = await incoming_file(file_id, ".", progress=progress)
        try:
            found = await client.get(file_id, target)
        finally:
            target.close()
            self._bars.end(key)
            self._fetching.discard(file_id)
            client.quit().addErrback(_ignore)
        where = visible_line(str(target.path))
        click.echo(f"wrote {where} ({found.size} bytes, SHA-256 is right)")

    def _explain_fetch(self, failure: Failure, file_id: str) -> None:
        self._fetching.discard(file_id)
        error = failure.value
        words = (
            f"{error.words} ({error.code.value})"
            if isinstance(error, PeerError)
            else str(error)
        )
        if isinstance(error, FileExistsError):
            words = f"{error.filename} exists already; move it away first"
        failure.trap(SecurerecvError, OSError)
        click.echo(f"{file_id} was not fetched: {visible_line(words)}")

    async def _drop(self, client: Client, thing_id: str) -> None:
        await client.drop(thing_id)
        click.echo(f"{thing_id} is gone")

    async def _who(self, _client: Client) -> None:
        place = self._there
        kept = "kept for you" if self._person.name else "kept nowhere"
        click.echo(f"You are {self._name}; what comes is {kept}.")
        server = ServerAddress(place.host, place.port)
        click.echo(f"Receiving over {place.transport.upper()} at {server},")
        click.echo(f"key {place.pin}.")
        click.echo("Others send to you with")
        for command in place.commands(self._name, has_box=bool(self._person.name)):
            click.echo(f"  {command}")
        if place != self._here:
            click.echo(f"(and from this machine at {self._here.host}).")

    async def _help(self, _client: Client) -> None:
        click.echo(help_text())


def _ignore(_: Failure) -> None:
    """The session has done what it was for."""
