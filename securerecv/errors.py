"""What can go wrong, and whose fault it is."""

from enum import Enum


class ErrorCode(Enum):
    """The codes of a ``-ERR`` line, ``docs/protocol.md`` section 3."""

    USAGE = "usage"
    LOGIN_FIRST = "login-first"
    AUTH = "auth"
    BUSY = "busy"
    RATE = "rate"
    TOO_LARGE = "too-large"
    NO_MAILBOX = "no-mailbox"
    NO_SUCH_ID = "no-such-id"
    NOT_ALLOWED = "not-allowed"
    NOT_CLEAN = "not-clean"
    INFECTED = "infected"
    NO_SCANNER = "no-scanner"
    FULL = "full"
    MISMATCH = "mismatch"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class SecurerecvError(Exception):
    """The base of everything that this package raises on purpose."""


class PeerError(SecurerecvError):
    """
    The other end asked for what it cannot have; it is told so and goes on.

    Attributes:
        code: which of the protocol's error codes it is.
        words: one line for a person, without a line end.
    """

    def __init__(self, code: ErrorCode, words: str) -> None:
        super().__init__(f"{code.value} {words}")
        self.code = code
        self.words = words


class OperatorError(SecurerecvError):
    """The settings, the data folder or the machine must be mended first."""


class MisuseError(SecurerecvError):
    """A programmer called something in a way that it does not allow."""


class StorageError(SecurerecvError):
    """The store could not do what was asked; nothing was half done."""


class StorageFullError(StorageError):
    """The store has no room left; nothing was half done."""


class ScannerError(SecurerecvError):
    """
    The scanner cannot be reached, or does not say what it should.

    Its words are for people who wait for a file: they name no path or address.
    """
