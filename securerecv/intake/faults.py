"""What a peer is told when something failed: the one place that decides it."""

import secrets
from typing import Any

from twisted.cred.error import UnauthorizedLogin, UnhandledCredentials
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.errors import ErrorCode, PeerError, StorageFullError

_log = Logger()


def explain(failure: "Failure | Any") -> PeerError:
    """
    Turn a failure into what the peer may know of it.

    Whatever is not the peer's own fault gets a number, which the log repeats
    beside the whole story.
    """
    error = failure.value
    if isinstance(error, PeerError):
        return error
    if isinstance(error, UnhandledCredentials):
        return PeerError(ErrorCode.NOT_ALLOWED, "this server wants a login")
    if isinstance(error, UnauthorizedLogin):
        return PeerError(ErrorCode.AUTH, "user name or password is wrong")
    number = secrets.token_hex(4)
    _log.failure("internal error {number}", failure=failure, number=number)
    if isinstance(error, StorageFullError):
        return PeerError(
            ErrorCode.FULL, f"no room is left; the log says more: {number}"
        )
    return PeerError(ErrorCode.INTERNAL, f"the log says more: {number}")
