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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
LOG_TAIL_LINES = 20
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
REPOSITORY = Path(__file__).resolve().parent.parent


class ServerError(Exception):
    """A server or a load process failed, with the end of what it said."""


@dataclass(frozen=True)
class Server:
    """A running server: name, process id, TCP port on 127.0.0.1."""

    name: str
    pid: int
    port: int


def cpu_seconds(pid: int) -> float:
    """
    Return the user and system CPU time of a process, all its threads, in seconds.

    Source: /proc/PID/stat, fields 14 and 15, see proc(5); usually 10 ms apart.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


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


def announced_port(output: str) -> int | None:
    """Return the TCP port a server printed at its start, or None if not yet."""
    found = re.search(r"\btcp 127\.0\.0\.1:(\d+)", output)
    return int(found[1]) if found else None


@contextmanager
def running(command: Sequence[str], folder: Path, log: Path) -> Iterator[Server]:
    """
    Run a server for the length of a ``with`` block.

    Args:
        command: what to start; it prints ``tcp 127.0.0.1:PORT``.
        folder: its working directory.
        log: the file that takes its output.

    Raises:
        ServerError: it ended, or printed no port within START_TIMEOUT_S; or the
            block raised one. The end of the log is added to it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        yield Server(log.stem, process.pid, _await_port(process, log))
    except ServerError as error:
        tail = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        said = "\n".join([f"{error}", f"-- the end of {log.name}:", *tail])
        raise ServerError(said) from None
    finally:
        _stop(process)


def _await_port(process: subprocess.Popen[bytes], log: Path) -> int:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < give_up_at:
        port = announced_port(log.read_text(errors="replace"))
        if port is not None:
            return port
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
def securerecv(data: Path) -> Iterator[Server]:
    """Run the server under test as a user would, on TCP, with its defaults."""
    command = [find_command("twistd"), "-n", "--pidfile=", "securerecv"]
    command += ["--proto", "tcp", "--port", "0", "--interface", "127.0.0.1"]
    command += ["--data", str(data)]
    with running(command, data.parent, data.parent / "securerecv.log") as server:
        yield server


@contextmanager
def sink(folder: Path) -> Iterator[Server]:
    """Run the ceiling server, its output in ``sink.log`` of the folder."""
    command = [sys.executable, "-m", "bench.sink"]
    with running(command, REPOSITORY, folder / "sink.log") as server:
        yield server


def run_json(module: str, options: Mapping[str, object]) -> dict[str, Any]:
    """
    Run a load process to its end and return the JSON line it prints.

    Args:
        module: such as ``bench.load``.
        options: its command line, by option name without the dashes.

    Raises:
        ServerError: it failed; the message is what it said.
    """
    command = [sys.executable, "-m", module]
    for option, value in options.items():
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
