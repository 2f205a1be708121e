"""Calling what an application wants called, without trusting it with anything."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

_T = TypeVar("_T")

MAX_UNDER_WAY = 256
"""Callbacks that have not finished, from which on senders wait for them."""

CALLBACK_TIMEOUT_S = 60.0
"""How long a callback may take; then its Deferred is cancelled."""

_log = Logger()

Callback = Callable[[_T], Awaitable[object] | object]
"""What it returns is waited for if that can be: a Deferred or a coroutine, say."""


class Callbacks(Generic[_T]):
    """
    Calls an application back, once for each thing.

    Whatever goes wrong there is logged, and changes nothing for the sender.
    Nothing is queued: while more than `MAX_UNDER_WAY` have not finished, the
    senders' answers wait, and so do they with what is to come.

    Args:
        name: of the callback, for the log.
        callback: the application's.
        clock: ends what takes too long.
    """

    def __init__(
        self, name: str, callback: "Callback[_T]", clock: IReactorTime
    ) -> None:
        self._name = name
        self._callback = callback
        self._clock = clock
        self._under_way = 0
        self._room: list[Deferred[None]] = []
        self._idle: list[Deferred[None]] = []

    def tell(self, things: Sequence[_T]) -> "Deferred[None] | None":
        """
        Call back for each.

        Returns:
            None, or what fires when there is room for more.
        """
        for thing in things:
            self._call(thing)
        if self._under_way <= MAX_UNDER_WAY:
            return None
        room: Deferred[None] = Deferred()
        self._room.append(room)
        return room

    def finish(self, within_s: float) -> "Deferred[None]":
        """
        Wait for all that is under way.

        Args:
            within_s: but no longer.
        """
        if not self._under_way:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)

        def too_late(_: Failure) -> None:
            _log.warn(
                "{count} calls of {name} have not finished",
                count=self._under_way,
                name=self._name,
            )

        return idle.addTimeout(within_s, self._clock).addErrback(too_late)

    def _call(self, thing: _T) -> None:
        try:
            result: Any = self._callback(thing)
        except Exception:  # noqa: BLE001 - an application's error is only logged
            self._failed(Failure())
            return
        if not isawaitable(result):
            return
        self._under_way += 1
        done: Deferred[object] = (
            result if isinstance(result, Deferred) else ensureDeferred(_await(result))
        )
        done.addTimeout(CALLBACK_TIMEOUT_S, self._clock)
        done.addErrback(self._failed).addBoth(self._finished)

    def _failed(self, failure: Failure) -> None:
        # Neither the words of the error nor the variables on the way to it: they
        # may hold the message.
        frame = failure.frames[-1] if failure.frames else ("?", "?", 0)
        _log.error(
            "{name} failed for what has been stored all the same:"
            " {kind} in {function}, {file}:{line}",
            name=self._name,
            kind=getattr(failure.type, "__name__", "?"),
            function=frame[0],
            file=frame[1],
            line=frame[2],
        )

    def _finished(self, _: object) -> None:
        self._under_way -= 1
        if self._under_way <= MAX_UNDER_WAY:
            room, self._room = self._room, []
            for waiting in room:
                waiting.callback(None)
        if not self._under_way:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)


async def _await(result: Awaitable[object]) -> object:
    return await result
