"""
Having files scanned, a few at once, and again where nothing could be found out.

Senders take turns, so that nobody's burst keeps the files of others waiting; those
without a login are one sender together.  What waits is in the store, so a restart
forgets none of it.
"""

import os
from collections.abc import Generator
from functools import partial
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.errors import StorageError
from securerecv.intake.turns import Party, Turns
from securerecv.intake.uploads import Run
from securerecv.intake.verdicts import Verdicts
from securerecv.interfaces import Scanner, Verdict, VerdictKind
from securerecv.limits import HELD_AGAIN_AFTER_S, MAX_HELD_AGAIN_AFTER_S, MAX_SCANS
from securerecv.names import ANONYMOUS
from securerecv.vault import files
from securerecv.vault.blobs import Blobs
from securerecv.vault.filekeys import FileDetails, FileKeys
from securerecv.vault.filereader import FileReader
from securerecv.vault.files import StoredFile
from securerecv.vault.store import Store

_log = Logger()


class Scans:
    """
    The files that wait for a verdict.

    Args:
        store: where files are kept.
        blobs: where their content is.
        keys: opens those that were not scanned yet.
        scanner: looks at them.
        run: calls something in a thread.
        verdicts: acts on what is found.
        reactor: calls later.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        keys: FileKeys,
        scanner: Scanner,
        run: Run,
        verdicts: Verdicts,
        reactor: Any,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._keys = keys
        self._scanner = scanner
        self._run = run
        self._verdicts = verdicts
        self._reactor = reactor
        self._turns = Turns(MAX_SCANS)
        # Whoever fetches a file does not wait for all that came in.
        self._places_for_owners = DeferredSemaphore(1)
        self._under_way: dict[bytes, list[Deferred[None]]] = {}
        # In the order in which they are tried, and whose they are.
        self._held: dict[bytes, Party] = {}
        self._lasting: dict[bytes, Party] = {}
        self._tried: bytes | None = None
        self._delay_s = HELD_AGAIN_AFTER_S
        self._call: IDelayedCall | None = None
        self._stopped = False

    @inlineCallbacks
    def start(self) -> Generator[Any, Any, None]:
        """Go on with everything that waits."""
        self._scanner.when_back(self._is_back)
        waiting = yield self._store.query(self._waiting)
        for file_id, sender in waiting:
            self.add(file_id, sender)

    def stop(self) -> None:
        """Begin no more; what is not done yet is done after the next start."""
        self._stopped = True
        self._turns.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for waiting in self._under_way.values():
            for done in tuple(waiting):
                waiting.remove(done)
                done.callback(None)

    def add(self, file_id: bytes, sender: Party) -> None:
        """Have a file scanned that waits for it in the store."""
        if file_id not in self._under_way:
            self._under_way[file_id] = []
            done = self._turns.run(sender, partial(self._scan, file_id, sender))
            done.addErrback(self._failed)
            done.addCallback(self._over, file_id, sender)

    def forget(self, file_id: bytes) -> None:
        """Do not try a file again that is there no more."""
        self._held.pop(file_id, None)
        self._lasting.pop(file_id, None)

    def wait(self, file_id: bytes, timeout_s: float) -> "Deferred[None]":
        """Wait until a scan is over, but not longer than that."""
        done: Deferred[None] = Deferred()
        waiting = self._under_way.get(file_id)
        if waiting is None or self._stopped:
            done.callback(None)
            return done
        waiting.append(done)

        def give_up() -> None:
            if done in waiting:
                waiting.remove(done)
                done.callback(None)

        late = self._reactor.callLater(timeout_s, give_up)

        def in_time(_: None) -> None:
            if late.active():
                late.cancel()

        return done.addCallback(in_time)

    def again_for_owner(
        self, stored: StoredFile, details: FileDetails
    ) -> "Deferred[Verdict]":
        """
        Scan a clean file once more because there are other signatures now.

        Args:
            stored: the file.
            details: opened by its owner.

        Returns:
            The verdict, after it has been acted on: unless the file is clean it may
            not be had, though one that is held stays where it is.
        """
        return self._places_for_owners.run(self._scan_again, stored, details)

    def _waiting(self, connection: Connection) -> list[tuple[bytes, Party]]:
        """Find the files that wait for a verdict, and whose they are."""
        waiting = files.unscanned(connection, self._blobs.place)
        return [(stored.id, self._sender(stored)) for stored in waiting]

    def _sender(self, stored: StoredFile) -> Party:
        """Tell who has sent a file; the addresses of anonymous ones are not stored."""
        sealed = stored.sealed_for_server or b""
        try:
            return Party(self._keys.open(stored.id, stored.lookup, sealed).sender)
        except StorageError:
            return Party(ANONYMOUS)  # its scan says that it is damaged

    # -- one scan -------------------------------------------------------------

    @inlineCallbacks
    def _scan(self, file_id: bytes, sender: Party) -> Generator[Any, Any, bool]:
        """Scan a file; tell whether that must be tried again later."""
        if self._stopped:
            return False
        stored: StoredFile | None = yield self._store.query(files.load, file_id)
        if stored is None or stored.sealed_for_server is None:
            return False
        details = self._keys.open(file_id, stored.lookup, stored.sealed_for_server)
        verdict: Verdict = yield self._look_at(stored, details)
        if self._is_stopped():
            return False
        is_held: bool = yield self._verdicts.act(stored, details, verdict)
        if is_held and verdict.is_lasting:
            self._lasting[file_id] = sender
            return False
        return is_held

    @inlineCallbacks
    def _scan_again(
        self, stored: StoredFile, details: FileDetails
    ) -> Generator[Any, Any, Verdict]:
        verdict: Verdict = yield self._look_at(stored, details)
        yield self._verdicts.act_again(stored, details, verdict)
        return verdict

    @inlineCallbacks
    def _look_at(
        self, stored: StoredFile, details: FileDetails
    ) -> Generator[Any, Any, Verdict]:
        """Open a file into memory, where no disk sees it, and have it scanned."""

        def copy() -> int:
            reader = FileReader(self._blobs, stored.id, details.key, stored.size)
            try:
                return reader.copy_to_memory()
            finally:
                reader.close()

        try:
            descriptor = yield self._run(copy)
        except StorageError as error:
            _log.error("a file cannot be scanned: {words}", words=str(error))
            return Verdict(VerdictKind.HELD, str(error))
        try:
            verdict: Verdict = yield self._scanner.scan(descriptor, stored.size)
        finally:
            self._give_back(descriptor)
        return verdict

    def _give_back(self, descriptor: int) -> None:
        """Close it in a thread: to free a large file's memory takes its time."""
        if self._stopped:
            os.close(descriptor)
        else:
            self._run(os.close, descriptor)

    def _is_stopped(self) -> bool:
        return self._stopped

    # -- trying again -------------------------------------------------------------

    # Held files are opened in vain while the scanner is away.  So one of them is
    # tried, ever later; when it was scanned all the others are.

    def _keep_for_later(self, file_id: bytes, sender: Party) -> None:
        self._held[file_id] = sender
        if file_id == self._tried:
            self._delay_s = min(2 * self._delay_s, MAX_HELD_AGAIN_AFTER_S)
        if self._call is None:
            self._call = self._reactor.callLater(self._delay_s, self._try_one)

    def _try_one(self) -> None:
        self._call = None
        if self._held:
            self._tried = next(iter(self._held))
            self.add(self._tried, self._held.pop(self._tried))

    def _try_all(self) -> None:
        """Scan at once what was held because the scanner could not be reached."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._tried = None
        self._delay_s = HELD_AGAIN_AFTER_S
        held, self._held = self._held, {}
        for file_id, sender in held.items():
            self.add(file_id, sender)

    def _is_back(self) -> None:
        self._held |= self._lasting
        self._lasting.clear()
        self._try_all()

    def _failed(self, failure: Failure) -> bool:
        """Leave a file as it is when the store failed, and try again."""
        _log.failure("a file could not be scanned", failure=failure)
        return True

    def _over(self, again: bool, file_id: bytes, sender: Party) -> None:
        for done in self._under_way.pop(file_id):
            done.callback(None)
        if self._stopped:
            return
        if again:
            self._keep_for_later(file_id, sender)
        elif file_id == self._tried:
            self._try_all()
