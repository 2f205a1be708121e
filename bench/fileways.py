"""How a file is sent to each kind of server."""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from bench.filewatcher import TIMEOUT_S, FileWatcher
from bench.tls import (
    BenchError,
    ask,
    client_context,
    connect,
    connect_silently,
    read_some,
)
from securerecv.client import Client, ServerAddress, connect_udp
from securerecv.client.outgoing import outgoing
from securerecv.wire import pathmtu

PIECE_BYTES = 1 << 20
NAME = "bench.bin"


class Way(Protocol):
    """
    One way to send, made ready when it is made.

    Args:
        given: the load's command line.
        content: of the file.
    """

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        """See above."""

    def send(self) -> float | None:
        """
        Send; return when the server says that it has the file.

        Returns:
            How many seconds it took, where somebody else measures that.
        """

    def figures(self) -> Mapping[str, float | str]:
        """Wait for what comes behind, and tell of it."""


class Plain:
    """Over TLS, to a server that keeps nothing."""

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        self._request = f"PUT b0 {len(content)} {digest} {NAME}".encode()
        self._content = memoryview(content)
        self.sock = connect(client_context(), given.port)
        self.last_byte_s = 0.0
        if not ask(self.sock, b"ANON").startswith(b"+OK"):
            raise BenchError("ANON was refused")

    def upload(self) -> None:
        """Send everything."""
        answer = ask(self.sock, self._request).split()
        if answer[:2] != [b"+OK", b"go"] or answer[3] != b"0":
            raise BenchError(f"PUT was answered {answer!r}")
        for at in range(0, len(self._content), PIECE_BYTES):
            self.sock.sendall(self._content[at : at + PIECE_BYTES])
        self.last_byte_s = time.perf_counter()

    def send(self) -> None:
        """Send, and wait for the answer."""
        self.upload()
        answer = read_some(self.sock)
        if not answer.startswith(b"+OK received "):
            raise BenchError(f"the file was answered {answer!r}")

    def figures(self) -> Mapping[str, float | str]:
        """Tell of nothing."""
        return {}


class OverTls(Plain):
    """Over TLS, to ours: the owner of the box sees when it is durable, and clean."""

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        super().__init__(given, content)
        self._watcher = FileWatcher(given.port)
        self._watcher.start()

    def send(self) -> None:
        """Send, and wait until the file is durable."""
        self.upload()
        self._watcher.await_durable()

    def figures(self) -> Mapping[str, float | str]:
        """Tell how long it took from the last byte to the verdict, and that."""
        state = self._watcher.await_verdict()
        verdict_s = self._watcher.verdict_s - self.last_byte_s
        return {"state": state, "verdict_s": round(verdict_s, 4)}


class OverUdp:
    """Over UDP, by the project's own client; `given.longest` bounds its datagrams."""

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        longest = given.longest or pathmtu.SIZES[-1]
        sizes = tuple(size for size in pathmtu.SIZES if size <= longest)
        patch.object(pathmtu, "SIZES", sizes).start()
        run = {"installSignalHandlers": False}
        threading.Thread(target=self._reactor.run, kwargs=run, daemon=True).start()
        self._watcher = FileWatcher(given.tcp_port)
        self._watcher.start()
        self._failed: list[object] = []
        self._client, self._file = self._wait(self._begin, given.port, content)

    def _wait(self, function: Callable[..., Any], *words: Any) -> Any:
        return blockingCallFromThread(
            self._reactor, lambda: Deferred.fromCoroutine(function(*words))
        )

    async def _begin(self, port: int, content: bytes) -> tuple[Client, Any]:
        address = ServerAddress("127.0.0.1", port)
        client = await connect_udp(self._reactor, address, _trust_anyone)
        await client.anonymous()
        return client, await outgoing(BytesIO(content), NAME)

    def send(self) -> None:
        """Send, and wait until the file is durable."""
        self._reactor.callFromThread(self._put)
        self._watcher.await_durable()

    def _put(self) -> None:
        self._client.put("b0", self._file).addErrback(self._give_up)

    def _give_up(self, failure: object) -> None:
        self._failed.append(failure)
        self._watcher.durable.set()
        self._watcher.over.set()

    def figures(self) -> Mapping[str, float | str]:
        """Wait for the verdict."""
        if self._failed:
            raise BenchError(str(self._failed[0]))
        return {"state": self._watcher.await_verdict()}


def _trust_anyone(_pin: str) -> None:
    """Take any key: the server is our own child."""


class Http:
    """Over HTTPS, by PUT."""

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        self._content = memoryview(content)
        self._sock = connect_silently(client_context(), given.port)

    def send(self) -> None:
        """Send, and wait for the answer."""
        head = f"PUT /{NAME} HTTP/1.1\r\nHost: x\r\n"
        head += f"Content-Length: {len(self._content)}\r\n\r\n"
        self._sock.sendall(head.encode())
        for at in range(0, len(self._content), PIECE_BYTES):
            self._sock.sendall(self._content[at : at + PIECE_BYTES])
        answer = read_some(self._sock)
        if not answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 204 ")):
            raise BenchError(f"PUT was answered {answer[:100]!r}")

    def figures(self) -> Mapping[str, float | str]:
        """Tell of nothing."""
        return {}


class Program:
    """
    By a program, which `given.command` starts; its server puts it at `given.kept`.

    In the command ``{file}`` stands for the file, and ``{port}`` for the server's.
    """

    _SETTLE_S = 0.2
    _POLL_S = 0.005
    _PATIENCE_S = 10.0

    def __init__(self, given: argparse.Namespace, content: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-file-")
        self._file = Path(self._folder.name) / NAME
        self._file.write_bytes(content)
        command = given.command.format(file=self._file, port=given.port)
        self._command = command.split()
        self._kept: Path = given.kept
        self._kept.unlink(missing_ok=True)
        self._bytes = len(content)

    def send(self) -> float | None:
        """Run it; what it calls its elapsed time is believed."""
        from_s = time.perf_counter()
        try:
            done = subprocess.run(
                self._command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self._command[0]} does not end") from None
        if done.returncode:
            raise BenchError(f"{self._command[0]}: {done.stdout[-500:]}")
        self._await_whole()
        elapsed_s = time.perf_counter() - from_s
        # What its server has spent is known when its children have ended.
        time.sleep(self._SETTLE_S)
        said = re.findall(r"elapsed time: ([\d.]+) seconds", done.stdout)
        return float(said[-1]) if said else elapsed_s

    def _await_whole(self) -> None:
        """Look at what is kept: the last of it may be written when the sender ends."""
        give_up_at = time.monotonic() + self._PATIENCE_S
        while (size := self._size_kept()) != self._bytes:
            if time.monotonic() > give_up_at:
                raise BenchError(f"of {self._bytes:,} bytes there are {size:,}")
            time.sleep(self._POLL_S)

    def _size_kept(self) -> int:
        return self._kept.stat().st_size if self._kept.exists() else 0

    def figures(self) -> Mapping[str, float | str]:
        """Clean up."""
        self._folder.cleanup()
        return {}


WAYS: Mapping[str, type[Way]] = {
    "plain": Plain,
    "tls": OverTls,
    "udp": OverUdp,
    "http": Http,
    "program": Program,
}
