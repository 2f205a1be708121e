"""The owner of a box, who sees when a file is there and when it is clean."""

from __future__ import annotations

import threading
import time

from bench.logins import PASSWORD
from bench.tls import BenchError, ask, client_context, connect, read_some

TIMEOUT_S = 300.0
CLEAN = b"clean"


class FileWatcher(threading.Thread):
    """
    Watches box b0 until there is a verdict on one file, and deletes the file then.

    Args:
        port: the server's for TCP, on 127.0.0.1.

    Attributes:
        durable: set when the file is said to be there.
        over: set when nothing more will be said.
        state: the verdict, with the reason if the file is not clean.
        verdict_s: when the file's last state came, on `time.perf_counter`.

    Raises:
        BenchError: the login was refused.
        OSError: the connection failed.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.durable = threading.Event()
        self.over = threading.Event()
        self.state = ""
        self.verdict_s = 0.0
        self._sock = connect(client_context(), port)
        for request in (f"LOGIN b0 {PASSWORD}", "WATCH"):
            answer = ask(self._sock, request.encode())
            if not answer.startswith(b"+OK"):
                raise BenchError(f"{request.split()[0]} was answered {answer!r}")
        self._sock.settimeout(TIMEOUT_S)

    def run(self) -> None:
        """Take lines until there is a verdict."""
        try:
            pending = b""
            while not self.over.is_set():
                *lines, pending = (pending + read_some(self._sock)).split(b"\n")
                for line in lines:
                    self._take(line)
        except (BenchError, OSError):
            # Whoever waits sees that there is no verdict.
            self.durable.set()
            self.over.set()

    def _take(self, line: bytes) -> None:
        pushed, kind, file_id, rest = (*line.rstrip().split(b" ", 3), b"", b"", b"")[:4]
        if pushed != b"!":
            return
        state = rest.partition(b" ")[0]
        if kind == b"FILE":
            self.durable.set()
            self.verdict_s = time.perf_counter()
        if kind == b"FILE" and state == CLEAN:
            self._end(file_id, state)
        elif kind == b"WHY":
            self._end(file_id, b"not clean: " + rest)

    def _end(self, file_id: bytes, state: bytes) -> None:
        self.state = state.decode()
        ask(self._sock, b"DROP " + file_id)
        self.over.set()

    def await_durable(self) -> None:
        """
        Wait until the file is said to be there.

        Raises:
            BenchError: it is not.
        """
        if not self.durable.wait(TIMEOUT_S):
            raise BenchError("the owner was not told of the file")

    def await_verdict(self) -> str:
        """
        Wait for the verdict, and return it.

        Raises:
            BenchError: there is none.
        """
        self.over.wait(TIMEOUT_S)
        if not self.state:
            raise BenchError("there is no verdict on the file")
        return self.state
