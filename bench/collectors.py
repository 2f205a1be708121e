"""
Programs that take datagrams and answer none: ours, and others where installed.

Each is started anew for every run, and says at its end how many it has taken, which
a sender cannot know. What the kernel dropped since a program was slow is not
among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.boxes import make_boxes
from bench.peers import free_port, listening
from bench.servers import Server, ServerError, found
from securerecv.net import counters

_RSYSLOG = """\
global(workDirectory="{home}")
module(load="imtcp")
input(type="imtcp" port="{port}" address="127.0.0.1")
module(load="imudp" timeRequery="2")
input(type="imudp" port="{port}" address="127.0.0.1" ruleset="f" rcvbufSize="4m")
ruleset(name="f" queue.type="fixedArray" queue.size="250000") {{
    action(type="omfile" file="{home}/taken" asyncWriting="off")
}}
"""
"""TCP is there to see when it has started."""

_CARBON = """\
[cache]
LOCAL_DATA_DIR = {home}/
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {port}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {others[0]}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {others[1]}
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = 1
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
        options: of the load, `bench.blast`.
        start: starts it; None where it is not installed.
        taken: counts what it took, when it has ended; None if it cannot say: then
            it is what its socket had room for.
    """

    name: str
    options: Mapping[str, object]
    start: Callable[[], AbstractContextManager[Server]] | None
    taken: Callable[[], int] | None = None


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
            options | {"batched": batched},
            lambda: servers.securerecv(data, "--scanner", "none"),
            taken,
        )
        for name, batched in (("ours", False), ("ours, in batches", True))
    ]


def rsyslog(folder: Path) -> Collector:
    """Return rsyslog, which writes lines to a file; taken is what stands there."""
    program = found("rsyslogd")
    home = folder / "rsyslog"
    home.mkdir(exist_ok=True)
    lines = home / "taken"

    @contextmanager
    def start() -> Iterator[Server]:
        lines.unlink(missing_ok=True)
        port = free_port()
        configuration = home / "rsyslog.conf"
        configuration.write_text(_RSYSLOG.format(home=home, port=port))
        command = [
            str(program),
            "-n",
            "-f",
            str(configuration),
            "-i",
            str(home / "pid"),
        ]
        with listening(command, home, port) as server:
            yield Server(server.name, server.pid, {"udp": port})

    def taken() -> int:
        with lines.open("rb") as file:
            return sum(1 for _ in file)

    name = "rsyslog"
    options = {"dialect": "syslog"}
    return Collector(name, options, start if program else None, taken)


def carbon(folder: Path) -> Collector:
    """Return Graphite's carbon-cache, which keeps metrics in memory."""
    program = found("carbon-cache.py")
    home = folder / "carbon"
    home.mkdir(exist_ok=True)

    @contextmanager
    def start() -> Iterator[Server]:
        port = free_port()
        configuration = home / "carbon.conf"
        others = free_port(), free_port()
        configuration.write_text(_CARBON.format(home=home, port=port, others=others))
        schemas = home / "storage-schemas.conf"
        schemas.write_text("[all]\npattern = .*\nretentions = 60s:1h\n")
        command = [_python_of(Path(str(program))), "-c", _RUN_CARBON, "--nodaemon"]
        command += ["--config", str(configuration), "--logdir", str(home)]
        command += ["--pidfile", str(home / "pid"), "start"]
        with listening(command, home, port) as server:
            yield Server("carbon-cache", server.pid, {"udp": port})

    name = "carbon-cache"
    return Collector(name, {"dialect": "metrics"}, start if program else None)


def _python_of(script: Path) -> str:
    """
    Return the interpreter that a script names in its first line.

    Raises:
        ServerError: it names none.
    """
    with script.open() as file:
        match = re.fullmatch(r"#!\s*(\S+)\s*", file.readline())
    if match is None:
        raise ServerError(f"{script} does not say what runs it")
    return match.group(1)
