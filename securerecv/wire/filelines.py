"""What is said of files: their states, and the lines that list and announce them."""

from enum import Enum

from attrs import field, frozen

from securerecv.wire.lines import rfc3339


class FileState(Enum):
    """How far a file has come, ``docs/protocol.md`` section 3."""

    RECEIVING = "receiving"
    SCANNING = "scanning"
    CLEAN = "clean"
    INFECTED = "infected"
    HELD = "held"


@frozen
class FileRecord:
    """
    What the owner of a box is told of a file in it.

    Attributes:
        id: 16 hexadecimal digits.
        state: how far it has come.
        size: bytes of the whole content.
        sha256: of the whole content, 64 hexadecimal digits, as the sender said.
        sender: a user name, or ``anon``.
        when_ms: when it was announced, milliseconds since 1970, the server's clock.
        name: `securerecv.names.file_name`.
        why: why it is infected or held, in one line; else empty.
    """

    id: str
    state: FileState
    size: int
    sha256: str
    sender: str
    when_ms: int
    name: str = field(repr=False)
    why: str = ""

    def line(self) -> str:
        """Give the ``FILE`` line."""
        when = rfc3339(self.when_ms)
        head = f"FILE {self.id} {self.state.value} {self.size} {self.sha256}"
        return f"{head} {self.sender} {when} {self.name}"

    def lines(self) -> list[str]:
        """Give the ``FILE`` line and, where there is a reason, ``WHY`` behind it."""
        return [self.line(), *([f"WHY {self.id} {self.why}"] if self.why else [])]
