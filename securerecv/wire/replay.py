"""
Which sequence numbers were taken: nothing is taken twice.

A sender's ``enc`` stands for its sequence numbers.  Each has a sliding window, as
in RFC 6479 but with a plain integer for the bitmap.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from heapq import heappop, heappush, heapreplace
from struct import Struct

from attrs import define, frozen

from securerecv.errors import StorageError
from securerecv.wire.datagram import MAX_TIME_DIFFERENCE_MS
from securerecv.wire.drops import Dropped, DropReason

WINDOW = 2048
"""How far behind the highest sequence number one may still be taken."""

MAX_ENCS = 131_072
"""What is remembered of each takes 400 to 700 bytes."""

MAX_ENCS_PER_ADDRESS = 32_768

DIGEST_BYTES = 16

_ALL = (1 << WINDOW) - 1
_TOP = Struct(">Q")
_MAX_STATE_BYTES = _TOP.size + WINDOW // 8

_FORGOTTEN_AT_ONCE = 64
"""So that no datagram has to wait until thousands have been forgotten."""


def digest_of(enc: bytes) -> bytes:
    """
    Name an ``enc`` in 16 bytes.

    If two had the same name, the later one would be refused: never would
    anything be taken twice.
    """
    return sha256(enc).digest()[:DIGEST_BYTES]


@frozen
class ReplayRecord:
    """
    What has to be stored of an ``enc`` to refuse repeats after a restart.

    Attributes:
        digest: 16 bytes, the row's key.
        expires_s: seconds since 1970; afterwards the record may be deleted.
        state: 8 to 264 bytes: the highest sequence number taken (8 bytes), then
            the bitmap as a big-endian number whose lowest bit stands for it, the
            next for the number before, and so on.  It only ever grows, so
            of two records of a digest the one made later replaces the other.
    """

    digest: bytes
    expires_s: int
    state: bytes


@define(eq=False)
class Window:
    """
    The sequence numbers taken under one ``enc``.

    Attributes:
        digest: which ``enc``, see `digest_of`.
        address: who is charged for the memory; nobody, for one from a record.
        expires_ms: milliseconds since 1970.  Up to here, this included, something
            taken under this ``enc`` may come again and look fresh.
        is_forgotten: the memory has let go of it, so it protects no longer.
    """

    digest: bytes
    address: str | None = None
    expires_ms: int = 0
    is_forgotten: bool = False
    _top: int = 0
    _base: int = 0  # all numbers above this one, up to the top, were taken
    _taken: int = 0  # bit n: the number n below the base was taken

    def check(self, sequence: int) -> None:
        """
        Ask whether a number may be taken; nothing is changed.

        Raises:
            Dropped: ``replayed`` or ``behind-window``.
        """
        behind = self._top - sequence
        if behind < 0:
            return
        if behind >= WINDOW:
            raise Dropped(DropReason.BEHIND_WINDOW)
        self._catch_up()
        if self._taken >> behind & 1:
            raise Dropped(DropReason.REPLAYED)

    def take(self, sequence: int, time_ms: int) -> None:
        """
        Remember a number that `check` allows.

        Only for what has been authenticated: otherwise a forger could move
        the window past what an honest sender says next.
        """
        if sequence == self._top + 1:
            self._top = sequence
        else:
            self._catch_up()
            if sequence > self._top:
                self._move(sequence)
            self._taken |= 1 << (self._top - sequence)
        expires_ms = time_ms + MAX_TIME_DIFFERENCE_MS
        if expires_ms > self.expires_ms:  # noqa: PLR1730  max() takes twice as long
            self.expires_ms = expires_ms

    def _move(self, sequence: int) -> None:
        """Have window and bitmap begin at a number further ahead, as if not taken."""
        ahead = sequence - self._base
        # Far ahead everything is shifted out; it must not be tried, since
        # the number could have 2**64 bits.
        self._taken = self._taken << ahead & _ALL if ahead < WINDOW else 0
        self._top = self._base = sequence

    def _catch_up(self) -> None:
        """
        Have the bitmap begin at the top.

        Numbers that come one after the other, as most senders', wait for this.
        """
        ahead = self._top - self._base
        if ahead:
            self._move(self._top)
            self._taken |= (1 << min(ahead, WINDOW)) - 1

    def record(self) -> ReplayRecord:
        """Give what has to be stored."""
        self._catch_up()
        size = (self._taken.bit_length() + 7) // 8
        return ReplayRecord(
            self.digest,
            -(-self.expires_ms // 1000),
            _TOP.pack(self._top) + self._taken.to_bytes(size, "big"),
        )

    def restore(self, state: bytes) -> None:
        """
        Add what a record says was taken.

        Raises:
            StorageError: it is no state of a window.
        """
        if not _TOP.size < len(state) <= _MAX_STATE_BYTES:
            raise StorageError("a stored replay window has a wrong size")
        (top,) = _TOP.unpack_from(state)
        taken = int.from_bytes(state[_TOP.size :], "big")
        self._catch_up()
        ahead = top - self._top
        if ahead > 0:
            self._move(top)
        elif -ahead < WINDOW:
            taken <<= -ahead
        else:
            taken = 0
        self._taken = (self._taken | taken) & _ALL


class ReplayMemory:
    """
    The windows of all senders; when it is full, new ones are refused.

    Why nothing is taken twice: let a datagram of the time T be taken.  It looks
    fresh as long as the clock says T + 120 s or less.  Its window expires no
    earlier than that, because it expires 120 s after the *largest* time taken under
    its ``enc``; and until the clock is past that, a window is never forgotten.  (The
    sender's clock does not matter: T is what it wrote, and what is compared.  Since
    T is at most 120 s ahead of the clock when it is taken, a window is
    kept for at most 240 s after its last use.)

    If the clock is set back after a window was forgotten, its datagrams could
    look fresh again.  So the memory keeps the largest time of all that it has
    forgotten, and takes nothing of that time or before.  While the clock runs
    forward this refuses nothing: windows are forgotten when their largest time is
    more than 120 s ago, so what it refuses is stale anyway.  (This mark is
    not stored, but the records of expired windows are for a while, and bring it
    back: who sets the clock back before a restart *and* after it is on their own.)

    Args:
        max_encs: windows in all.
        max_encs_per_address: of those, windows that one address may open.
    """

    def __init__(
        self,
        max_encs: int = MAX_ENCS,
        max_encs_per_address: int = MAX_ENCS_PER_ADDRESS,
    ) -> None:
        self._max_encs = max_encs
        self._max_encs_per_address = max_encs_per_address
        self._windows: dict[bytes, Window] = {}
        self._per_address: Counter[str] = Counter()
        # When to look at which: one entry for each window, its expiry as it was
        # when it was last looked at.
        self._next: list[tuple[int, bytes]] = []
        self._forgotten_ms = 0

    @property
    def remembered(self) -> int:
        """How many windows are remembered."""
        return len(self._windows)

    def find(self, digest: bytes) -> Window | None:
        """Give the window of an ``enc``, if there is one."""
        return self._windows.get(digest)

    def check_time(self, time_ms: int, now_ms: int) -> None:
        """
        Ask whether a datagram's time is near enough to the clock's.

        Both are milliseconds since 1970.

        Raises:
            Dropped: ``stale``.
        """
        if (
            not -MAX_TIME_DIFFERENCE_MS <= time_ms - now_ms <= MAX_TIME_DIFFERENCE_MS
            or time_ms <= self._forgotten_ms
        ):
            raise Dropped(DropReason.STALE)

    def check_new(self, address: str, now_ms: int) -> None:
        """
        Ask whether there is room for one more window.

        Raises:
            Dropped: ``memory-full``.
        """
        self._forget_expired(now_ms)
        if (
            len(self._windows) >= self._max_encs
            or self._per_address[address] >= self._max_encs_per_address
        ):
            raise Dropped(DropReason.MEMORY_FULL)

    def add(self, digest: bytes, address: str, time_ms: int) -> Window:
        """
        Open a window, after `check_new` and after authentication.

        Args:
            digest: of the ``enc``.
            address: who is charged for it.
            time_ms: of the datagram, milliseconds since 1970.
        """
        window = Window(digest, address, time_ms + MAX_TIME_DIFFERENCE_MS)
        self._keep(window)
        return window

    def restore(self, digest: bytes, expires_s: int, state: bytes) -> None:
        """
        Remember again what a `ReplayRecord` says, before anything is received.

        Raises:
            StorageError: no record of ours.
        """
        if len(digest) != DIGEST_BYTES:
            raise StorageError("a stored replay record has a wrong digest")
        expires_ms = expires_s * 1000
        window = self._windows.get(digest)
        if window is None:
            window = Window(digest, None, expires_ms)
            window.restore(state)
            self._keep(window)
        else:
            window.restore(state)
            window.expires_ms = max(window.expires_ms, expires_ms)

    def restore_forgotten(self, expired_s: int) -> None:
        """
        Remember that windows had expired before a restart, and are not restored.

        Args:
            expired_s: the latest of their `ReplayRecord.expires_s`.
        """
        self._forgot(expired_s * 1000)

    def _forgot(self, expired_ms: int) -> None:
        largest_time_ms = expired_ms - MAX_TIME_DIFFERENCE_MS
        self._forgotten_ms = max(self._forgotten_ms, largest_time_ms)

    def _keep(self, window: Window) -> None:
        self._windows[window.digest] = window
        if window.address is not None:
            self._per_address[window.address] += 1
        heappush(self._next, (window.expires_ms, window.digest))

    def _forget_expired(self, now_ms: int) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not self._next or self._next[0][0] >= now_ms:
                return
            digest = self._next[0][1]
            window = self._windows[digest]
            if window.expires_ms >= now_ms:  # it has been used since
                heapreplace(self._next, (window.expires_ms, digest))
                continue
            heappop(self._next)
            self._forget(window)

    def _forget(self, window: Window) -> None:
        del self._windows[window.digest]
        window.is_forgotten = True
        self._forgot(window.expires_ms)
        if window.address is not None:
            self._per_address[window.address] -= 1
            if not self._per_address[window.address]:
                del self._per_address[window.address]
