"""Memory does not grow with what is received."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.settings import Settings
from tests.clamd import make_signatures
from tests.program import run, server
from tests.support import add_accounts

FILE_BYTES = 160 << 20
MAX_GROWTH_BYTES = 32 << 20
_LOOK_EVERY_S = 0.02


class Peak(threading.Thread):
    """
    Follows the resident memory of a process, until it is asked.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._is_over = threading.Event()
        self._first = self._most = self._look()
        self.start()

    def run(self) -> None:
        """Look again and again."""
        while not self._is_over.wait(_LOOK_EVERY_S):
            self._most = max(self._most, self._look())

    def growth(self) -> int:
        """Stop, and give by how many bytes it has grown at the most."""
        self._is_over.set()
        self.join()
        return self._most - self._first

    def _look(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", self._status.read_text())
        assert found is not None
        return int(found[1]) * 1024


class FileTests(SynchronousTestCase):
    """A file that is five times as large as the server may grow."""

    def test_large_file(self) -> None:
        """Receiving and scanning it takes less than 32 MiB, on both transports."""
        data = Path(self.mktemp()).absolute()
        add_accounts(Settings(data=data), alice="wonder land")
        signatures = make_signatures(data.with_name("signatures"))
        large = data.with_name("large.bin")
        options = ("--proto", "both", "--max-file", str(FILE_BYTES))
        scanner = ("--scanner", "spawn", "--signatures", str(signatures))
        with server(data, *options, *scanner) as process:
            pin = process.wait_for(r"(sha256//\S{44})")[1]
            where = (f"127.0.0.1:{process.port}", "--pin", pin, "--to", "alice")
            for transport in ((), ("--udp",)):
                # clamd knows again what it has seen.
                large.write_bytes(os.urandom(1 << 20) * (FILE_BYTES >> 20))
                peak = Peak(process.pid)
                ended = run("put", *where, *transport, str(large))
                self.assertEqual(ended.returncode, 0, ended.stderr)
                self.assertRegex(ended.stdout, r"^sent [0-9a-f]{16}: clean$")
                self.assertLess(peak.growth(), MAX_GROWTH_BYTES)
