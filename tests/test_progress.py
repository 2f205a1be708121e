"""Bars at a terminal."""

from __future__ import annotations

import os
import sys

from twisted.trial.unittest import SynchronousTestCase

from securerecv.cli.progress import Display
from securerecv.client.content import Stage


class DisplayTests(SynchronousTestCase):
    """What is drawn while the time is told by hand."""

    def setUp(self) -> None:
        """Put a terminal where errors are written to."""
        here, there = os.openpty()
        self.terminal = os.fdopen(here, "rb", buffering=0)
        self.stderr = os.fdopen(there, "w", encoding="utf-8")
        self.addCleanup(self.terminal.close)
        self.addCleanup(self.stderr.close)
        self.patch(sys, "stderr", self.stderr)
        self.patch(os, "environ", os.environ | {"TERM": "xterm", "COLUMNS": "120"})
        self.now_s = 0.0

    def drawn(self) -> str:
        """Read what is there, up to a mark that is put behind it."""
        self.stderr.write("^")
        self.stderr.flush()
        shown = b""
        while not shown.endswith(b"^"):
            shown += self.terminal.read(65_536)
        return shown.decode()

    def test_pace(self) -> None:
        """The bar shows how far it is, how quick, and how long it still takes."""
        with Display("x", lambda: self.now_s) as display:
            for done in range(4):
                self.now_s = float(done)
                display.progress(Stage.SENDING, done * 2_000_000, 10_000_000)
            shown = self.drawn()
        for words in ("sending x", "6.0/10.0 MB", "2.0 MB/s", "0:00:02"):
            self.assertIn(words, shown)

    def test_seldom(self) -> None:
        """What comes in quick succession is not all drawn."""
        with Display("x", lambda: self.now_s) as display:
            display.progress(Stage.SENDING, 0, 1000)
            self.drawn()
            self.now_s += 1.0
            for done in range(1, 1000):
                display.progress(Stage.SENDING, done, 1000)
            self.assertEqual(self.drawn().count("sending"), 1)
