"""
Other programs that receive, where they are installed, set up to be compared with.

Each listens on 127.0.0.1 with TLS 1.3 and keeps what it keeps in a folder of the
bench, and each ends with it. What is not installed has no server.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.servers import POLL_S, START_TIMEOUT_S, Server, ServerError, found, process
from bench.tls import CIPHER
from bench.turns import Entry
from securerecv.vault.certificates import self_made_certificate

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


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate and its key."""
    files = folder / "certificate.pem", folder / "key.pem"
    for file, content in zip(files, self_made_certificate(), strict=True):
        file.write_bytes(content)
    return files


@contextmanager
def listening(command: Sequence[str], folder: Path, port: int) -> Iterator[Server]:
    """
    Run a server that says nothing of its port.

    Raises:
        ServerError: it ended, or does not listen after START_TIMEOUT_S.
    """
    name = Path(command[0]).name
    with process(command, folder, folder / f"{name}.log") as running:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), START_TIMEOUT_S).close()
                break
            except ConnectionRefusedError:
                if running.poll() is not None or time.monotonic() > give_up_at:
                    raise ServerError(f"{name} did not start") from None
                time.sleep(POLL_S)
        yield Server(name, running.pid, {"tcp": port})


@contextmanager
def redis(folder: Path) -> Iterator[Server | None]:
    """Run redis, which answers when what it was told is on disk."""
    program = found("redis-server")
    if program is None:
        yield None
        return
    home = _home(folder, "redis")
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
    with listening([program, *map(str, words)], home, port) as server:
        yield server


@contextmanager
def mosquitto(folder: Path) -> Iterator[Server | None]:
    """Run mosquitto, which answers when it has something in memory."""
    program = found("mosquitto")
    if program is None:
        yield None
        return
    home = _home(folder, "mosquitto")
    cert, key = certificate(home)
    port = free_port()
    configuration = home / "mosquitto.conf"
    configuration.write_text(
        _MOSQUITTO.format(port=port, certificate=cert, key=key, folder=home)
    )
    with listening([program, "-c", str(configuration)], home, port) as server:
        yield server


@contextmanager
def message_servers(folder: Path) -> Iterator[list[Entry]]:
    """Run all that take messages."""
    with ExitStack() as stack:
        yield [
            Entry(
                "redis XADD, fsync always",
                stack.enter_context(redis(folder)),
                {"dialect": "redis"},
            ),
            Entry(
                "mosquitto QoS 1, in memory",
                stack.enter_context(mosquitto(folder)),
                {"dialect": "mqtt"},
            ),
        ]


def _home(folder: Path, name: str) -> Path:
    home = folder / name
    home.mkdir(exist_ok=True)
    return home
