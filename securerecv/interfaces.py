"""What the parts of the server ask of each other, where they must not import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from securerecv.errors import PeerError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@frozen
class ReceivedMessage:
    """
    A message for a user, in clear.

    Attributes:
        id: 16 hexadecimal digits.
        to: the user's normalised name.
        sender: a user's normalised name, or ``anon``.
        when_ms: when it came in, milliseconds since 1970, the server's clock.
        body: the text or bytes that were sent.
    """

    id: str
    to: str
    sender: str
    when_ms: int
    body: bytes = field(repr=False)

    @property
    def when(self) -> datetime:
        """When it came in, UTC."""
        return datetime.fromtimestamp(self.when_ms / 1000, UTC)

    @property
    def text(self) -> str:
        """The body as UTF-8; what is no UTF-8 is replaced."""
        return self.body.decode(errors="replace")


@frozen
class ReceivedFile:
    """
    A file for a user, as far as it has come; its content is its owner's alone.

    Attributes:
        id: 16 hexadecimal digits.
        to: the user's normalised name.
        state: ``scanning``, ``clean``, ``infected`` or ``held``.
        size: bytes.
        sha256: of the content, 64 hexadecimal digits.
        sender: a user's normalised name, or ``anon``.
        when_ms: when it was announced, milliseconds since 1970, the server's clock.
        name: what the sender calls it; never a path, and never to be used as one.
        why: why it is infected or held, in one line.
    """

    id: str
    to: str
    state: str
    size: int
    sha256: str
    sender: str
    when_ms: int
    name: str = field(repr=False)
    why: str = ""

    @property
    def when(self) -> datetime:
        """When it was announced, UTC."""
        return datetime.fromtimestamp(self.when_ms / 1000, UTC)


class MessageStore(Protocol):
    """
    Where the messages of users are kept, for who brings a store of their own.

    It takes the place of the sealed boxes, and their promises become its own:
    it is handed messages in clear.
    """

    def keep(
        self, messages: Sequence[ReceivedMessage]
    ) -> Deferred[Mapping[int, PeerError]]:
        """
        Make messages durable.

        Args:
            messages: sent together by one peer, in their order.

        Returns:
            Fires when they are on disk, which is when the sender is told so,
            with those that cannot be delivered, by their index (``no-mailbox``,
            say).  Fails where none was kept.
        """

    def last(self, user: str, count: int) -> Deferred[Sequence[ReceivedMessage]]:
        """Read the newest messages of a user, oldest first."""

    def read(self, user: str, message_id: str) -> Deferred[ReceivedMessage]:
        """
        Read one message of a user.

        Args:
            user: normalised.
            message_id: as the peer wrote it, which may be anything.

        Returns:
            The message; fails with `PeerError` ``no-such-id``.
        """

    def drop(self, user: str, message_id: str) -> Deferred[None]:
        """Delete one message of a user; see `read`."""


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
    What looks for malware (`securerecv.scanning.scanner`).

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


class Upload(Protocol):
    """
    One file on its way in (`securerecv.intake.files.Files.put`).

    Whoever has it calls `write` for all bytes from `offset` on and then
    `finish`, or `abandon` at any time before.

    Attributes:
        id: 16 hexadecimal digits.
        size: bytes of the whole content.
        offset: how many bytes of it are here already; the next byte wanted.
    """

    id: str
    size: int
    offset: int

    def write(self, data: bytes | bytearray | memoryview) -> Deferred[None] | None:
        """
        Take the next bytes.

        It never fails: what goes wrong (no room, a newer upload of the same
        file) is said by `finish`, and further bytes are thrown away meanwhile.

        Args:
            data: bytes, no more than are wanted.  They may be changed when this
                has returned None, or when the Deferred has fired.

        Returns:
            None to go on at once; otherwise nothing more may be written until
            it fires.

        Raises:
            MisuseError: the last Deferred has not fired yet, or these are more
                bytes than are wanted.
        """

    def finish(self) -> Deferred[str]:
        """
        Say that all bytes were written.

        Returns:
            The file's state, as it is said on the wire, when it is durable;
            that may take a few seconds longer, while it is being scanned.
            Fails with `PeerError`: ``mismatch`` if size or SHA-256 differ, and
            nothing is kept then; ``busy`` if a newer upload took its place;
            ``full``; ``no-mailbox`` if box or file were removed meanwhile.  With
            another error the store failed.
        """

    def abandon(self) -> None:
        """Stop, and keep what is here for the next time; after `finish`, nothing."""


class Download(Protocol):
    """
    A file, or a message, on its way out (`securerecv.intake.files.Files.get`).

    Attributes:
        id: 16 hexadecimal digits.
        size: bytes of the whole content.
        sha256: of the whole content, 64 hexadecimal digits.
        name: to be shown behind both in the answer.
    """

    id: str
    size: int
    sha256: str
    name: str

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        """
        Read a piece; one at a time.

        Args:
            offset: of its first byte, less than the size of the whole.
            size: the most bytes wanted, at least 1.

        Returns:
            At least 1 byte and at most ``size`` and 1 MiB.  Fails with
            `StorageError` if it is damaged on disk: the rest cannot be had.
        """

    def close(self) -> None:
        """Let go of it; a read under way fails or is of no use."""
