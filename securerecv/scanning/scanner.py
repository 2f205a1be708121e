"""
The scanner of a server: which clamd it is, whether it is there, what it says.

``docs/threat-model.md`` says what it is trusted with.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from securerecv.errors import ScannerError
from securerecv.interfaces import Verdict
from securerecv.scanning.choice import USUAL_SOCKETS, Lack, choose, warning
from securerecv.scanning.contact import Contact, Report
from securerecv.scanning.place import Place
from securerecv.scanning.process import Needs, OwnClamd
from securerecv.scanning.verdicts import held
from securerecv.settings import Settings

MAX_SCANS = 2
LOOK_EVERY_S = 5.0
SIGNATURES_EVERY_S = 60.0
HANGS_AFTER_S = 60.0
"""A clamd of our own that does not answer for so long is ended."""

_THREADS = MAX_SCANS + 1
_Result = TypeVar("_Result")

_log = Logger()


class ClamdScanner:
    """
    See `securerecv.interfaces.Scanner`.

    Args:
        settings: ``scanner``, ``signatures``, ``max_file`` and ``data`` count.
        reactor: runs what is spawned, and calls back in its thread.
        usual: paths of sockets where ``auto`` looks.
    """

    def __init__(
        self, settings: Settings, reactor: Any, usual: tuple[str, ...] = USUAL_SOCKETS
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._usual = usual
        self._pool = ThreadPool(0, _THREADS, "securerecv-scanning")
        self._scans = DeferredSemaphore(MAX_SCANS)
        self._contact: Contact | None = None
        self._report: Report | None = None
        self._looked_s = 0.0
        self._silent_since_s: float | None = None
        self._own: OwnClamd | None = None
        self._lack: Lack | None = None
        self._when_back: list[Callable[[], None]] = []
        self._looking: LoopingCall | None = None
        self._checking: LoopingCall | None = None
        self._stopped = False

    @property
    def refusal(self) -> str:
        """Why files are refused; empty where they are taken."""
        return self._lack.words if self._lack else ""

    @property
    def words(self) -> str:
        """How things stand, for the operator, in one line."""
        if self._lack is not None:
            if self._lack.mend:
                return f"none, no files are taken: {self._lack.mend}"
            return f"none: {self._lack.words}"
        if self._report is not None and self._contact is not None:
            whose = "a clamd of its own" if self._own else str(self._contact.place)
            version = self._report.version.partition("/")[0]
            return f"{whose}, {version}{warning(self._report)}"
        if self._own is not None:
            return "a clamd of its own, which is starting"
        place = self._settings.scanner if self._contact is None else self._contact.place
        if self._silent_since_s is None:
            return f"{place}, which is being asked"
        return f"{place} does not answer; files wait until it does"

    def start(self) -> None:
        """Choose, and begin to look after it."""
        self._pool.start()
        self._choose(choose(self._settings, self._usual))
        if self._settings.scanner == "none":
            return
        self._looking = self._again_and_again(self._look, LOOK_EVERY_S, now=True)
        self._checking = self._again_and_again(
            self._check_signatures, SIGNATURES_EVERY_S, now=False
        )

    def stop(self) -> Deferred[None]:
        """End what is under way; scans that are cut off are HELD."""
        self._stopped = True
        for loop in (self._looking, self._checking):
            if loop is not None and loop.running:
                loop.stop()
        if self._contact is not None:
            self._contact.close()
        ended = succeed(None) if self._own is None else self._own.stop()
        return ended.addCallback(lambda _: deferToThread(self._pool.stop))

    def scan(self, descriptor: int, size: int) -> Deferred[Verdict]:
        """Look at a file; never fails."""
        return self._scans.run(self._scan, descriptor, size)

    def _scan(self, descriptor: int, size: int) -> Deferred[Verdict]:
        contact = self._contact
        if self._stopped:
            return succeed(held("the server is stopping"))
        if contact is None:
            return succeed(held(self.refusal or "the scanner is not there yet"))

        def failed(failure: Failure) -> Verdict:
            if failure.check(ScannerError) is None:
                _log.failure("a scan went wrong", failure=failure)
                return held("the scanner failed")
            self._is_silent(contact, failure)
            return held(str(failure.value))

        scanned = self._in_thread(contact.scan, descriptor, size)
        return scanned.addErrback(failed)

    def database_version(self) -> Deferred[str | None]:
        """Tell which signatures a scan would use now."""
        contact = self._contact
        if self._stopped or contact is None:
            return succeed(None)
        age_s = self._reactor.seconds() - self._looked_s
        if self._report is not None and age_s < LOOK_EVERY_S:
            return succeed(self._report.database)
        looked = self._look()
        return looked.addCallback(
            lambda _: None if self._report is None else self._report.database
        )

    def when_back(self, call: Callable[[], None]) -> None:
        """Have something called each time that the scanner answers again."""
        self._when_back.append(call)

    def _again_and_again(
        self, work: Callable[[], Deferred[None]], every_s: float, *, now: bool
    ) -> LoopingCall:
        loop = LoopingCall(work)
        loop.clock = self._reactor
        loop.start(every_s, now=now).addErrback(
            lambda failure: _log.failure(
                "the scanner is not looked after", failure=failure
            )
        )
        return loop

    def _in_thread(
        self, work: Callable[..., _Result], *args: object
    ) -> "Deferred[_Result]":
        return deferToThreadPool(self._reactor, self._pool, work, *args)

    def _look(self) -> Deferred[None]:
        contact = self._contact
        if contact is None:
            if self._lack is None:
                return succeed(None)
            return self._in_thread(choose, self._settings, self._usual).addCallback(
                self._choose
            )
        looked = self._in_thread(contact.look)
        return looked.addCallbacks(
            partial(self._is_there, contact), partial(self._is_silent, contact)
        )

    def _is_there(self, contact: Contact, report: Report) -> None:
        if contact is not self._contact or self._stopped:
            return
        was_there = self._report is not None
        self._report = report
        self._looked_s = self._reactor.seconds()
        self._silent_since_s = None
        if not was_there:
            _log.info("scanner: {words}", words=self.words)
            for call in self._when_back:
                call()

    def _is_silent(self, contact: Contact, failure: Failure) -> None:
        """Take note that it did not answer; `failure` has a `ScannerError`."""
        failure.trap(ScannerError)
        if contact is not self._contact or self._stopped:
            return
        now_s = self._reactor.seconds()
        if self._report is not None or self._silent_since_s is None:
            self._report = None
            self._silent_since_s = now_s
            _log.warn(
                "the scanner {place} does not answer, files wait: {error}",
                place=str(contact.place),
                error=str(failure.value),
            )
        elif self._own is not None and now_s - self._silent_since_s > HANGS_AFTER_S:
            self._silent_since_s = now_s
            self._own.restart()

    def _check_signatures(self) -> Deferred[None]:
        if self._own is None:
            return succeed(None)
        checked = self._in_thread(self._own.check_signatures)
        return checked.addErrback(lambda failure: failure.trap(ScannerError) and None)

    def _choose(self, chosen: Place | Needs | Lack) -> None:
        if self._stopped:
            return
        if isinstance(chosen, Lack):
            if chosen.mend and self._lack is None:
                _log.warn("no files are taken: {mend}", mend=chosen.mend)
            self._lack = chosen
            return
        self._lack = None
        if isinstance(chosen, Place):
            self._contact = Contact(chosen, self._settings.max_file)
            return
        self._own = OwnClamd(chosen, self._reactor, self._own_came, self._own_went)
        self._own.start()

    def _own_came(self, place: Place, loaded: Callable[[], str]) -> None:
        self._contact = Contact(place, self._settings.max_file, loaded)
        self._look()

    def _own_went(self) -> None:
        if self._contact is not None:
            self._contact.close()
        self._contact = self._report = None
