"""What the parts of the server ask of each other, where they must not import."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class PasswordFile(Protocol):
    """Where password hashes are kept (`securerecv.vault.store.Store`)."""

    def password_hash(self, name: str) -> Deferred[bytes | None]:
        """
        Look a user up.

        Args:
            name: normalised.

        Returns:
            A bcrypt string, or None if there is no such user.
        """


class VerdictKind(Enum):
    """What a scan can come to."""

    CLEAN = "clean"
    INFECTED = "infected"
    HELD = "held"


@frozen
class Verdict:
    """
    What the scanner says of a file.

    Attributes:
        kind: CLEAN only where it said so in as many words.
        words: one line; empty for CLEAN, the signature's name for INFECTED, and
            for HELD why nobody may have the file.
        database: the signatures that it was looked at with, to be compared with
            `Scanner.database_version`; None where that is not known.
        is_lasting: of HELD, the same scanner says the same of this file each
            time: it is encrypted, say.
    """

    kind: VerdictKind
    words: str = ""
    database: str | None = None
    is_lasting: bool = False


class Scanner(Protocol):
    """
    What looks for malware (`securerecv.intake.scanner`).

    Attributes:
        refusal: why no file can ever be scanned as things are, in words for who
            sends one; empty where files are taken.  It may change.
    """

    @property
    def refusal(self) -> str:
        """See above."""

    def scan(self, descriptor: int, size: int) -> Deferred[Verdict]:
        """
        Look at a file; never fails, whatever is unexpected is HELD.

        Args:
            descriptor: of an open memfd; stays the caller's, who keeps it open
                until there is a verdict.  Its position is not used or changed.
            size: of the file, bytes.
        """

    def database_version(self) -> Deferred[str | None]:
        """
        Tell which signatures a scan would use now; seconds old at most.

        Returns:
            Words to be compared with `Verdict.database`, or None where that
            cannot be told: then a file must be scanned again.
        """

    def when_back(self, call: Callable[[], None]) -> None:
        """
        Have something called each time that the scanner answers again.

        It is called in the reactor's thread, after a time in which scans were
        HELD because the scanner could not be reached, and also when it is
        reached for the first time.
        """
