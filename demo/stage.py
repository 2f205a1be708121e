"""What the demo plays on: a folder of its own, a server, and commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import define, field

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE_S = 30.0
PASSWORD = "correct horse battery staple"
_POLL_S = 0.05


class DemoError(Exception):
    """Something did not come out as it should."""


@define
class Stage:
    """
    Where the demo plays.

    Attributes:
        folder: everything is in it, and it is removed at the end.
        server: ``HOST:PORT``, once it runs.
        pin: of the server's key.
    """

    folder: Path
    server: str = ""
    pin: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log: IO[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.folder / "data"

    @property
    def signatures(self) -> Path:
        """The folder of virus signatures."""
        return self.folder / "signatures"

    @property
    def port(self) -> str:
        """The server's port."""
        return self.server.rpartition(":")[2]

    def run(
        self, command: str, *words: str, given: bytes = b"", refused: bool = False
    ) -> str:
        """
        Run a ``securerecv`` command.

        Args:
            command: its name.
            *words: what follows it.
            given: its standard input.
            refused: it must end with exit code 1, and not with 0.

        Returns:
            What it printed, and the complaint if it was refused.

        Raises:
            DemoError: it ended otherwise.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "securerecv.cli.main", command, *words],
            input=given,
            capture_output=True,
            env=self._environment(),
            cwd=self.folder,
            timeout=PATIENCE_S,
            check=False,
        )
        said = (ended.stdout + ended.stderr).decode(errors="replace")
        if ended.returncode != int(refused):
            shown = " ".join([command, *words])
            raise DemoError(f"securerecv {shown} ended with {ended.returncode}: {said}")
        return said

    def ask(self, command: str, *words: str, user: str, refused: bool = False) -> str:
        """Run a client's command as a user."""
        way = (self.server, "--pin", self.pin, "--user", user)
        return self.run(command, *way, *words, refused=refused)

    def tell(self, command: str, *words: str, given: bytes = b"") -> str:
        """Run a client's command as somebody anonymous."""
        return self.run(command, self.server, "--pin", self.pin, *words, given=given)

    def start_server(self, *words: str) -> None:
        """
        Start the server, and wait until it has said where it is.

        Raises:
            DemoError: it ended, or said nothing.
        """
        log = self.folder / "server.log"
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [
                *(_program("twistd"), "-n", "--pidfile=", "securerecv"),
                *("--data", str(self.data), "--interface", "127.0.0.1", *words),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            cwd=self.folder,
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            said = log.read_text(errors="replace")
            where = re.search(r"(?:tcp|udp) +(127\.0\.0\.1:\d+)", said)
            pin = re.search(r"(sha256//\S{44})", said)
            # The banner ends with what to type next.
            if where and pin and "Type next" in said:
                self.server, self.pin = where[1], pin[1]
                return
            time.sleep(_POLL_S)
        raise DemoError(f"the server did not start: {log.read_text(errors='replace')}")

    def end_server(self) -> None:
        """End it, if it runs, as Ctrl-C does."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._log is not None:
            self._log.close()

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SECURERECV_")}
        # Not the person's own list of known servers, and the code that is here.
        return clean | {
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "config"),
            "SECURERECV_PASSWORD": PASSWORD,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
        }


@contextmanager
def stage() -> Iterator[Stage]:
    """Set up a stage, and leave nothing of it."""
    with tempfile.TemporaryDirectory(prefix="securerecv-demo-") as folder:
        built = Stage(Path(folder))
        try:
            yield built
        finally:
            built.end_server()


def _program(name: str) -> str:
    """
    Find a program, first beside this Python.

    Raises:
        DemoError: it is not installed.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside + os.pathsep + os.environ.get("PATH", ""))
    if found is None:
        raise DemoError(f"there is no {name}: install securerecv first, with make run")
    return found
