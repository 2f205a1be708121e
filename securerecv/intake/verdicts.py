"""
Acting on what a scanner says of files.

Only an explicit "clean" hands a file to its owner.  An infected one loses its key,
which destroys it.  One of which nothing could be found out is held.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.logger import Logger

from securerecv.errors import StorageError
from securerecv.intake.uploads import Run
from securerecv.interfaces import Verdict, VerdictKind
from securerecv.vault import files
from securerecv.vault.blobs import Blobs
from securerecv.vault.filekeys import FileDetails, FileKeys, seal_to_owner
from securerecv.vault.files import StoredFile
from securerecv.vault.store import Store
from securerecv.wire.filelines import FileRecord, FileState

_MAX_WHY_CHARACTERS = 300

_log = Logger()


class Verdicts:
    """
    Changes files by the verdicts on them.

    Args:
        store: where files are kept.
        blobs: where their content is.
        keys: seal what is held.
        run: calls something in a thread.
        announce: tells the owner, by user name, of a file.
        seconds: the clock, seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        keys: FileKeys,
        run: Run,
        announce: Callable[[str, FileRecord], object],
        seconds: Callable[[], float],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._keys = keys
        self._run = run
        self._announce = announce
        self._seconds = seconds

    @inlineCallbacks
    def act(
        self, stored: StoredFile, details: FileDetails, verdict: Verdict
    ) -> Generator[Any, Any, bool]:
        """
        Act on the verdict on a file that came in.

        Args:
            stored: the file.
            details: opened by the server.
            verdict: on it.

        Returns:
            Whether it is held now.
        """
        if verdict.kind is VerdictKind.HELD:
            is_held: bool = yield self._hold(stored, details, _why(verdict))
            return is_held
        if verdict.kind is VerdictKind.CLEAN:
            yield self._release(stored, details, verdict)
        else:
            yield self._destroy(stored, details, _why(verdict))
        return False

    @inlineCallbacks
    def act_again(
        self, stored: StoredFile, details: FileDetails, verdict: Verdict
    ) -> Generator[Any, Any, None]:
        """
        Act on a new verdict on a file that was clean; one that is held stays so.

        Args:
            stored: the file.
            details: opened by its owner.
            verdict: on it.
        """
        if verdict.kind is VerdictKind.CLEAN:
            still = partial(
                files.still_clean, file_id=stored.id, scanned_with=verdict.database
            )
            yield self._store.write(still)
        elif verdict.kind is VerdictKind.INFECTED:
            yield self._destroy(stored, details, _why(verdict))

    @inlineCallbacks
    def _release(
        self, stored: StoredFile, details: FileDetails, verdict: Verdict
    ) -> Generator[Any, Any, None]:
        details = details.because("")
        sealed = yield self._run(
            seal_to_owner, stored.public_key, stored.id, stored.lookup, details
        )
        clean = partial(
            files.found_clean,
            file_id=stored.id,
            sealed_for_owner=sealed,
            scanned_with=verdict.database,
            now_s=int(self._seconds()),
        )
        if (yield self._store.write(clean)):
            self._tell(stored, details, FileState.CLEAN)

    @inlineCallbacks
    def _destroy(
        self, stored: StoredFile, details: FileDetails, why: str
    ) -> Generator[Any, Any, None]:
        details = details.without_key(why)
        sealed = yield self._run(
            seal_to_owner, stored.public_key, stored.id, stored.lookup, details
        )
        infected = partial(
            files.found_infected,
            file_id=stored.id,
            sealed_for_owner=sealed,
            now_s=int(self._seconds()),
        )
        if (yield self._store.write(infected)):
            self._tell(stored, details, FileState.INFECTED)
            # Without its key it is noise already; this only gives back the room.
            try:
                yield self._run(self._blobs.delete, stored.id)
            except StorageError:
                _log.failure("an infected file is not deleted; it will be tried again")

    @inlineCallbacks
    def _hold(
        self, stored: StoredFile, details: FileDetails, why: str
    ) -> Generator[Any, Any, bool]:
        is_held = stored.state is FileState.HELD
        if is_held and details.why == why:
            return True
        details = details.because(why)
        sealed = self._keys.seal(stored.id, stored.lookup, details)
        hold = partial(files.held, file_id=stored.id, sealed_for_server=sealed)
        there: bool = yield self._store.write(hold)
        if there and not is_held:
            self._tell(stored, details, FileState.HELD)
        return there

    def _tell(self, stored: StoredFile, details: FileDetails, state: FileState) -> None:
        self._announce(details.owner, details.record(stored.id, state))


def _why(verdict: Verdict) -> str:
    """Give the words of a verdict as one line of bounded length."""
    line = " ".join(verdict.words.split())[:_MAX_WHY_CHARACTERS]
    return line or "the scanner gave no reason"
