"""
clamd's protocol (clamd(8)): the ``clamd`` package's clients, made careful.

The package sends 1 KiB at a time, waits without end for a connection, and takes an
answer that was cut off for a whole one.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import clamd

from securerecv.errors import ScannerError
from securerecv.scanning.place import Peer

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 16 * 1024

_Result = TypeVar("_Result")

_LENGTH = struct.Struct("!L")
_CREDENTIALS = struct.Struct("=iII")


class _Careful(clamd.ClamdNetworkSocket):  # type: ignore[misc]  # it has no type hints
    """
    What both kinds of client have in common.

    Args:
        timeout_s: how long one command may take in all.
    """

    def __init__(self, timeout_s: float) -> None:
        self.peer = Peer()
        self._timeout_s = timeout_s
        self._aborted = False

    def abort(self) -> None:
        """Shut the connection, which wakes the thread that waits for it."""
        self._aborted = True
        # There may be no connection yet, or none any more.
        with suppress(OSError, AttributeError):
            self.clamd_socket.shutdown(socket.SHUT_RDWR)

    def scan(self, descriptor: int, size: int) -> str:
        """Have a file looked at."""
        with read_only(descriptor) as own:
            if os.fstat(own).st_size != size:
                raise ScannerError("the file has not the size that it should have")
            try:
                self._init_socket()
                with self._keeping_last_words() as said:
                    self._hand_over(own)
                return said[0] if said else self._recv_response()
            finally:
                self._close_socket()

    @contextmanager
    def _keeping_last_words(self) -> Iterator[list[str]]:
        """Take an answer that comes before everything was sent: it says why."""
        said: list[str] = []
        try:
            yield said
        except ScannerError:
            with suppress(ScannerError):
                said.append(self._recv_response())
            if not said:
                raise

    def _connect(self) -> socket.socket:
        raise NotImplementedError

    def _hand_over(self, descriptor: int) -> None:
        raise NotImplementedError

    def _init_socket(self) -> None:
        self._deadline_s = time.monotonic() + self._timeout_s
        try:
            self.clamd_socket = self._connect()
        except OSError as error:
            raise ScannerError(f"the scanner is not there ({_reason(error)})") from None
        if self._aborted:
            raise ScannerError("the server is stopping")

    def _close_socket(self) -> None:
        with suppress(AttributeError):
            self.clamd_socket.close()

    def _send_command(self, cmd: str, *args: str) -> None:
        self._send(f"n{' '.join([cmd, *args])}\n".encode())

    def _send(self, data: bytes | memoryview) -> None:
        self._attempt(lambda: self.clamd_socket.sendall(data))

    def _recv_response(self) -> str:
        """Take everything up to the end: one line, and nothing behind it."""
        answer = b""
        while data := self._attempt(lambda: self.clamd_socket.recv(4096)):
            answer += data
            if len(answer) > MAX_ANSWER_BYTES:
                raise ScannerError("the scanner gave an endless answer")
        if not answer:
            raise ScannerError("the scanner ended without an answer")
        if answer.find(b"\n") != len(answer) - 1:
            raise ScannerError("the scanner's answer is not one whole line")
        return answer[:-1].decode(errors="replace")

    def _attempt(self, work: Callable[[], _Result]) -> _Result:
        left_s = self._deadline_s - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError  # noqa: TRY301 - the same as from the socket
            self.clamd_socket.settimeout(left_s)
            return work()
        except TimeoutError:
            raise ScannerError("the scanner took too long") from None
        except OSError as error:
            if self._aborted:
                raise ScannerError("the server is stopping") from None
            raise ScannerError(
                f"the scanner ended without an answer ({_reason(error)})"
            ) from None


class UnixClient(_Careful):
    """
    Hands descriptors over (``FILDES``): clamd writes no copy of the file.

    Args:
        path: of the socket.
        timeout_s: how long one command may take in all.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._path = path

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(min(CONNECT_TIMEOUT_S, self._timeout_s))
            connection.connect(self._path)
            packed = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except OSError:
            connection.close()
            raise
        pid, uid, _ = _CREDENTIALS.unpack(packed)
        self.peer = Peer(pid, uid)
        return connection

    def _hand_over(self, descriptor: int) -> None:
        self._send_command("FILDES")
        self._attempt(lambda: socket.send_fds(self.clamd_socket, [b"\0"], [descriptor]))


class TcpClient(_Careful):
    """
    Sends files in clear (``INSTREAM``), in large chunks.

    Args:
        host: name or address.
        port: the same.
        timeout_s: how long one command may take in all.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._address = host, port

    def _connect(self) -> socket.socket:
        timeout_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        return socket.create_connection(self._address, timeout_s)

    def _hand_over(self, descriptor: int) -> None:
        self._send_command("INSTREAM")
        buffer = memoryview(bytearray(_LENGTH.size + CHUNK_BYTES))
        at = 0
        while count := os.preadv(descriptor, [buffer[_LENGTH.size :]], at):
            _LENGTH.pack_into(buffer, 0, count)
            self._send(buffer[: _LENGTH.size + count])
            at += count
        self._send(_LENGTH.pack(0))


@contextmanager
def read_only(descriptor: int) -> Iterator[int]:
    """
    Open a file once more, from its beginning, so that it cannot be changed.

    What a passed descriptor and ours share is their position, which clamd moves
    about, and the right to write.
    """
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ScannerError(f"the file cannot be opened ({_reason(error)})") from None
    try:
        yield own
    finally:
        os.close(own)


def _reason(error: OSError) -> str:
    return (error.strerror or "no answer in time").lower()
