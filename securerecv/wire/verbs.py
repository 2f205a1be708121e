"""
Every request that there is: one table.

Parsing, usage lines, help, permissions and the reference in
``docs/protocol.md`` all come from `VERBS`.
"""

import re
from enum import Enum
from typing import Final

from attrs import Factory, field, frozen


class Standing(Enum):
    """Who is speaking."""

    NEW = "new"
    ANONYMOUS = "anonymous"
    USER = "user"

    # There is one of each.  By name, as of any Enum, takes longer.
    __hash__ = object.__hash__


EVERYONE: Final = frozenset(Standing)
NEWCOMERS: Final = frozenset({Standing.NEW})
INSIDERS: Final = frozenset({Standing.ANONYMOUS, Standing.USER})
USERS: Final = frozenset({Standing.USER})


@frozen
class Argument:
    """
    One argument of a request.

    Attributes:
        name: as shown in the usage line.
        pattern: a regular expression for its text.
        optional: it may be left out; only the last one may.
    """

    name: str
    pattern: str
    optional: bool = False

    @property
    def usage(self) -> str:
        """How it stands in the usage line."""
        return f"[{self.name}]" if self.optional else f"<{self.name}>"

    def regex(self) -> str:
        """Give the expression for the argument and the blanks before it."""
        # The rest of a line begins after exactly one blank: it is taken as
        # it was typed.
        blanks = " " if self.pattern == _REST else " +"
        expression = f"{blanks}({self.pattern})"
        return f"(?:{expression})?" if self.optional else expression


_REST = r".+"
_WORD = r"[^ ]+"
_ONE_OR_TWO_WORDS = r"[^ ]+(?: +[^ ]+)?"
_NUMBER = r"[0-9]{1,18}"
_SHA256 = r"[0-9a-fA-F]{64}"


def _pattern(arguments: tuple[Argument, ...]) -> re.Pattern[str]:
    parts = "".join(argument.regex() for argument in arguments)
    return re.compile(parts + " *", re.DOTALL)


@frozen
class Verb:
    """
    One request.

    Attributes:
        name: in capitals; it is understood in any case.
        arguments: what follows it.
        who: whose request is taken.
        help: one line for ``HELP``.
        has_payload: its last argument is the size of a payload that follows.
        pattern: matches the line after the verb; one group an argument.
    """

    name: str
    arguments: tuple[Argument, ...]
    who: frozenset[Standing]
    help: str
    has_payload: bool = False
    pattern: re.Pattern[str] = field(
        default=Factory(lambda self: _pattern(self.arguments), takes_self=True),
        repr=False,
    )

    @property
    def usage(self) -> str:
        """The line that shows how it is written."""
        return " ".join([self.name, *(argument.usage for argument in self.arguments)])


_TO = Argument("to", _WORD)
_ID = Argument("id", _WORD)
_BYTES = Argument("bytes", _NUMBER)

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb(
            "HELP",
            (Argument("verb", _ONE_OR_TWO_WORDS, optional=True),),
            EVERYONE,
            "list every command, or explain one",
        ),
        Verb("NOTICE", (), EVERYONE, "show the legal notice"),
        Verb("PING", (), EVERYONE, "see whether the server answers"),
        Verb("WHOAMI", (), EVERYONE, "show who you are here"),
        Verb("QUIT", (), EVERYONE, "end the conversation"),
        Verb("KEY", (), EVERYONE, "show the server's key for sealed datagrams"),
        Verb(
            "LOGIN",
            (
                Argument("user", _WORD),
                Argument("password to end of line", _REST),
            ),
            NEWCOMERS,
            "log in",
        ),
        Verb("ANON", (), NEWCOMERS, "go on without a name; shows your address"),
        Verb(
            "SAY",
            (_TO, Argument("text to end of line", _REST)),
            INSIDERS,
            "send one line to a user or an anon- address",
        ),
        Verb(
            "SEND",
            (_TO, _BYTES),
            INSIDERS,
            "send a message of that many bytes, which follow the line",
            has_payload=True,
        ),
        Verb(
            "LAST",
            (Argument("n", _NUMBER, optional=True),),
            INSIDERS,
            "show the last messages in your box, oldest first",
        ),
        Verb("READ", (_ID,), INSIDERS, "show one message"),
        Verb("DROP", (_ID,), INSIDERS, "delete one message or file"),
        Verb(
            "PUT",
            (
                _TO,
                _BYTES,
                Argument("sha256 in hex", _SHA256),
                Argument("name to end of line", _REST),
            ),
            INSIDERS,
            "send a file",
        ),
        Verb("FILES", (), INSIDERS, "list your files"),
        Verb(
            "GET",
            (_ID, Argument("offset", _NUMBER, optional=True)),
            INSIDERS,
            "fetch a file that was found clean, or a message",
        ),
        Verb("WATCH", (), INSIDERS, "show what comes in as it comes"),
        Verb("UNWATCH", (), INSIDERS, "stop showing what comes in"),
        Verb(
            "TOKEN NEW",
            (Argument("label", _REST),),
            USERS,
            "make a token with which a device sends sealed datagrams",
        ),
        Verb("TOKEN LIST", (), USERS, "list your tokens"),
        Verb("TOKEN DROP", (_ID,), USERS, "delete a token"),
        Verb(
            "PASSWD",
            (Argument("new password to end of line", _REST),),
            USERS,
            "change your password",
        ),
    )
}

FAMILIES: Final[dict[str, tuple[Verb, ...]]] = {
    family: tuple(verb for verb in VERBS.values() if verb.name.startswith(family + " "))
    for family in {name.partition(" ")[0] for name in VERBS if " " in name}
}
"""Verbs of two words, by the first."""


def find(words: str) -> tuple[Verb | None, str]:
    """
    Find the verb that a line begins with.

    Args:
        words: a request line, without tag and line end.

    Returns:
        The verb, or None, and what follows it in the line.
    """
    name, _, _ = words.partition(" ")
    # Of other scripts, some letters have capitals in this one.
    upper = name.upper() if name.isascii() else name
    rest = words[len(name) :]
    if upper in FAMILIES:
        second = rest.lstrip(" ").partition(" ")[0]
        upper = f"{upper} {second.upper()}"
        rest = rest.lstrip(" ")[len(second) :]
    return VERBS.get(upper), rest


def usage_of(words: str) -> str:
    """
    Give the usage line for a request that was not understood.

    It is that of the verb in the line, of its family if only the first word
    of two was right, and otherwise the way to the list of all verbs.
    """
    verb, _ = find(words)
    if verb is not None:
        return verb.usage
    family = FAMILIES.get(words.partition(" ")[0].upper())
    if family is not None:
        return " | ".join(member.usage for member in family)
    return "HELP lists every command"
