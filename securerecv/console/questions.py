"""
What the console asks before it serves: who one is, and what to receive on.

A wrong answer is told what is expected, and the question comes again.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from attrs import field, frozen

from securerecv.access.passwords import check_new_password
from securerecv.cli.terminal import visible_line
from securerecv.errors import PeerError
from securerecv.intake.accountbook import AccountBook
from securerecv.names import normalise_user_name

_Choice = TypeVar("_Choice")

MAX_WRONG_PASSWORDS = 3
"""After so many the name is asked for again: perhaps that was wrong."""


class Asker(Protocol):
    """Asks a person, and tells them things."""

    def ask(self, question: str) -> str:
        """
        Read one line, without blanks around it.

        Raises:
            EOFError: Ctrl-D.
            KeyboardInterrupt: Ctrl-C.
        """

    def ask_secret(self, question: str) -> str:
        """Read one line that is not shown, as it was typed; raises as `ask`."""

    def tell(self, words: str) -> None:
        """Show a line."""


@frozen
class Person:
    """
    Who sits at the console.

    Attributes:
        name: a user, or None for somebody anonymous.
        password: of that user.
    """

    name: str | None
    password: str = field(default="", repr=False)


_YES_OR_NO = {"yes": True, "y": True, "no": False, "n": False}
_STAYS = {"login": True, "l": True, "anonymous": False, "anon": False, "a": False}
_TRANSPORTS = {"tcp": "tcp", "t": "tcp", "udp": "udp", "u": "udp"}


def ask_person(asker: Asker, book: AccountBook, *, anonymous: bool) -> Person:
    """
    Ask who it is; a new user gets an account.

    Args:
        asker: asks.
        book: the accounts.
        anonymous: whether the server lets anonymous sessions in.
    """
    if not anonymous:
        asker.tell("Anonymous sessions are switched off here, so you need an account.")
        return _ask_user(asker, book)
    asker.tell("\nlogin      what comes is kept for you; only your password opens it")
    asker.tell("anonymous  nothing is stored: messages are shown once, as they come")
    if _choose(asker, "login or anonymous?", _STAYS, "type login or anonymous"):
        return _ask_user(asker, book)
    return Person(None)


def ask_transport(asker: Asker) -> str:
    """Ask what to receive on; gives ``tcp`` or ``udp``."""
    asker.tell("\ntcp  reliable: TLS 1.3")
    asker.tell("udp  fast: DTLS and sealed datagrams; files are welcome too")
    return _choose(asker, "tcp or udp?", _TRANSPORTS, "type tcp or udp")


def _choose(
    asker: Asker, question: str, choices: Mapping[str, _Choice], hint: str
) -> _Choice:
    while True:
        answer = asker.ask(question)
        if answer.lower() in choices:
            return choices[answer.lower()]
        asker.tell(f"{_quoted(answer)} is no answer to that: {hint}.")


def _ask_user(asker: Asker, book: AccountBook) -> Person:
    while True:
        name = _ask_name(asker)
        if book.is_there(name):
            person = _ask_password(asker, book, name)
        else:
            person = _offer_account(asker, book, name)
        if person is not None:
            return person


def _ask_name(asker: Asker) -> str:
    while True:
        written = asker.ask("user name?")
        try:
            return normalise_user_name(written)
        except PeerError as error:
            asker.tell(f"{_quoted(written)} will not do: {error.words}.")


def _ask_password(asker: Asker, book: AccountBook, name: str) -> Person | None:
    for _ in range(MAX_WRONG_PASSWORDS):
        password = asker.ask_secret(f"password of {name}?")
        try:
            book.check_password(name, password)
        except PeerError as error:
            asker.tell(f"That did not work: {error.words}.")
        else:
            return Person(name, password)
    return None


def _offer_account(asker: Asker, book: AccountBook, name: str) -> Person | None:
    asker.tell(f"There is no account {name} here yet.")
    if not _choose(asker, "create it? (yes/no)", _YES_OR_NO, "type yes or no"):
        return None
    while True:
        password = asker.ask_secret(f"new password for {name}?")
        try:
            check_new_password(password)
        except PeerError as error:
            asker.tell(f"That will not do: {error.words}.")
            continue
        if asker.ask_secret("the same again?") == password:
            break
        asker.tell("These are not the same: once more.")
    code = book.add(name, password)
    asker.tell(f"Recovery code: {code}")
    asker.tell(
        "Write it down: it is shown only now, and without it a forgotten password"
        " cannot be replaced."
    )
    return Person(name, password)


def _quoted(answer: str) -> str:
    return f'"{visible_line(answer)}"'
