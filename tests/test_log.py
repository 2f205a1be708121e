"""What is in the log, and how it looks."""

from __future__ import annotations

import io
import json

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securerecv.log import log_observer


class LogTests(SynchronousTestCase):
    """Events, written to a file."""

    def logged(self, log_format: str) -> str:
        """Log at each level, from here, from Twisted and from next to here."""
        file = io.StringIO()
        publisher = LogPublisher(log_observer(file, log_format))
        for namespace in ("securerecv.net.tcp", "log_legacy", "securerecvx", "twisted"):
            log = Logger(namespace, observer=publisher)
            for level in LogLevel.iterconstants():
                log.emit(level, "{what} happened", what=level.name)
        return file.getvalue()

    def test_what_is_written(self) -> None:
        """All that is ours is written, and of the rest what is a warning or worse."""
        rows = [json.loads(line) for line in self.logged("json").splitlines()]
        levels: dict[str, list[str]] = {}
        for row in rows:
            levels.setdefault(row["from"], []).append(row["level"])
        grave = ["warn", "error", "critical"]
        self.assertEqual(
            levels,
            {
                "net.tcp": ["debug", "info", *grave],
                "log_legacy": grave,
                "securerecvx": grave,
                "twisted": grave,
            },
        )

    def test_text(self) -> None:
        """A line has the time in UTC, the level, the module and the words."""
        line = self.logged("text").splitlines()[1]
        self.assertRegex(line, r"^\d{4}-\S+Z info +net\.tcp: info happened$")

    def test_second_ctrl_c(self) -> None:
        """What Twisted says of a second Ctrl-C is no news, and no traceback."""
        file = io.StringIO()
        publisher = LogPublisher(log_observer(file, "text"))
        log = Logger("twisted.internet.base", observer=publisher)
        log.failure("while calling from thread", Failure(ReactorNotRunning()))
        self.assertEqual(file.getvalue(), "")

    def test_traceback(self) -> None:
        """A failure is there with its traceback, in both formats."""
        for log_format in ("text", "json"):
            file = io.StringIO()
            publisher = LogPublisher(log_observer(file, log_format))
            log = Logger("twisted", observer=publisher)
            log.failure("it failed", Failure(ValueError("how odd")))
            first, *rest = file.getvalue().splitlines()
            if log_format == "json":
                self.assertEqual(rest, [])
                rest = json.loads(first)["traceback"].splitlines()
            else:
                self.assertTrue(all(line.startswith("    ") for line in rest))
            self.assertIn("ValueError: how odd", rest[-1])
