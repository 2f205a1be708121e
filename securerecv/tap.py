"""``twistd securerecv``: options in, a service that knows how to fail politely."""

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO

from twisted.application.service import IService, Service
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from zope.interface import implementer

from securerecv.banner import banner
from securerecv.errors import OperatorError, SecurerecvError
from securerecv.log import log_observer
from securerecv.process import (
    keep_secrets_in_memory,
    look_for_garbage_seldom,
    watch_terminal,
)
from securerecv.service import Receiver
from securerecv.settings import OPTIONS, Settings, load


class Options(usage.Options):
    """The options of the server, from the table in `securerecv.settings`."""

    synopsis = "[options]"
    longdesc = (
        "Receive confidential messages and files. Every option may also be written"
        " in the file given with --config, or in the environment as SECURERECV_NAME."
    )
    optParameters: ClassVar = [
        [option.name, None, None, f"{option.metavar}: {option.help}"]
        for option in OPTIONS
        if not option.is_switch and not option.is_list
    ] + [["config", None, None, "FILE: a TOML file with these options"]]
    optFlags: ClassVar = [
        [option.name, None, option.help] for option in OPTIONS if option.is_switch
    ]

    settings: Settings

    def opt_listen(self, written: str) -> None:
        """ENDPOINT: another place to receive at."""
        self["listen"] = f"{self.get('listen', '')} {written}".strip()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse; wrong usage ends the program with exit code 2 and one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            _fail(error, 2)

    def postOptions(self) -> None:
        """
        Make the settings.

        Raises:
            usage.UsageError: a value is wrong.
        """
        written = {
            name: "true" if value == 1 else str(value)
            for name, value in self.items()
            if value not in (None, 0) and name != "config"
        }
        config = Path(self["config"]) if self["config"] else None
        try:
            self.settings = load(written, config)
        except OperatorError as error:
            raise usage.UsageError(str(error)) from None


for _option in OPTIONS:
    if _option.is_list:
        # The words that its help shows.
        Options.opt_listen.__doc__ = f"{_option.metavar}: {_option.help}"


@implementer(IService)
class ReceiverProcess(Service):
    """
    A `Receiver` that has the process to itself.

    It tells the person at the terminal what it serves, sets the log's format,
    and ends the process in one line when it cannot start.

    Args:
        receiver: the service proper.
        reactor: what it runs on.
        log_file: where the log goes, or None to leave it to twistd.
        screen: where the banner goes, or None for nowhere.
    """

    def __init__(
        self,
        receiver: Receiver,
        reactor: Any,
        log_file: TextIO | None,
        screen: TextIO | None,
    ) -> None:
        self._receiver = receiver
        self._reactor = reactor
        self._log_file = log_file
        self._screen = screen
        self._terminal: LoopingCall | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and give it the log observer."""
        super().setServiceParent(parent)
        if self._log_file is not None and isinstance(parent, Componentized):
            observer = log_observer(self._log_file, self._receiver.settings.log_format)
            parent.setComponent(ILogObserver, observer)

    def privilegedStartService(self) -> None:
        """Start, or end the process."""
        super().privilegedStartService()
        keep_secrets_in_memory()
        try:
            self._receiver.privilegedStartService()
        except SecurerecvError as error:
            _fail(error, 1)

    def startService(self) -> None:
        """Start, or end the process."""
        super().startService()
        try:
            self._receiver.startService()
        except SecurerecvError as error:
            _fail(error, 1)
        look_for_garbage_seldom()
        # Whoever has seen it may press Ctrl-C, which nobody heeds before.
        self._reactor.callWhenRunning(self._show_banner)

    def _show_banner(self) -> None:
        if self._screen is not None:
            self._terminal = watch_terminal(self._reactor, self._reactor.stop)
            self._screen.write(banner(self._receiver))
            self._screen.flush()

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """Stop."""
        super().stopService()
        if self._terminal is not None and self._terminal.running:
            self._terminal.stop()
        yield self._receiver.stopService()


def makeService(options: Options) -> ReceiverProcess:
    """Make what twistd runs."""
    from twisted.internet import reactor

    twistd: Any = options.parent or {}
    in_foreground = bool(twistd.get("nodaemon"))
    log_file: TextIO | None = None
    if not twistd.get("logger") and not twistd.get("syslog"):
        path = twistd.get("logfile") or ("-" if in_foreground else None)
        if path == "-":
            log_file = sys.stdout
        elif path is not None:
            log_file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - open to the end
    # Every line of a log for programs is for programs.
    screen = sys.stderr if options.settings.log_format == "json" else sys.stdout
    return ReceiverProcess(
        Receiver(options.settings, reactor),
        reactor,
        log_file,
        screen if in_foreground else None,
    )


def _fail(error: Exception, code: int) -> NoReturn:
    # When the log has begun, sys.stderr ends there.
    stderr = sys.__stderr__ or sys.stderr
    stderr.write(f"securerecv: {error}\n")
    stderr.flush()
    raise SystemExit(code)
