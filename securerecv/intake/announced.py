"""Files that were announced, and their senders' places while they are sent."""

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from securerecv.intake.uploads import FileUpload
from securerecv.vault.accounts import Account
from securerecv.vault.filekeys import FileDetails


@frozen
class Announced:
    """
    A file that somebody wants to send.

    Attributes:
        account: of whom it is for.
        sent_by: stands for the sender when it is announced again.
        address: where the sender is, for limits.
        is_anonymous: the sender has no account.
        details: what was said of it, and the key that it gets if it is new.
        number: higher than that of those announced before.
    """

    account: Account
    sent_by: str = field(repr=False)
    address: str
    is_anonymous: bool
    details: FileDetails
    number: int


@define(eq=False)
class Place:
    """
    One sender's place, from the announcement to the end of the upload.

    Attributes:
        address: where the sender is.
        identity: of the file.
        size: bytes of the whole content.
        number: of the announcement.
        is_anonymous: the sender has no account.
        upload: once it has begun.
        details: what is known of the file then.
        is_over: nothing is written for it any more.
    """

    address: str
    identity: bytes
    size: int
    number: int
    is_anonymous: bool
    upload: FileUpload | None = None
    details: FileDetails | None = None
    is_over: bool = False
    _waiting: "list[Deferred[None]]" = field(factory=list)

    @property
    def missing(self) -> int:
        """How many bytes may still come."""
        return self.size if self.upload is None else self.upload.missing

    def over(self) -> "Deferred[None]":
        """Wait until nothing is written for it any more."""
        done: Deferred[None] = Deferred()
        if self.is_over:
            done.callback(None)
        else:
            self._waiting.append(done)
        return done

    def end(self) -> None:
        """Tell those who wait."""
        self.is_over = True
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)


@frozen
class ArrivingFile:
    """
    How far a file is that is just being received.

    Attributes:
        id: 16 hexadecimal digits.
        owner: the user name of whom it is for.
        sender: a user name, or ``anon``.
        name: `securerecv.names.file_name`.
        size: bytes of the whole content.
        done: how many of them are here.
    """

    id: str
    owner: str = field(repr=False)
    sender: str = field(repr=False)
    name: str = field(repr=False)
    size: int
    done: int
