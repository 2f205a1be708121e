"""Running one piece of asynchronous work from a command."""

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Callable[[Any], Coroutine[Any, Any, Result]]) -> Result:
    """
    Run a coroutine on the reactor until it ends, or until Ctrl-C.

    Args:
        work: takes the reactor.

    Returns:
        What the coroutine returns.

    Raises:
        KeyboardInterrupt: Ctrl-C came first.
        Exception: whatever the coroutine raises.
    """
    from twisted.internet import reactor as default_reactor
    from twisted.internet.defer import Deferred
    from twisted.logger import globalLogBeginner
    from twisted.python.failure import Failure

    reactor: Any = default_reactor
    outcome: list[Result | Failure] = []
    working: list[Deferred[None]] = []

    def finish(result: Result | Failure) -> None:
        if not outcome:
            outcome.append(result)
            reactor.stop()

    def start() -> None:
        working.append(Deferred.fromCoroutine(work(reactor)).addBoth(finish))

    def give_up() -> None:
        finish(Failure(KeyboardInterrupt()))
        # Else it would see its connections end, and begin to deal with that.
        for deferred in working:
            deferred.cancel()

    def interrupt(_number: int, _frame: object) -> None:
        reactor.callFromThread(give_up)
        # A name that is being looked up can hold up the end; a second Ctrl-C
        # does not wait for it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    # Without an observer Twisted would write tracebacks to the terminal.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    reactor.callWhenRunning(start)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        reactor.run(installSignalHandlers=False)
    finally:
        signal.signal(signal.SIGINT, before)
    (result,) = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt at once, while a person is asked."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
