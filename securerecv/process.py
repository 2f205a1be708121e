"""What a process that holds keys and messages does about itself."""

import gc
import resource

GARBAGE_AFTER_OBJECTS = 5000
"""
So many more objects than before, and Python looks for unreachable ones.

Messages under way are more than its usual 700, and none of them is garbage.
"""


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
