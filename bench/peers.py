"""
Other programs that receive, where they are installed, set up to be compared with.

Each listens on 127.0.0.1 and keeps what it keeps in a folder of the bench, and each
ends with it. Without those that are not there, or do not work, the others go on.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench.absence import absence
from bench.proc import udp_socket
from bench.servers import (
    START_TIMEOUT_S,
    Server,
    ServerError,
    await_start,
    process,
)
from bench.turns import Entry


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def home_of(folder: Path, name: str) -> Path:
    """Return the folder of one of them, made if it is missing."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    return home


def enter(
    stack: ExitStack, name: str, starting: AbstractContextManager[Server]
) -> Entry:
    """
    Start one, until the stack ends; return its entry, also if it did not start.

    Args:
        stack: ends it.
        name: for the table.
        starting: yields it when it has started.
    """
    try:
        return Entry(name, stack.enter_context(starting), is_peer=True)
    except ServerError as error:
        return Entry(name, absence(error), is_peer=True)


@contextmanager
def listening(
    name: str,
    command: Sequence[str],
    folder: Path,
    ports: Mapping[str, int],
    options: Mapping[str, object],
) -> Iterator[Server]:
    """
    Run a server that says nothing of its port.

    Args:
        name: of the program.
        command: what to start.
        folder: its working directory, which also takes its log.
        ports: the one that it shall listen on, by transport.
        options: of the load.

    Raises:
        NotStartedError: it ended, or does not listen after START_TIMEOUT_S.
        ServerError: the block raised one.
    """

    def listens() -> bool:
        return all(_LISTENS[kind](port) for kind, port in ports.items())

    with process(command, folder, folder / f"{name}.log") as running:
        await_start(name, running, listens)
        yield Server(name, running.pid, ports, options)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), START_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _is_bound(port: int) -> bool:
    return udp_socket(port) is not None


_LISTENS = {"tcp": _accepts, "udp": _is_bound}
