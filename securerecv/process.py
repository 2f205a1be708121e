"""What a process that holds keys and messages does about itself."""

import gc
import os
import resource
import signal
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

GARBAGE_AFTER_OBJECTS = 5000
"""
So many more objects than before, and Python looks for unreachable ones.

Messages under way are more than its usual 700, and none of them is garbage.
"""

LOOK_AT_TERMINAL_EVERY_S = 1.0


def keep_secrets_in_memory() -> None:
    """See to it that a crash leaves nothing of them on disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def look_for_garbage_seldom() -> None:
    """Keep Python's garbage collector from what stays; call it after the start."""
    # What has been loaded stays: to look through it at each full collection
    # would stop every conversation for 50 ms.
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(GARBAGE_AFTER_OBJECTS, *older)


def watch_terminal(clock: IReactorTime, gone: Callable[[], object]) -> LoopingCall:
    """
    Notice the end of the terminal that the process is in the foreground of.

    SIGHUP goes to who leads the session alone.  That may be a program which waits for
    this one, as make does where it is all that somebody has a terminal for.

    Args:
        clock: tells when to look.
        gone: called once; not if the process was in the background by then, was not
            started at a terminal, or is not to heed SIGHUP (`nohup`).

    Returns:
        What looks; stopped when there is nothing more to be seen.
    """
    in_foreground = False

    def look() -> None:
        nonlocal in_foreground
        try:
            in_foreground = os.tcgetpgrp(0) == os.getpgrp()
        except OSError:
            looking.stop()
            if in_foreground and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                gone()

    looking = LoopingCall(look)
    looking.clock = clock
    looking.start(LOOK_AT_TERMINAL_EVERY_S)
    return looking
