"""What a receiver takes of its machine: the folder for itself, and open files."""

import fcntl
import os
import resource
from pathlib import Path

from sqlalchemy import Engine

from securerecv.errors import OperatorError
from securerecv.limits import MAX_CONNECTIONS
from securerecv.settings import Settings
from securerecv.vault.database import is_shared

_SPARE_FILES = 64


def lock(settings: Settings, engine: Engine) -> list[int]:
    """
    Take data folder and store for this process, until the locks are closed.

    Args:
        settings: say where the folder is.
        engine: the store.

    Returns:
        The file descriptors that hold the locks.

    Raises:
        OperatorError: another server has them.
    """
    paths = [settings.data / "lock"]
    if not is_shared(engine):
        database = Path(engine.url.database or "")
        if database.parent != settings.data:
            paths.append(database.with_name(database.name + ".lock"))
    locks: list[int] = []
    for path in paths:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        locks.append(held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for taken in locks:
                os.close(taken)
            raise OperatorError(f"a server is running with {path.parent}") from None
    return locks


def connections_allowed() -> int:
    """Give how many there may be, after asking for as many files as are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _SPARE_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return min(MAX_CONNECTIONS, limit - _SPARE_FILES)
