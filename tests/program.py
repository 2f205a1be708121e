"""The server as a process of its own, started and ended as an operator would."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 30.0
"""How long something may take that should be over at once."""


def environment() -> dict[str, str]:
    """
    Give the environment for a program that uses the code of this checkout.

    Scanning is for those tests that ask for it with ``--scanner``.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SECURERECV_")}
    return clean | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "SECURERECV_SCANNER": "none",
    }


def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``securerecv`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "securerecv.cli.main", *words],
        input=given,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )


class Program:
    """
    A running program.

    Args:
        command: what to run.
        variables: more of them for its environment.
        stderr: where its standard error goes; by default to what it prints.
        pass_fds: descriptors that it inherits.
    """

    def __init__(
        self,
        *command: str,
        variables: Mapping[str, str] | None = None,
        stderr: int | IO[str] = subprocess.STDOUT,
        pass_fds: Collection[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment() | dict(variables or {}),
            pass_fds=pass_fds,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._printed: list[str] = []
        threading.Thread(target=self._gather, daemon=True).start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a line is printed that matches."""
        for line in self._printed:
            if match := re.search(pattern, line):
                return match
        while True:
            line_or_end = self._lines.get(timeout=PATIENCE_S)
            if line_or_end is None:
                self._lines.put(None)
                raise AssertionError(f"it ended:\n{''.join(self._printed)}")
            self._printed.append(line_or_end)
            if match := re.search(pattern, line_or_end.rstrip("\n")):
                return match

    def end(self, how: signal.Signals = signal.SIGTERM) -> str:
        """End it, and give everything that it printed."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(PATIENCE_S)
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self._printed.append(line)
        self._lines.put(None)
        return "".join(self._printed)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        return self._process.returncode

    def _gather(self) -> None:
        out = self._process.stdout
        if out is not None:
            for line in out:
                self._lines.put(line)
            out.close()
        self._lines.put(None)


class ServerProcess(Program):
    """
    A running server.

    Attributes:
        port: where it listens, on 127.0.0.1.

    Args:
        data: the data folder.
        words: more options.
        stderr: where its standard error goes; by default to what it prints.
    """

    def __init__(
        self, data: Path, *words: str, stderr: int | IO[str] = subprocess.STDOUT
    ) -> None:
        super().__init__(
            str(Path(sys.executable).with_name("twistd")),
            *("-n", "--pidfile=", "securerecv", "--data", str(data)),
            *("--proto", "tcp", "--port", "0", "--interface", "127.0.0.1"),
            *words,
            stderr=stderr,
        )
        self.port = int(self.wait_for(r"\btcp +127\.0\.0\.1:(\d+)")[1])


@contextlib.contextmanager
def server(data: Path, *words: str) -> Iterator[ServerProcess]:
    """Run a server for a while."""
    process = ServerProcess(data, *words)
    try:
        yield process
    finally:
        process.end()


class SClient:
    """A person at ``openssl s_client``: types lines and reads what comes."""

    def __init__(self, port: int, *words: str) -> None:
        address = f"127.0.0.1:{port}"
        self._process = subprocess.Popen(
            ["openssl", "s_client", "-connect", address, "-quiet", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._gather, daemon=True).start()

    def type(self, text: str) -> None:
        """Type lines."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(text.encode())
        stdin.flush()

    def read(self) -> str:
        """Read the next line; empty at the end."""
        return self._lines.get(timeout=PATIENCE_S).decode().rstrip("\r\n")

    def read_all(self) -> list[str]:
        """Read to the end."""
        return list(iter(self.read, ""))

    def ask(self, text: str) -> str:
        """Type a line, and read one."""
        self.type(text + "\n")
        return self.read()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def _gather(self) -> None:
        out = self._process.stdout
        with contextlib.suppress(ValueError):
            for line in out or ():
                self._lines.put(line)
        self._lines.put(b"")
