"""
Names that come from outside: who may be called what, and how it is compared.

A name is data.  It is never part of a path, a statement or a log line.
"""

import secrets
import unicodedata
from base64 import b32encode

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    ANONYMOUS_ADDRESS_CHARACTERS,
    MAX_FILE_NAME_BYTES,
    MAX_NAME_CHARACTERS,
)

ANONYMOUS = "anon"
"""Shown as the sender of what an anonymous session sends."""

_ADDRESS_PREFIX = "anon-"
"""Every anonymous address begins with it, and no user name does."""

_PUNCTUATION = "_.@+-"

# Control characters, line ends of Unicode's own, and what is no text at all.
_NOT_IN_FILE_NAMES = frozenset({"Cc", "Zl", "Zp", "Cs"})
_MAX_WRITTEN_CHARACTERS = 4 * MAX_NAME_CHARACTERS
_TOO_LONG = f"a user name has at most {MAX_NAME_CHARACTERS} characters"


def normalise_user_name(name: str) -> str:
    """
    Bring a user name into the one form in which names are compared.

    Compatibility characters are composed and case is folded (Unicode NFKC
    and case folding, as in RFC 8265's UsernameCaseMapped), so that ``Alice``
    and ``alice`` are one account.

    Args:
        name: as typed by a person.

    Returns:
        1 to `MAX_NAME_CHARACTERS` letters, digits and ``_ . @ + -``, the
        first a letter, a digit or ``_``.

    Raises:
        PeerError: ``usage``; it is no name, or one that is reserved for
            anonymous sessions.
    """
    # Long before anything is done with it: composing takes long on long ones.
    if len(name) > _MAX_WRITTEN_CHARACTERS:
        raise PeerError(ErrorCode.USAGE, _TOO_LONG)
    folded = unicodedata.normalize(
        "NFKC", unicodedata.normalize("NFKC", name).casefold()
    )
    if len(folded) > MAX_NAME_CHARACTERS:
        raise PeerError(ErrorCode.USAGE, _TOO_LONG)
    if not all(map(_may_be_in_name, folded)) or not _may_begin_name(folded[:1]):
        raise PeerError(
            ErrorCode.USAGE,
            "a user name is made of letters, digits and _ . @ + -,"
            " and begins with a letter or digit",
        )
    if folded == ANONYMOUS or is_anonymous_address(folded):
        raise PeerError(
            ErrorCode.USAGE, "names that begin with anon- and anon itself are reserved"
        )
    return folded


def _may_be_in_name(letter: str) -> bool:
    # Letters, numbers, and the marks that some scripts put on letters.
    return letter in _PUNCTUATION or unicodedata.category(letter)[0] in "LNM"


def _may_begin_name(letter: str) -> bool:
    return letter == "_" or letter.isalnum()


def is_anonymous_address(name: str) -> bool:
    """Tell whether a recipient is an anonymous session and not a user."""
    return name.startswith(_ADDRESS_PREFIX)


def id_of(written: str, size: int) -> bytes | None:
    """
    Read an id that a peer wrote.

    Args:
        written: hexadecimal digits, if it is one.
        size: how many bytes it has.

    Returns:
        The id, or None if it is none.
    """
    try:
        raw = bytes.fromhex(written)
    except ValueError:
        return None
    return raw if len(raw) == size else None


def file_name(written: str) -> str:
    r"""
    Give the name of a file without the folders that it was in.

    Args:
        written: by a sender, who may mean harm.

    Returns:
        What is behind the last ``/`` or ``\``: 1 to `MAX_FILE_NAME_BYTES` bytes
        of UTF-8 in one line, not ``.`` or ``..``.

    Raises:
        PeerError: ``usage``; that is no name.
    """
    name = written.replace("\\", "/").rpartition("/")[2]
    if not name.strip() or name in (".", ".."):
        raise PeerError(ErrorCode.USAGE, "this is no file name")
    if any(unicodedata.category(letter) in _NOT_IN_FILE_NAMES for letter in name):
        raise PeerError(
            ErrorCode.USAGE, "a file name is one line without control characters"
        )
    if len(name.encode()) > MAX_FILE_NAME_BYTES:
        words = f"a file name has at most {MAX_FILE_NAME_BYTES} bytes"
        raise PeerError(ErrorCode.USAGE, words)
    return name


def new_anonymous_address() -> str:
    """
    Make the address of a new anonymous session.

    Its 16 characters carry 80 random bits: an address cannot be guessed, so
    knowing it is being entitled to send to it.
    """
    # Base 32 (RFC 4648 section 6): 5 bits a character.
    random = secrets.token_bytes(ANONYMOUS_ADDRESS_CHARACTERS * 5 // 8)
    return _ADDRESS_PREFIX + b32encode(random).decode().lower()
