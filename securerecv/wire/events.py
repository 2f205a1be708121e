"""What a `securerecv.wire.session.Session` asks to be carried out."""

from attrs import define, field, frozen

from securerecv.wire.lines import Post
from securerecv.wire.reader import Request


@define
class Slot:
    """The place of one answer in the order of answers."""

    answer: list[bytes] | None = None


@define
class Posts:
    """
    Messages that were read together, to be answered together.

    Attributes:
        items: at least one.
        size: bytes of their bodies, all together.
    """

    items: list[Post]
    size: int
    slot: Slot = field(factory=Slot, repr=False)


@define
class Command:
    """A request that somebody outside the session must carry out."""

    request: Request
    slot: Slot = field(factory=Slot, repr=False)

    def wait_again(self) -> Slot:
        """Give the place of one more answer: a ``PUT`` has two."""
        self.slot = Slot()
        return self.slot


@frozen
class Chunk:
    """
    Bytes of an upload.

    Attributes:
        command: the ``PUT`` that they belong to.
        data: they, uncopied; nothing if there is nothing to come at all.
        is_last: nothing follows, and the command is to be answered again.
    """

    command: Command
    data: bytes | memoryview = field(repr=False)
    is_last: bool


Event = Posts | Command | Chunk
