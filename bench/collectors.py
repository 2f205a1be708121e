"""
Programs that take datagrams and answer none: ours, and others where installed.

Each is started anew for every run, and says at its end how many it has taken, which
a sender cannot know. What the kernel dropped since a program was slow is not
among them.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import servers
from bench.boxes import make_boxes
from bench.peers import free_port, home_of, listening
from bench.servers import NotStartedError, Server, ServerError, installed
from securerecv.net import counters

_RSYSLOG = """\
global(workDirectory="{home}")
module(load="imudp" timeRequery="2")
input(type="imudp" port="{port}" address="127.0.0.1" ruleset="f" rcvbufSize="4m")
ruleset(name="f" queue.type="fixedArray" queue.size="250000") {{
    action(type="omfile" file="{home}/taken" asyncWriting="off")
}}
"""
_CARBON = """\
[cache]
LOCAL_DATA_DIR = {home}/
LINE_RECEIVER_PORT = 0
PICKLE_RECEIVER_PORT = 0
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {port}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query_port}
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = 1
MAX_UPDATES_PER_SECOND_ON_SHUTDOWN = 1000000
MAX_CREATES_PER_MINUTE = 1
CARBON_METRIC_INTERVAL = 0
DATABASE = whisper
"""

_RUN_CARBON = """\
from twisted.application.app import ServerOptions
ServerOptions.opt_reactor = lambda self, name: None
from carbon.util import run_twistd_plugin
run_twistd_plugin("carbon-cache.py")
"""
"""It asks for a reactor when current versions of Twisted have one already."""


@dataclass(frozen=True)
class Collector:
    """
    A program that takes datagrams.

    Attributes:
        name: for the table.
        start: starts it.
        options: of the load, `bench.blast`, beside the server's.
        taken: counts what it took, when it has ended; None if it cannot say: then
            it is what its socket had room for.
        is_ours: it is none of those without which the others go on.
    """

    name: str
    start: Callable[[], AbstractContextManager[Server]]
    options: Mapping[str, object] = field(default_factory=dict)
    taken: Callable[[], int] | None = None
    is_ours: bool = False


def all_of_them(folder: Path) -> list[Collector]:
    """Return ours, and then the others; what they keep goes into the folder."""
    return [*ours(folder), rsyslog(folder), carbon(folder)]


def ours(folder: Path) -> list[Collector]:
    """Return ours, sent to in two ways; taken is what has become durable."""
    data = folder / "unanswered"
    key = make_boxes(data, 1, 0)

    def taken() -> int:
        found = counters.read(data)
        if found is None:
            raise ServerError("the server has not written its counters")
        dropped = found.dropped.items()
        refused = sum(count for what, count in dropped if what.startswith("sealed "))
        return found.taken["sealed"] - refused

    options = {"dialect": "sealed", "key": key.hex()}
    return [
        Collector(
            name,
            lambda: servers.securerecv(data, "--scanner", "none"),
            options | {"batched": batched},
            taken,
            is_ours=True,
        )
        for name, batched in (("ours", False), ("ours, in batches", True))
    ]


def rsyslog(folder: Path) -> Collector:
    """Return rsyslog, which writes lines to a file; taken is what stands there."""
    home = home_of(folder, "rsyslog")
    lines = home / "taken"

    @contextmanager
    def start() -> Iterator[Server]:
        program = installed("rsyslogd")
        lines.unlink(missing_ok=True)
        port = free_port(socket.SOCK_DGRAM)
        configuration = home / "rsyslog.conf"
        configuration.write_text(_RSYSLOG.format(home=home, port=port))
        command = [program, "-n", "-f", str(configuration), "-i", str(home / "pid")]
        dialect = {"dialect": "syslog"}
        with listening("rsyslog", command, home, {"udp": port}, dialect) as server:
            yield server

    def taken() -> int:
        with lines.open("rb") as file:
            return sum(1 for _ in file)

    return Collector("rsyslog", start, taken=taken)


def carbon(folder: Path) -> Collector:
    """Return Graphite's carbon-cache, which keeps metrics in memory."""

    @contextmanager
    def start() -> Iterator[Server]:
        program = installed("carbon-cache.py")
        shutil.rmtree(folder / "carbon", ignore_errors=True)
        home = home_of(folder, "carbon")
        port = free_port(socket.SOCK_DGRAM)
        configuration = home / "carbon.conf"
        configuration.write_text(
            _CARBON.format(home=home, port=port, query_port=free_port())
        )
        schemas = home / "storage-schemas.conf"
        schemas.write_text("[all]\npattern = .*\nretentions = 60s:1h\n")
        command = [_python_of(Path(program)), "-c", _RUN_CARBON, "--nodaemon"]
        command += ["--config", str(configuration), "--logdir", str(home)]
        command += ["--pidfile", str(home / "pid"), "start"]
        dialect = {"dialect": "metrics"}
        with listening("carbon", command, home, {"udp": port}, dialect) as server:
            yield server

    return Collector("carbon-cache", start)


def _python_of(script: Path) -> str:
    """
    Return the interpreter that a script names in its first line.

    Raises:
        NotStartedError: it names none.
    """
    with script.open() as file:
        match = re.fullmatch(r"#!\s*(\S+)\s*", file.readline())
    if match is None:
        raise NotStartedError(f"{script} does not say what runs it")
    return match.group(1)
