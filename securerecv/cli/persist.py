"""Going on with something after the connection was lost."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from securerecv.cli.progress import Display
from securerecv.cli.reach import Way, enter, leave
from securerecv.errors import ErrorCode, PeerError, SecurerecvError

if TYPE_CHECKING:
    from securerecv.client.client import Client

Result = TypeVar("Result")

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between two attempts of which the first came to nothing at all."""

_PASSING = (ErrorCode.BUSY, ErrorCode.TIMEOUT)


async def persist(
    reactor: Any,
    road: Way,
    work: "Callable[[Client], Awaitable[Result]]",
    display: Display,
) -> Result:
    """
    Log in and do something that goes on where it was interrupted.

    Args:
        reactor: what to run on.
        road: where to, as whom.
        work: what to do; begun again with another client when the connection
            was lost.
        display: is told of what is waited for, and knows whether anything moved.

    Raises:
        SecurerecvError: it cannot be done, or the connection was lost too often
            without anything having been done in between.
    """
    from securerecv.client.errors import DisconnectedError, UnreachableError

    failures = 0
    has_been_there = False
    while True:
        before = display.moved
        client = None
        try:
            client, _ = await enter(reactor, road)
            has_been_there = True
            result = await work(client)
        except (DisconnectedError, UnreachableError, PeerError) as error:
            if isinstance(error, UnreachableError) and not has_been_there:
                raise
            if isinstance(error, PeerError) and error.code not in _PASSING:
                raise
            if client is not None:
                await leave(client)
            failures = 1 if display.moved > before else failures + 1
            if failures > len(WAITS_S):
                raise
            wait_s = WAITS_S[failures - 1]
            display.note(f"{_words(error)}; trying again in {wait_s:.0f} s")
            await sleep(reactor, wait_s)
        else:
            await leave(client)
            return result


def _words(error: SecurerecvError) -> str:
    return error.words if isinstance(error, PeerError) else str(error)


async def sleep(reactor: Any, delay_s: float) -> None:
    """Wait."""
    from twisted.internet.task import deferLater

    await deferLater(reactor, delay_s)
