"""Real clamds of the tests' own, which know the EICAR test string and little else."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from unittest import SkipTest

from securerecv.scanning.home import find_program
from securerecv.scanning.place import Place
from securerecv.scanning.proofs import EICAR

START_TIMEOUT_S = 30.0

_CONFIGURATION = """\
Foreground yes
LocalSocket {folder}/clamd.sock
DatabaseDirectory {folder}/signatures
TemporaryDirectory {folder}
SelfCheck 0
AlertExceedsMax yes
AlertEncrypted yes
"""


def program() -> str:
    """
    Find clamd.

    Raises:
        SkipTest: it is not installed.
    """
    found = find_program()
    if found is None:
        raise SkipTest("clamd is not installed: apt-get install clamav-daemon")
    return found


def make_signatures(folder: Path) -> Path:
    """Make a folder of signatures that has the EICAR test string in it."""
    program()
    folder.mkdir(parents=True, exist_ok=True)
    add_signature(folder, "Eicar-Test-Signature", EICAR)
    return folder


def add_signature(folder: Path, name: str, content: bytes) -> None:
    """Add a signature for what begins with some bytes."""
    with (folder / "test.ndb").open("a") as file:
        file.write(f"{name}:0:0:{content.hex()}\n")


class Clamd:
    """
    A clamd that listens on a Unix socket, and on a TCP port if told so.

    Attributes:
        folder: its own; its signatures are in ``signatures``.
        place: of the Unix socket.

    Args:
        options: more lines for its configuration; they win.
    """

    def __init__(self, *options: str) -> None:
        # In memory, and with a path that is short enough for a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="securerecv-test-", dir="/dev/shm"))
        self.signatures = make_signatures(self.folder / "signatures")
        self.place = Place(path=str(self.folder / "clamd.sock"))
        self._process: subprocess.Popen[bytes] | None = None
        lines = _CONFIGURATION.format(folder=self.folder).splitlines()
        names = {option.partition(" ")[0] for option in options}
        kept = [line for line in lines if line.partition(" ")[0] not in names]
        self._configuration = self.folder / "clamd.conf"
        self._configuration.write_text("\n".join([*kept, *options, ""]))
        atexit.register(self.remove)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), f"--config-file={self._configuration}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "log").read_text(errors="replace")
                self.remove()
                raise RuntimeError(f"clamd: {words}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, at once and whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        Path(self.place.path).unlink(missing_ok=True)

    def remove(self) -> None:
        """End it, and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def reload(self) -> None:
        """Have it read its signatures again, and wait until it uses them."""
        before = self._reloads()
        self.place.client(START_TIMEOUT_S).reload()
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._reloads() == before:
            if time.monotonic() > deadline:
                raise RuntimeError("clamd does not reload")
            time.sleep(0.02)

    def _reloads(self) -> int:
        return (
            (self.folder / "log")
            .read_bytes()
            .count(b"Activating the newly loaded database")
        )

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self.place.path)
            except OSError:
                return False
            connection.sendall(b"nPING\n")
            return connection.recv(16) == b"PONG\n"


@cache
def clamd() -> Clamd:
    """Give the clamd of this test run; it is started when it is first wanted."""
    return Clamd()


def free_port() -> int:
    """Give a TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def descriptor_of(content: bytes) -> int:
    """Make a sealed file in memory; the caller closes it."""
    descriptor = os.memfd_create("securerecv-test")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor
