"""
How the log looks: one line an event, for people or for programs.

It has all that this package says, and of what Twisted says the warnings and errors.

What is logged never holds a message, a name or a secret; that is up to the
callers, and tests read the log for it.
"""

import json
from collections.abc import Callable
from typing import Any, TextIO

from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FileLogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
)

from securerecv.wire.lines import rfc3339

_OURS = "securerecv."
_WARNINGS = (LogLevel.warn, LogLevel.error, LogLevel.critical)


def log_observer(file: TextIO, log_format: str) -> FileLogObserver:
    """
    Make an observer that writes to a file.

    Args:
        file: where to.
        log_format: ``text`` or ``json``.
    """
    formats: dict[str, Callable[[LogEvent], str]] = {"text": _text, "json": _json}
    write = formats[log_format]
    return FileLogObserver(file, lambda event: write(event) if _counts(event) else None)


def _counts(event: LogEvent) -> bool:
    failure = event.get("log_failure")
    if failure is not None and failure.check(ReactorNotRunning):
        # Ctrl-C was pressed again while the process ends, which harms nothing.
        return False
    is_ours = event.get("log_namespace", "").startswith(_OURS)
    return is_ours or event["log_level"] in _WARNINGS


def _parts(event: LogEvent) -> dict[str, Any]:
    parts = {
        "time": rfc3339(int(event["log_time"] * 1000)),
        "level": event["log_level"].name,
        "from": event.get("log_namespace", "-").removeprefix(_OURS),
        "text": formatEvent(event),
    }
    failure = event.get("log_failure")
    if failure is not None:
        parts["traceback"] = failure.getTraceback()
    return parts


def _json(event: LogEvent) -> str:
    return json.dumps(_parts(event), ensure_ascii=False) + "\n"


def _text(event: LogEvent) -> str:
    parts = _parts(event)
    line = "{time} {level:<8} {from}: {text}\n".format(**parts)
    traceback = parts.get("traceback", "")
    return line + "".join(f"    {row}\n" for row in traceback.splitlines())
