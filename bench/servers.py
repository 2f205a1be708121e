"""Child processes: starts and ends servers, runs loads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
LOG_TAIL_LINES = 20
ADMIN_FOLDERS = "/usr/sbin:/usr/local/sbin"
REPOSITORY = Path(__file__).resolve().parent.parent

ReadyT = TypeVar("ReadyT")


class ServerError(Exception):
    """
    A server or a load process failed.

    Attributes:
        log: the last lines of what the servers concerned have said.
        words: for a table.
    """

    words = "failed"

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.log: list[str] = []


class NotInstalledError(ServerError):
    """A program is not there."""

    words = "not installed"


class NotStartedError(ServerError):
    """A server ended at its start, or took too long for it."""

    words = "did not start"


@dataclass(frozen=True)
class Server:
    """
    A running server.

    Attributes:
        name: of the program.
        pid: its process.
        ports: on 127.0.0.1, by transport.
        options: of the load, with which this kind of server is spoken to.
    """

    name: str
    pid: int
    ports: Mapping[str, int]
    options: Mapping[str, object] = field(default_factory=dict)


def find_command(name: str) -> str:
    """
    Return the path of a console script, first beside this Python, then on PATH.

    Raises:
        ServerError: it is not installed.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside + os.pathsep + os.environ.get("PATH", ""))
    if found is None:
        raise ServerError(f"no {name} beside {sys.executable}: install the package")
    return found


def installed(name: str) -> str:
    """
    Return the path of a program, also of those for administrators.

    Raises:
        NotInstalledError: there is none.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{ADMIN_FOLDERS}")
    if path is None:
        raise NotInstalledError(f"there is no {name}")
    return path


def announced_ports(output: str) -> dict[str, int]:
    """Return the ports a server printed at its start, by transport."""
    found = re.findall(r"\b(tcp|udp) +127\.0\.0\.1:(\d+)", output)
    return {transport: int(port) for transport, port in found}


@contextmanager
def running(
    command: Sequence[str], folder: Path, log: Path, transports: AbstractSet[str]
) -> Iterator[Server]:
    """
    Run a server for the length of a ``with`` block.

    Args:
        command: what to start; for each transport it prints a line such as
            ``tcp 127.0.0.1:PORT``.
        folder: its working directory.
        log: the file that takes its output.
        transports: ``tcp``, ``udp`` or both.

    Raises:
        NotStartedError: it ended, or did not print its ports within START_TIMEOUT_S.
        ServerError: the block raised one.
    """

    def printed() -> dict[str, int] | None:
        ports = announced_ports(log.read_text(errors="replace"))
        return ports if ports.keys() >= transports else None

    with process(command, folder, log) as started:
        ports = await_start(log.stem, started, printed)
        yield Server(log.stem, started.pid, ports)


def await_start(
    name: str, process: subprocess.Popen[bytes], ready: Callable[[], ReadyT | None]
) -> ReadyT:
    """
    Look again and again whether a server has started.

    Args:
        name: the server's.
        process: its.
        ready: returns something true when it has.

    Returns:
        That.

    Raises:
        NotStartedError: it has ended, or START_TIMEOUT_S are over.
    """
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not (found := ready()):
        if process.poll() is not None:
            raise NotStartedError(f"{name} ended at its start")
        if time.monotonic() > give_up_at:
            raise NotStartedError(f"{name} was not ready after {START_TIMEOUT_S:g} s")
        time.sleep(POLL_S)
    return found


@contextmanager
def process(
    command: Sequence[str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a program for the length of a ``with`` block.

    Args:
        command: what to start.
        folder: its working directory.
        log: the file that takes its output.

    Raises:
        NotStartedError: the system cannot start it.
        ServerError: the block raised one. The end of the log is added to it.
    """
    with log.open("wb") as output:
        try:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        except OSError as error:
            raise NotStartedError(f"{log.stem} did not start: {error}") from None
    try:
        yield started
    except ServerError as error:
        said = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        if said:
            error.log += [f"-- the end of {log.name}:", *said]
        raise
    finally:
        _stop(started)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def securerecv(data: Path, *options: str) -> Iterator[Server]:
    """
    Run the server under test as a user would.

    Args:
        data: its folder; the log goes beside it.
        options: beside the defaults.
    """
    command = [find_command("twistd"), "-n", "--pidfile=", "securerecv"]
    command += ["--port", "0", "--interface", "127.0.0.1"]
    command += ["--data", str(data), *options]
    log = data.parent / f"securerecv-{data.name}.log"
    with running(command, data.parent, log, {"tcp", "udp"}) as server:
        yield server


def serving(
    module: str, *words: str, transport: str, log: Path
) -> AbstractContextManager[Server]:
    """Run a bare server of the bench; see `running`."""
    command = [sys.executable, "-m", module, *words]
    return running(command, REPOSITORY, log, {transport})


def sink(folder: Path) -> AbstractContextManager[Server]:
    """Run the ceiling server, its output in ``sink.log`` of the folder."""
    return serving("bench.sink", transport="tcp", log=folder / "sink.log")


def file_sink(folder: Path) -> AbstractContextManager[Server]:
    """Run the ceiling server for files; see `bench.filesink`."""
    return serving("bench.filesink", transport="tcp", log=folder / "file-sink.log")


def durable_sink(folder: Path) -> AbstractContextManager[Server]:
    """Run the ceiling server that appends to a file of the folder."""
    words = ("--file", str(folder / "journal"))
    log = folder / "durable-sink.log"
    return serving("bench.sink", *words, transport="tcp", log=log)


def datagram_sink(
    folder: Path, kind: str, *, batched: bool
) -> AbstractContextManager[Server]:
    """Run a ceiling server for datagrams; see `bench.datagramsink`."""
    words = [kind, "--batched"] if batched else [kind]
    log = folder / ("batched.log" if batched else "loop.log")
    return serving("bench.datagramsink", *words, transport="udp", log=log)


def run_json(module: str, options: Mapping[str, object]) -> dict[str, Any]:
    """
    Run a load process to its end and return the JSON line it prints.

    Args:
        module: such as ``bench.load``.
        options: its command line, by option name without the dashes; those that
            are True have no value, those that are None or False are left out.

    Raises:
        ServerError: it failed; the message is what it said.
    """
    command = [sys.executable, "-m", module]
    for option, value in options.items():
        if value is True:
            command.append(f"--{option}")
        elif value is not None and value is not False:
            command += [f"--{option}", str(value)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise ServerError(done.stderr.strip())
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
