"""Why a datagram is dropped: counted by the receiver, never told to the sender."""

from enum import Enum

from securerecv.errors import SecurerecvError


class DropReason(Enum):
    """The kinds of ``docs/protocol.md`` section 5, as in its test vectors."""

    MALFORMED = "malformed"
    """Too short or too long for its mode, or of no known kind or mode."""

    NOT_FOR_US = "not-for-us"
    """Sealed to a key that is not one of ours."""

    STALE = "stale"
    """Its time is too far from the clock, or so old that it may be a repeat."""

    UNKNOWN_TOKEN = "unknown-token"  # noqa: S105  a counter's name, no secret
    """Nobody has the token that it names."""

    REPLAYED = "replayed"
    """Its sequence number was taken before."""

    BEHIND_WINDOW = "behind-window"
    """Its sequence number is too old to tell whether it was taken before."""

    MEMORY_FULL = "memory-full"
    """One more sender cannot be remembered."""

    OVER_BUDGET = "over-budget"
    """Opening it would take more public-key work, or memory, than is set aside."""

    FORGED = "forged"
    """It does not decrypt: changed, cut, or sealed with other keys."""


class Dropped(SecurerecvError):  # noqa: N818  says what becomes of it; no error of ours
    """
    A datagram was not taken; whoever sent it gets silence.

    Attributes:
        reason: for a counter.
    """

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
