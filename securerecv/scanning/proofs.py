"""
Files that show how far a clamd can be relied on.

clamd answers ``OK`` for what it did not look at, unless its configuration says
otherwise; only trying shows it.  None of these files can do harm.
"""

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from securerecv.errors import ScannerError
from securerecv.interfaces import Verdict, VerdictKind
from securerecv.scanning.place import Client
from securerecv.scanning.verdicts import judge

# In two parts, so that nobody's scanner takes this file for the test file.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The test string of https://www.eicar.org, which every scanner reports."""

_DEPTH = 120
"""clamd can be set to look at most 100 deep (``CLI_MAX_MAXRECLEVEL``)."""

MIN_BEHIND_BYTES = 1024

_ENCRYPTED = 0x1
_FLAGS_IN_HEADER = 6
_FLAGS_IN_DIRECTORY = 8
_PIECE_BYTES = 1 << 20


@cache
def nested() -> bytes:
    """Make an archive that is deeper than any clamd looks."""
    content = b"securerecv"
    for _ in range(_DEPTH):
        content = _zip(content)
    return content


@cache
def encrypted() -> bytes:
    """Make an archive that says it is encrypted."""
    content = bytearray(_zip(bytes(64)))
    content[_FLAGS_IN_HEADER] |= _ENCRYPTED
    content[content.index(b"PK\1\2") + _FLAGS_IN_DIRECTORY] |= _ENCRYPTED
    return bytes(content)


@contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """Give a descriptor of a file that is on no disk."""
    descriptor = os.memfd_create("securerecv-proof", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def eicar_behind(size: int) -> Iterator[int]:
    """
    Make an archive of exactly a size, with the EICAR test string at its end.

    Args:
        size: bytes, `MIN_BEHIND_BYTES` at least.
    """
    descriptor = os.memfd_create("securerecv-proof", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            _write_eicar_behind(file, 0)
            left = size - file.tell()
            file.seek(0)
            _write_eicar_behind(file, left)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_eicar_behind(file: io.BufferedWriter, padding: int) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("padding", "w") as member:
            while padding:
                piece = min(padding, _PIECE_BYTES)
                member.write(bytes(piece))
                padding -= piece
        archive.writestr("eicar.com", EICAR)


def looks_into_members(client: Client, size: int) -> bool:
    """
    Tell whether a file in an archive is looked at to its end, or is reported.

    Args:
        client: asked.
        size: of the file, bytes; the archive is a thousand times smaller.
    """
    file = io.BytesIO()
    with (
        eicar_behind(size) as descriptor,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w") as member,
    ):
        at = 0
        while piece := os.pread(descriptor, _PIECE_BYTES, at):
            member.write(piece)
            at += len(piece)
    return scan(client, file.getvalue()).kind is not VerdictKind.CLEAN


def scan(client: Client, content: bytes) -> Verdict:
    """Have bytes looked at."""
    with in_memory(content) as descriptor:
        return judge(client.scan(descriptor, len(content)))


def admits(client: Client, content: bytes) -> bool:
    """
    Tell whether clamd says of bytes that it cannot look into all of them.

    Raises:
        ScannerError: it says neither that nor that they are clean.
    """
    verdict = scan(client, content)
    if verdict.kind is VerdictKind.HELD and not verdict.is_lasting:
        raise ScannerError(verdict.words)
    return verdict.kind is VerdictKind.HELD


def finds_behind(client: Client, size: int) -> bool:
    """Tell whether the test string is found at the end of that many bytes."""
    with eicar_behind(size) as descriptor:
        return judge(client.scan(descriptor, size)).kind is VerdictKind.INFECTED


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", content)
    return file.getvalue()
