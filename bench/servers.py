"""Child processes: starts and ends servers, counts their CPU time, runs loads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
LOG_TAIL_LINES = 20
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ADMIN_FOLDERS = "/usr/sbin:/usr/local/sbin"
REPOSITORY = Path(__file__).resolve().parent.parent


class ServerError(Exception):
    """A server or a load process failed, with the end of what it said."""


@dataclass(frozen=True)
class Server:
    """A running server: name, process id, ports on 127.0.0.1 by transport."""

    name: str
    pid: int
    ports: Mapping[str, int]


def cpu_seconds(pid: int) -> float:
    """
    Return the user and system CPU time of a process, all its threads, in seconds.

    That of its children that have ended is part of it.

    Source: /proc/PID/stat, fields 14 to 17, see proc(5); usually 10 ms apart.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / CLOCK_TICKS_PER_S


def machine_cpu_seconds() -> float:
    """
    Return the CPU time spent by everything on this machine since it started.

    Source: /proc/stat, first line, without idle and iowait; guest time is part of
    user time.
    """
    line = Path("/proc/stat").read_text().partition("\n")[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
    return (user + nice + system + irq + softirq + steal) / CLOCK_TICKS_PER_S


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


def found(name: str) -> str | None:
    """Return the path of a program, also of those for administrators, if any."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{ADMIN_FOLDERS}")


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
        ServerError: it ended, or did not print its ports within START_TIMEOUT_S; or the
            block raised one.
    """
    with process(command, folder, log) as started:
        yield Server(log.stem, started.pid, _await_ports(started, log, transports))


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
        ServerError: the block raised one. The end of the log is added to it.
    """
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        yield started
    except ServerError as error:
        tail = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        said = "\n".join([f"{error}", f"-- the end of {log.name}:", *tail])
        raise ServerError(said) from None
    finally:
        _stop(started)


def _await_ports(
    process: subprocess.Popen[bytes], log: Path, transports: AbstractSet[str]
) -> dict[str, int]:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < give_up_at:
        ports = announced_ports(log.read_text(errors="replace"))
        if ports.keys() >= transports:
            return ports
        time.sleep(POLL_S)
    raise ServerError(f"{log.stem} did not start")


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


@contextmanager
def sink(folder: Path) -> Iterator[Server]:
    """Run the ceiling server, its output in ``sink.log`` of the folder."""
    command = [sys.executable, "-m", "bench.sink"]
    with running(command, REPOSITORY, folder / "sink.log", {"tcp"}) as server:
        yield server


@contextmanager
def file_sink(folder: Path) -> Iterator[Server]:
    """Run the ceiling server for files; see `bench.filesink`."""
    command = [sys.executable, "-m", "bench.filesink"]
    with running(command, REPOSITORY, folder / "file-sink.log", {"tcp"}) as server:
        yield server


@contextmanager
def durable_sink(folder: Path) -> Iterator[Server]:
    """Run the ceiling server that appends to a file of the folder."""
    command = [sys.executable, "-m", "bench.sink", "--file", str(folder / "journal")]
    log = folder / "durable-sink.log"
    with running(command, REPOSITORY, log, {"tcp"}) as server:
        yield server


@contextmanager
def datagram_sink(folder: Path, kind: str, *, batched: bool) -> Iterator[Server]:
    """Run a ceiling server for datagrams; see `bench.datagramsink`."""
    command = [sys.executable, "-m", "bench.datagramsink", kind]
    name = "loop"
    if batched:
        command.append("--batched")
        name = "batched"
    with running(command, REPOSITORY, folder / f"{name}.log", {"udp"}) as server:
        yield server


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
