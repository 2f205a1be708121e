"""What the tests of the client share."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from securerecv.net.tls import ServerTls
from securerecv.vault.certificates import self_made_certificate

Problem = TypeVar("Problem", bound=Exception)
ONE_PIN = "sha256//" + "A" * 43 + "="


def anybody(_: str) -> None:
    """Trust everybody, which only a test may do."""


async def failing(work: Awaitable[object], kind: type[Problem]) -> Problem:
    """Wait for something to fail, and give what it fails with."""
    try:
        result = await work
    except kind as error:
        return error
    raise AssertionError(f"{result!r} and no {kind.__name__}")


def server_tls(test: SynchronousTestCase) -> ServerTls:
    """Make a server's TLS identity."""
    folder = Path(test.mktemp()).absolute()
    folder.mkdir(parents=True)
    certificate, key = self_made_certificate()
    (folder / "certificate").write_bytes(certificate)
    (folder / "key").write_bytes(key)
    return ServerTls(folder / "certificate", folder / "key")
