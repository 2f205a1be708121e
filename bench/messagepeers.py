"""
Other programs that take messages, over TLS 1.3, where they are installed.

How they run is in `bench.peers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.certificate import certificate
from bench.peers import free_port, home_of, listening
from bench.servers import Server, installed
from bench.tls import CIPHER

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
