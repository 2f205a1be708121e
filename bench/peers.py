"""
Other programs that receive, where they are installed, set up to be compared with.

Each listens on 127.0.0.1 with TLS 1.3 and keeps what it keeps in a folder of the
bench, and each ends with it. Without those that are not there, or do not work, the
others go on.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench.absence import absence
from bench.certificate import certificate
from bench.proc import udp_socket
from bench.servers import (
    START_TIMEOUT_S,
    Server,
    ServerError,
    await_start,
    installed,
    process,
)
from bench.tls import CIPHER
from bench.turns import Entry

_MOSQUITTO = """\
listener {port} 127.0.0.1
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 5
max_queued_messages 0
max_inflight_messages 0
max_connections -1
log_dest none
user root
set_tcp_nodelay true
"""
"""
Anyone may send; there is no subscriber; what is kept is on disk after 5 s.

The user counts only when root starts it: it then keeps its rights, and can read.
"""


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

    def listens() -> bool | None:
        return all(_LISTENS[kind](port) for kind, port in ports.items()) or None

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


@contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """Run redis, which answers when what it was told is on disk."""
    program = installed("redis-server")
    home = home_of(folder, "redis")
    cert, key = certificate(home)
    port = free_port()
    options = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "tls-cert-file": cert,
        "tls-key-file": key,
        "tls-ca-cert-file": cert,
        "tls-auth-clients": "no",
        "tls-protocols": "TLSv1.3",
        "tls-ciphersuites": CIPHER,
        "dir": home,
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-percentage": 0,
        "save": "",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [program, *map(str, words)]
    dialect = {"dialect": "redis"}
    with listening("redis", command, home, {"tcp": port}, dialect) as server:
        yield server


@contextmanager
def mosquitto(folder: Path) -> Iterator[Server]:
    """Run mosquitto, which answers when it has something in memory."""
    program = installed("mosquitto")
    home = home_of(folder, "mosquitto")
    cert, key = certificate(home)
    port = free_port()
    configuration = home / "mosquitto.conf"
    configuration.write_text(
        _MOSQUITTO.format(port=port, certificate=cert, key=key, folder=home)
    )
    command = [program, "-c", str(configuration)]
    dialect = {"dialect": "mqtt"}
    with listening("mosquitto", command, home, {"tcp": port}, dialect) as server:
        yield server


@contextmanager
def message_servers(folder: Path) -> Iterator[list[Entry]]:
    """Run all that take messages."""
    with ExitStack() as stack:
        yield [
            enter(stack, "redis XADD, fsync always", redis(folder)),
            enter(stack, "mosquitto QoS 1, in memory", mosquitto(folder)),
        ]
