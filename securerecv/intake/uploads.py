"""
One file on its way in: bytes from a transport, segments for a thread.

The transport's bytes are copied once, into the segment that is being filled.  While
a thread hashes, seals and writes one segment, the next is filled; when both are
full, whoever writes waits.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.vault.filewriter import FileWriter
from securerecv.vault.segments import Layout

SEGMENTS_IN_FLIGHT = 2

_NOTHING = memoryview(b"")

Run = Callable[..., "Deferred[Any]"]
"""Calls something in a thread."""


class FileUpload:
    """
    An `securerecv.interfaces.Upload` of which something is still wanted.

    Args:
        file_id: 16 hexadecimal digits.
        size: bytes of the whole content.
        writer: opened; closed when the upload is over.
        run: calls something in a thread.
        complete: called when all bytes are written; gives the state in the end.
        incomplete: called once, with the reason, when nothing is being written any
            more and the writer is closed, unless all bytes were written.

    Attributes:
        id: 16 hexadecimal digits.
        size: bytes of the whole content.
        offset: how many of them were there at the beginning.
    """

    def __init__(
        self,
        file_id: str,
        size: int,
        writer: FileWriter,
        run: Run,
        complete: Callable[[], "Deferred[str]"],
        incomplete: Callable[[Failure], object],
    ) -> None:
        self.id = file_id
        self.size = size
        self.offset = writer.offset
        self._layout = Layout(size)
        self._writer = writer
        self._run = run
        self._complete = complete
        self._incomplete = incomplete
        self._taken = writer.offset
        self._number = writer.progress.segments
        self._filling: bytearray | None = None
        self._filled = 0
        self._spare: list[bytearray] = []
        self._buffers = 0
        self._full: list[bytearray] = []
        self._writing = False
        self._is_over = False
        self._rest = _NOTHING
        self._waiting: Deferred[None] | None = None
        self._finished: Deferred[str] | None = None
        self._failure: Failure | None = None

    @property
    def missing(self) -> int:
        """How many bytes have not come yet."""
        return self.size - self._taken

    @property
    def is_finishing(self) -> bool:
        """Whether all bytes have come, as far as the sender says."""
        return self._finished is not None

    def write(self, data: bytes | bytearray | memoryview) -> "Deferred[None] | None":
        """See `securerecv.interfaces.Upload`."""
        view = memoryview(data).cast("B")
        if self._waiting is not None:
            raise MisuseError("an upload takes no bytes while it asks to wait")
        if self._finished is not None or len(view) > self.missing:
            raise MisuseError("an upload takes no more bytes than are wanted")
        self._taken += len(view)
        self._rest = view
        self._fill()
        if self._rest:
            self._waiting = Deferred()
        return self._waiting

    def finish(self) -> "Deferred[str]":
        """See `securerecv.interfaces.Upload`."""
        if self._finished is not None or self._waiting is not None:
            raise MisuseError("an upload is finished once, when it takes bytes")
        done = self._finished = Deferred()
        if self._is_over and self._failure is not None:
            done.errback(self._failure)
        else:
            self._go_on()
        return done

    def abandon(self) -> None:
        """See `securerecv.interfaces.Upload`."""
        words = "the file was not sent to its end"
        self.fail(PeerError(ErrorCode.MISMATCH, words))

    def fail(self, error: PeerError) -> None:
        """End it with words for the sender; what was written stays."""
        if self._finished is None:
            self._give_up(Failure(error))
            self._go_on()

    # -- filling segments -------------------------------------------------------

    def _fill(self) -> None:
        """Copy what waits, as far as there is room."""
        while self._rest and self._failure is None:
            place = self._filling
            if place is None:
                place = self._filling = self._room()
            if place is None:
                return
            count = min(len(place) - self._filled, len(self._rest))
            with memoryview(place) as room:
                room[self._filled : self._filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            self._filled += count
            if self._filled == len(place):
                self._full.append(place)
                self._filling, self._filled = None, 0
                self._number += 1
                self._go_on()
        if self._failure is not None or not self._rest:
            # Not even an empty part of it: that would keep it from being resized.
            self._rest = _NOTHING

    def _room(self) -> bytearray | None:
        """Give room for the next segment, if there is any."""
        length = self._layout.length(self._number)
        if self._spare:
            spare = self._spare.pop()
            if len(spare) > length:
                return bytearray(length)
            return spare
        if self._buffers == SEGMENTS_IN_FLIGHT:
            return None
        self._buffers += 1
        return bytearray(length)

    # -- handing them on ----------------------------------------------------------

    def _go_on(self) -> None:
        """Have the next segment written, or end."""
        if self._writing or self._is_over:
            return
        if self._failure is not None:
            self._end(self._failure)
        elif self._full:
            self._writing = True
            segment = self._full.pop(0)
            done = self._run(self._writer.write, segment)
            done.addCallbacks(self._written, self._give_up, callbackArgs=(segment,))
            done.addCallback(self._wrote)
        elif self._finished is not None:
            self._is_over = True
            self._spare.clear()
            maybeDeferred(self._complete).chainDeferred(self._finished)

    def _written(self, _: object, segment: bytearray) -> None:
        self._spare.append(segment)

    def _wrote(self, _: object) -> None:
        self._writing = False
        # First what is full, so that the thread has work meanwhile.
        self._go_on()
        self._fill()
        if not self._rest:
            self._stop_waiting()

    def _give_up(self, failure: Failure) -> None:
        """Write no more than what is being written now."""
        self._failure = self._failure or failure
        self._full.clear()
        self._spare.clear()
        self._filling = None

    def _end(self, failure: Failure) -> None:
        """Close what is incomplete; nothing is being written."""
        self._is_over = True
        self._writer.close()
        self._incomplete(failure)
        self._fill()
        self._stop_waiting()
        if self._finished is not None:
            self._finished.errback(failure)

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class FinishedUpload:
    """
    An `securerecv.interfaces.Upload` of a file that is all there already.

    Args:
        file_id: 16 hexadecimal digits.
        size: bytes of the whole content.
        state: gives its state in the end.
    """

    def __init__(
        self, file_id: str, size: int, state: Callable[[], "Deferred[str]"]
    ) -> None:
        self.id = file_id
        self.size = size
        self.offset = size
        self._state = state

    def write(self, data: bytes | bytearray | memoryview) -> "Deferred[None] | None":
        """See `securerecv.interfaces.Upload`."""
        if len(data):
            raise MisuseError("nothing more is wanted of this file")
        return None

    def finish(self) -> "Deferred[str]":
        """See `securerecv.interfaces.Upload`."""
        return self._state()

    def abandon(self) -> None:
        """See `securerecv.interfaces.Upload`."""
