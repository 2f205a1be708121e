"""A clamd of our own: started, watched, started again, and ended with the server."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.errors import ScannerError
from securerecv.scanning.home import (
    Home,
    fingerprint,
    is_home,
    lack_of_signatures,
    make_home,
    most_unpacked,
)
from securerecv.scanning.place import Place

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
STEADY_AFTER_S = 60.0
"""A clamd that has run for so long is started again without much of a wait."""

_LOOK_FOR_SOCKET_S = 0.1
_RELOAD_TIMEOUT_S = 10.0
_NICENESS = 10
_WATCHER = Path(__file__).with_name("watcher.py")
_POINTER = "clamd-folder"
_MAX_LINE_BYTES = 64 * 1024
_COMPLAINTS = ("ERROR:", "WARNING:", "LibClamAV Error:", "LibClamAV Warning:")
# We have set that limit, and it is as it should be.
_EXPECTED = "System limit for file size is lower"
_RELOADED = "Activating the newly loaded database"
_NOT_RELOADED = "keeping the previous instance"

_log = Logger()


@frozen
class Needs:
    """
    What a clamd of our own is made from.

    Attributes:
        program: clamd's path.
        signatures: the operator's folder of signatures.
        max_file: the largest file that is received, bytes.
        data: the data folder, which remembers clamd's folder.
    """

    program: str
    signatures: Path
    max_file: int
    data: Path


class OwnClamd:
    """
    The supervisor.

    Args:
        needs: what to make it from.
        reactor: runs it.
        came: called with its place and with what tells which signatures it has
            loaded, each time that one has begun to listen.
        went: called each time that one has ended.
    """

    def __init__(
        self,
        needs: Needs,
        reactor: Any,
        came: Callable[[Place, Callable[[], str]], None],
        went: Callable[[], None],
    ) -> None:
        self._needs = needs
        self._reactor = reactor
        self._came = came
        self._went = went
        self._wait_s = FIRST_WAIT_S
        self._next: Any = None
        self._running: _Running | None = None
        self._stopping: Deferred[None] | None = None

    def start(self) -> None:
        """Start it; it is there when `came` is called, seconds later."""
        self._next = None
        try:
            self._running = self._begin()
        except (OSError, ScannerError) as error:
            _log.error("clamd cannot be started: {error}", error=str(error))
            self._later()
        else:
            self._look_for_socket(self._running)

    def _begin(self) -> "_Running":
        """
        Make a folder, and start one there.

        Raises:
            OSError, ScannerError: it cannot be done now; nothing is left of it.
        """
        needs = self._needs
        forget_home(needs.data)
        home = make_home(needs.signatures, needs.max_file)
        try:
            _write_pointer(needs.data, home)
            running = _Running(self, home, needs, self._reactor.seconds())
            self._reactor.spawnProcess(
                running,
                sys.executable,
                command(home, needs),
                env={"PATH": os.defpath},
            )
        except OSError:
            home.remove()
            raise
        return running

    def stop(self) -> Deferred[None]:
        """End it; fires when it is gone, and its folder with it."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._running is None:
            return succeed(None)
        self._stopping = Deferred()
        self._running.end()
        return self._stopping

    def restart(self) -> None:
        """End one that does not answer; another one is started."""
        if self._running is not None:
            self._running.end()

    def check_signatures(self) -> None:
        """
        Have changed signatures loaded.  Blocks; may be called in any thread.

        Raises:
            ScannerError: clamd does not answer, or its folder is gone.
        """
        running = self._running
        if running is None or not running.listens:
            return
        found = fingerprint(self._needs.signatures)
        if found in (running.loaded, running.loading, running.refused):
            return
        lack = lack_of_signatures(self._needs.signatures)
        if lack:
            # To load nothing would be to call everything clean.
            _log.warn(
                "clamd goes on with the signatures that it has: {lack}", lack=lack
            )
            running.refused = found
            return
        try:
            running.home.link(self._needs.signatures)
        except OSError as error:
            raise ScannerError(f"signatures cannot be linked: {error}") from None
        running.loading = found
        running.place.client(_RELOAD_TIMEOUT_S).reload()

    def _look_for_socket(self, running: "_Running") -> None:
        """Wait: clamd listens when it has loaded the signatures, not before."""
        running.waiting = None
        if running.home.socket.exists():
            running.has_loaded(running.loaded)
            running.listens = True
            self._came(running.place, lambda: running.loaded)
        else:
            running.waiting = self._reactor.callLater(
                _LOOK_FOR_SOCKET_S, self._look_for_socket, running
            )

    def ended(self, running: "_Running") -> None:
        """Take note that a process has ended."""
        self._running = None
        if running.waiting is not None:
            running.waiting.cancel()
        forget_home(self._needs.data)
        if self._stopping is not None:
            self._stopping.callback(None)
            return
        if self._reactor.seconds() - running.since_s > STEADY_AFTER_S:
            self._wait_s = FIRST_WAIT_S
        _log.error(
            "clamd has ended, and is started again in {wait:.0f} s: {last}",
            wait=self._wait_s,
            last=running.last or "it said nothing",
        )
        self._went()
        self._later()

    def _later(self) -> None:
        self._next = self._reactor.callLater(self._wait_s, self.start)
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)


class _Running(ProcessProtocol):
    """
    One process, from its start to its end.

    Attributes:
        home: its folder.
        place: where it listens, once it does.
        loaded: the fingerprint of the signatures that it has loaded.
        loading: that of those which it was told to load.
        refused: that of those which it could not load.
        listens: it has begun to.
        since_s: when it was started.
        waiting: the call that looks whether it listens.
        last: the last line in which it complained.
        unloadable: the first in which it named a file that it could not load.
    """

    def __init__(
        self, owner: OwnClamd, home: Home, needs: Needs, since_s: float
    ) -> None:
        self.home = home
        self.place = Place(path=str(home.socket))
        self.loaded = fingerprint(needs.signatures)
        self.loading = ""
        self.refused = ""
        self.listens = False
        self.since_s = since_s
        self.waiting: Any = None
        self.last = ""
        self.unloadable = ""
        self._owner = owner
        self._signatures = needs.signatures
        self._unread = b""

    def has_loaded(self, loaded: str) -> None:
        """Write down, for `securerecv doctor`, which signatures it has loaded."""
        self.loaded = loaded
        with suppress(OSError):  # its end may have come
            self.home.loaded.write_text(loaded, encoding="ascii")

    def end(self) -> None:
        """Have it ended; the watcher sees to it."""
        transport: Any = self.transport
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Read what it says."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._unread = self._unread[:_MAX_LINE_BYTES]
        for line in lines:
            self._said(line.decode(errors="replace"))

    errReceived = outReceived

    def processEnded(self, reason: Failure = connectionDone) -> None:
        """Tell the supervisor."""
        self._owner.ended(self)

    def _said(self, line: str) -> None:
        if _RELOADED in line:
            self.has_loaded(self.loading or self.loaded)
            self.loading = self.refused = ""
            _log.info("clamd has loaded the changed signatures")
        elif _NOT_RELOADED in line:
            # Not again until they change: it takes much time and memory.
            self.loading, self.refused = "", self.loading
            _log.warn(
                "clamd cannot load the changed signatures, and goes on with old: {why}",
                why=self.unloadable or self.last,
            )
            self.unloadable = ""
        elif line.startswith(_COMPLAINTS) and _EXPECTED not in line:
            self.last = in_words_of_operator(line, self.home, self._signatures)
            if self.loading and str(self.home.signatures) in line:
                self.unloadable = self.unloadable or self.last
            # What it says of files that it looks at is whatever their senders like.
            if not self.listens:
                _log.warn("clamd: {line}", line=self.last)


def in_words_of_operator(line: str, home: Home, signatures: Path) -> str:
    """Name the operator's files where clamd names its links to them."""
    return line.replace(str(home.signatures), str(signatures))


def command(home: Home, needs: Needs) -> list[str]:
    """Give the words that run clamd under its watcher."""
    user = home.user
    ids = ["-1", "-1"] if user is None else [str(user.pw_uid), str(user.pw_gid)]
    watcher = [sys.executable, "-I", "-S", str(_WATCHER), str(home.folder), *ids]
    # An archive of 2 MB can hold a file of 2 GiB, which clamd would unpack whole
    # before it sees that this is more than it may look at.
    limits = [str(_NICENESS), str(most_unpacked(needs.max_file))]
    return [*watcher, *limits, needs.program, f"--config-file={home.configuration}"]


def remembered_home(data: Path) -> Home | None:
    """Give the folder of the clamd that the server of a data folder runs."""
    try:
        folder = Path((data / _POINTER).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    # A full disk or a power cut may have left less of the name, or none of it: a path
    # that is then another folder's, and must not be deleted.
    return Home(folder) if is_home(folder) else None


def forget_home(data: Path) -> None:
    """Delete what an earlier clamd has left, if the server was killed."""
    home = remembered_home(data)
    if home is not None:
        home.remove()
    with suppress(OSError):  # it names nothing that is there
        (data / _POINTER).unlink()


def _write_pointer(data: Path, home: Home) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(data / _POINTER, flags, 0o600), "w") as file:
        file.write(str(home.folder))
