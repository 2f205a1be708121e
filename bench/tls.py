"""A plain TLS 1.3 client socket that has read the greeting, for the load processes."""

from __future__ import annotations

import socket
import ssl

CIPHER = "TLS_AES_256_GCM_SHA384"
MAX_RECORD_BYTES = 16_384
ANSWER_TIMEOUT_S = 60.0


class BenchError(Exception):
    """A run that cannot be counted: refused, cut off, or answered wrongly."""


def client_context() -> ssl.SSLContext:
    """Return a TLS 1.3 context that trusts any key: the server is our own child."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """
    Open a blocking connection to 127.0.0.1 and read the start of the greeting.

    Raises:
        BenchError: another cipher was agreed, or the greeting is none.
        OSError: the connection failed or stayed silent.
    """
    connection = connect_silently(context, port)
    read_greeting(connection)
    return connection


def connect_silently(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """
    Open a blocking connection to 127.0.0.1.

    Raises:
        BenchError: another cipher was agreed.
        OSError: the connection failed.
    """
    raw = socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(raw)
    agreed = connection.cipher()
    if agreed is None or agreed[0] != CIPHER:
        raise BenchError(f"agreed on {agreed}, not on {CIPHER}")
    return connection


def read_some(connection: ssl.SSLSocket) -> bytes:
    """
    Wait for something, and return it.

    Raises:
        BenchError: the server closed the connection.
        OSError: it stayed silent.
    """
    received = connection.recv(MAX_RECORD_BYTES)
    if not received:
        raise BenchError("the server closed the connection")
    return received


def read_greeting(connection: ssl.SSLSocket) -> None:
    """
    Read the start of the greeting.

    Raises:
        BenchError: it is none.
    """
    if not read_some(connection).startswith(b"* "):
        raise BenchError("the server did not greet")


def ask(connection: ssl.SSLSocket, request: bytes) -> bytes:
    """
    Send one request line and return its last answer line, without the line end.

    Lines that begin with ``* `` (the rest of the greeting among them) are skipped.

    Raises:
        BenchError: the server closed the connection.
        OSError: the server stayed silent.
    """
    connection.sendall(request + b"\r\n")
    pending = b""
    while True:
        *lines, pending = pending.split(b"\n")
        for line in lines:
            if line.startswith((b"+OK", b"-ERR")):
                return line.rstrip(b"\r")
        received = connection.recv(MAX_RECORD_BYTES)
        if not received:
            raise BenchError(f"closed by the server instead of answering {request!r}")
        pending += received


def log_in_anonymously(connection: ssl.SSLSocket) -> None:
    """
    Say ANON.

    Raises:
        BenchError: it was refused.
    """
    answer = ask(connection, b"ANON")
    if not answer.startswith(b"+OK"):
        raise BenchError(f"ANON was answered {answer!r}")
