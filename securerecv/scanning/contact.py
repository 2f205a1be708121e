"""What is known of one clamd, and scanning with it; for several threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import evolve, frozen

from securerecv.errors import ScannerError
from securerecv.interfaces import Verdict, VerdictKind
from securerecv.limits import MAX_SCANNED_BYTES
from securerecv.scanning import proofs
from securerecv.scanning.place import Client, Peer, Place
from securerecv.scanning.verdicts import held, judge

LOOK_TIMEOUT_S = 5.0
SCAN_TIMEOUT_S = 300.0
MIN_SCAN_BYTES_PER_S = 1 << 20
"""A file of n bytes may take ``n / MIN_SCAN_BYTES_PER_S`` longer."""

_MIN_PROVEN_BYTES = 64 * 1024


@frozen
class Report:
    """
    How a clamd was found.

    Attributes:
        peer: the process.
        version: as clamd says it, ``ClamAV <program>/<signatures>/<their date>``.
        database: which signatures it uses; None where it does not say.
        reports_limits: it says so when it did not look at everything
            (``AlertExceedsMax``).
        reports_encrypted: the same of what is encrypted (``AlertEncrypted``).
        believed_bytes: up to which size of a file its ``OK`` counts.
    """

    peer: Peer
    version: str
    database: str | None
    reports_limits: bool
    reports_encrypted: bool
    believed_bytes: int


class Contact:
    """
    One clamd.

    Args:
        place: where it listens.
        max_file: the largest file that is received, bytes.
        loaded: tells more of which signatures are loaded than clamd does; None
            where nobody but clamd knows.
        look_timeout_s: for each of the short questions.
        scan_timeout_s: for a scan, and longer by the size.
    """

    def __init__(
        self,
        place: Place,
        max_file: int,
        loaded: Callable[[], str] | None = None,
        look_timeout_s: float = LOOK_TIMEOUT_S,
        scan_timeout_s: float = SCAN_TIMEOUT_S,
    ) -> None:
        self.place = place
        self._max_file = max_file
        self._loaded = loaded
        self._look_timeout_s = look_timeout_s
        self._scan_timeout_s = scan_timeout_s
        self._lock = threading.Lock()
        self._known: Report | None = None
        self._clients: set[Client] = set()
        self._is_closed = False

    def look(self) -> Report:
        """
        See whether it answers, and what it can be relied on for.

        Raises:
            ScannerError: it does not answer as it should.
        """
        # What is loaded now may be replaced meanwhile, and then the file is looked
        # at once more than it had to be; never once less.
        loaded = self._loaded() if self._loaded is not None else ""
        with self._client(self._look_timeout_s) as client:
            if client.ping() != "PONG":
                raise ScannerError("the scanner gave an answer that makes no sense")
            version = client.version()
            # One at a time: proving takes a while, and others want to know too.
            with self._lock:
                known = self._known
                if known is None or known.peer != client.peer:
                    known = self._prove(client.peer)
        database = f"{version} {loaded}".strip() if loaded or "/" in version else None
        report = evolve(known, version=version, database=database)
        self._known = report
        return report

    def scan(self, descriptor: int, size: int) -> Verdict:
        """
        Have a file looked at.

        Raises:
            ScannerError: there is no verdict, because clamd does not answer as it
                should.
        """
        report = self.look()
        timeout_s = self._scan_timeout_s + size / MIN_SCAN_BYTES_PER_S
        with self._client(timeout_s) as client:
            answer = client.scan(descriptor, size)
            if client.peer != report.peer:
                raise ScannerError("the scanner was started anew meanwhile")
        verdict = judge(answer)
        if verdict.kind is VerdictKind.CLEAN and size > report.believed_bytes:
            verdict = held("the scanner is not set up for files of this size")
        return evolve(verdict, database=report.database)

    def close(self) -> None:
        """End what is under way: every thread gets its `ScannerError` at once."""
        self._is_closed = True
        for client in list(self._clients):
            client.abort()

    def _prove(self, peer: Peer) -> Report:
        with self._client(self._look_timeout_s + self._scan_timeout_s) as client:
            limits = proofs.admits(client, proofs.nested())
            encrypted = proofs.admits(client, proofs.encrypted())
            believed = MAX_SCANNED_BYTES if limits else self._proven_bytes(client)
        return Report(peer, "", None, limits, encrypted, believed)

    def _proven_bytes(self, client: Client) -> int:
        """Find a size up to which it looks at everything: try, halve, try."""
        size = self._max_file
        while True:
            if proofs.finds_behind(client, max(size, proofs.MIN_BEHIND_BYTES)):
                return size
            if size < _MIN_PROVEN_BYTES:
                return 0
            size //= 2

    @contextmanager
    def _client(self, timeout_s: float) -> Iterator[Client]:
        client = self.place.client(timeout_s)
        self._clients.add(client)
        if self._is_closed:
            client.abort()
        try:
            yield client
        except ScannerError:
            self._known = None
            raise
        finally:
            self._clients.discard(client)
