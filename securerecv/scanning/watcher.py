"""
Runs clamd for the server, and ends it when the server is gone, however it went.

This is a program of its own, started with ``python -I`` and this file's name: it uses
nothing of the package.  It lives as long as its standard input is open; then, or when
clamd has ended, it deletes clamd's folder with what was unpacked there.

    watcher.py FOLDER UID GID NICENESS FILE_BYTES CLAMD ARGUMENT…

UID and GID are -1 to stay who one is. clamd may write no file of more than FILE_BYTES.
"""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

TERM_TIMEOUT_S = 3.0
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_FAILED = 70


def main(arguments: Sequence[str]) -> int:
    """Run clamd to its end, or to that of the server."""
    folder, uid, gid, niceness, file_bytes, *command = arguments
    # Ctrl-C at a terminal goes to everybody there, and the server has still to finish
    # what it began.
    with contextlib.suppress(PermissionError):
        os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_FAILED))
    stays = uid == "-1"
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def tie() -> None:
        # After the change of user, which would undo the first of these.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes),) * 2)
        # What goes over it fails, and does not end clamd.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.nice(int(niceness))
        if os.getppid() != parent:
            os._exit(_FAILED)

    try:
        # The command is the server's; this program has one thread.
        child = subprocess.Popen(  # noqa: S603 - see above
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=tie,  # noqa: PLW1509 - see above
            umask=0o077,
            user=None if stays else int(uid),
            group=None if stays else int(gid),
            extra_groups=None if stays else (),
        )
        try:
            return _wait(child)
        finally:
            _end(child)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: subprocess.Popen[bytes]) -> int:
    ended = os.pidfd_open(child.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == ended:
                return child.wait()
            if not os.read(0, 4096):
                return 0


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(TERM_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
