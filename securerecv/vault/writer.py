"""The one thread that writes to the store."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from twisted.logger import Logger

RETRY_S = 5.0

_log = Logger()


class Writer:
    """
    Runs jobs one after the other in a thread of its own.

    Args:
        idle: called in the thread when no job came for a while.
        idle_after_s: asked before each wait how long that while is; None for
            never.
    """

    def __init__(
        self, idle: Callable[[], None], idle_after_s: Callable[[], float | None]
    ) -> None:
        self._idle = idle
        self._idle_after_s = idle_after_s
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="securerecv-writer")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job after all that were submitted before; from any thread."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was submitted, then end the thread and wait for it."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._patience_s())
            except Empty:
                job = self._idle
            if job is None:
                return
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread must not end; the log tells
                if not self._failing:
                    _log.failure("the store could not tidy up; it will try again")
                self._failing = True
            else:
                self._failing = False

    def _patience_s(self) -> float | None:
        after_s = self._idle_after_s()
        if after_s is None or not self._failing:
            return after_s
        # What failed once is not tried, and logged, four times a second.
        return max(after_s, RETRY_S)
