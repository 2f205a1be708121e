"""
What an operator may set: one table, read by every front end.

The command line, a TOML file and ``SECURERECV_…`` variables all use the names
of `OPTIONS`; the first that names an option wins, in this order: command line,
environment, file, default.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, field, fields_dict, frozen

from securerecv.errors import OperatorError
from securerecv.limits import MAX_SCANNED_BYTES

DEFAULT_PORT = 7443
DEFAULT_DATA = "./var"
MAX_PORT = 65535
MAX_BOX_BYTES = 1 << 30
"""What all messages of a box may have together: ``LAST`` answers with them all."""

_VARIABLES_BEGIN = "SECURERECV_"
CONFIG_VARIABLE = _VARIABLES_BEGIN + "CONFIG"
"""Names the TOML file."""
PASSWORD_VARIABLE = _VARIABLES_BEGIN + "PASSWORD"
TOKEN_VARIABLE = _VARIABLES_BEGIN + "TOKEN"
"""Are the client's, and may be there when a server starts as well."""

_ENDPOINT = re.compile(r"[a-zA-Z0-9_-]+:\S+")
# More digits than any limit has; Python refuses to read thousands of them.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


@frozen
class Settings:
    """
    Everything that an operator decides, checked.

    Raises:
        OperatorError: two settings do not go together.
    """

    proto: str = "both"
    port: int = DEFAULT_PORT
    interface: str = ""
    listen: tuple[str, ...] = ()
    data: Path = field(factory=lambda: Path(DEFAULT_DATA).absolute())
    keep: int = 5
    anonymous: bool = True
    scanner: str = "auto"
    signatures: Path = Path("/var/lib/clamav")
    max_message: int = 1024 * 1024
    max_file: int = 100 * 1024 * 1024
    file_retention: int = 7
    box_bytes: int = 1024 * 1024 * 1024
    keep_free: int = 256 * 1024 * 1024
    cert: Path | None = None
    key: Path | None = None
    store: str = ""
    log_format: str = "text"

    def __attrs_post_init__(self) -> None:
        """Check what no single option can check."""
        if (self.cert is None) != (self.key is None):
            raise OperatorError("--cert and --key go together: give both or neither")
        box_bytes = self.keep * self.max_message
        if box_bytes > MAX_BOX_BYTES:
            raise OperatorError(
                f"--keep {self.keep} and --max-message {self.max_message}: a box"
                f" would hold {box_bytes} bytes, at most {MAX_BOX_BYTES} are allowed"
            )


@frozen
class Option:
    """
    One thing that can be set, and how it is written.

    Attributes:
        name: as on the command line, without the dashes.
        parse: turns the written form into the value; raises `OperatorError`.
        metavar: what stands for the value in help; empty for a switch.
        words: one line of help, in which ``{}`` stands for the default.
        attribute: the name in `Settings`.
    """

    name: str
    parse: Callable[[str], Any]
    metavar: str
    words: str
    attribute: str = Factory(lambda self: self.name.replace("-", "_"), takes_self=True)

    @property
    def help(self) -> str:
        """What it does, in one line, and what it is when nobody sets it."""
        return self.words.format(fields_dict(Settings)[self.attribute].default)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return _VARIABLES_BEGIN + self.name.upper().replace("-", "_")

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times, or as a list in the file."""
        return isinstance(fields_dict(Settings)[self.attribute].default, tuple)

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off and takes no value on the command line."""
        return not self.metavar

    def read(self, written: str, where: str) -> Any:
        """Parse a written value; an error names the place it was written in."""
        try:
            return self.parse(written)
        except OperatorError as error:
            raise OperatorError(f"{where}: {error}") from None


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(written: str) -> str:
        if written not in choices:
            raise OperatorError(f"{written!r} is not one of {', '.join(choices)}")
        return written

    return parse


def _whole_number(written: str) -> int | None:
    return int(written) if _WHOLE_NUMBER.fullmatch(written) else None


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(written: str) -> int:
        value = _whole_number(written)
        if value is None:
            raise OperatorError(f"{written!r} is not a whole number")
        if not low <= value <= high:
            raise OperatorError(f"{value} is not from {low} to {high}")
        return value

    return parse


def _path(written: str) -> Path:
    if not written or "\0" in written:
        raise OperatorError(f"{written!r} is not a path")
    try:
        return Path(written).expanduser().absolute()
    except RuntimeError:
        raise OperatorError(f"{written!r}: there is no such user") from None


def _endpoints(written: str) -> tuple[str, ...]:
    words = tuple(written.split())
    if not all(map(_ENDPOINT.fullmatch, words)):
        raise OperatorError(f"{written!r} is not an endpoint, such as tcp:7443")
    return words


def _scanner(written: str) -> str:
    kind, _, rest = written.partition(":")
    if written in ("auto", "spawn", "none") or (kind == "unix" and rest):
        return written
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and 0 < (_whole_number(port) or 0) <= MAX_PORT:
        return written
    raise OperatorError(
        f"{written!r} is not one of auto, spawn, unix:PATH, tcp:HOST:PORT, none"
    )


def _store(written: str) -> str:
    if not written.startswith(("sqlite:", "postgresql:", "postgresql+psycopg:")):
        raise OperatorError(f"{written!r} is not a sqlite: or postgresql: URL")
    return written


def _off(written: str) -> bool:
    switches = {"1": False, "true": False, "yes": False, "on": False}
    switches |= {"0": True, "false": True, "no": True, "off": True, "": True}
    try:
        return switches[written.lower()]
    except KeyError:
        raise OperatorError(f"{written!r} is neither true nor false") from None


MAX_KEEP = 1000
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_RETENTION_DAYS = 36500
MAX_DISK_BYTES = 1 << 50

OPTIONS: tuple[Option, ...] = (
    Option(
        "proto",
        _one_of("tcp", "udp", "both"),
        "tcp|udp|both",
        "what to receive on ({})",
    ),
    Option(
        "port",
        _number(0, MAX_PORT),
        "N",
        "the port ({}); 0 takes a free one and prints it",
    ),
    Option("interface", str, "ADDR", "the address to listen on (all)"),
    Option(
        "listen",
        _endpoints,
        "ENDPOINT",
        "receive there instead: tcp:…, unix:…, haproxy:…, systemd:…; may be repeated",
    ),
    Option("data", _path, "DIR", f"the data folder ({DEFAULT_DATA})"),
    Option("keep", _number(1, MAX_KEEP), "N", "messages that a box keeps ({})"),
    Option(
        "no-anonymous",
        _off,
        "",
        "let nobody in without a login",
        attribute="anonymous",
    ),
    Option(
        "scanner",
        _scanner,
        "auto|spawn|unix:PATH|tcp:HOST:PORT|none",
        "the clamd that scans files ({})",
    ),
    Option(
        "signatures",
        _path,
        "DIR",
        "virus signatures for --scanner spawn ({})",
    ),
    Option(
        "max-message",
        _number(1, MAX_MESSAGE_BYTES),
        "BYTES",
        "the largest message taken ({})",
    ),
    Option(
        "max-file",
        _number(1, MAX_SCANNED_BYTES),
        "BYTES",
        "the largest file taken ({})",
    ),
    Option(
        "file-retention",
        _number(1, MAX_RETENTION_DAYS),
        "DAYS",
        "how long files are kept ({})",
    ),
    Option(
        "box-bytes",
        _number(1, MAX_DISK_BYTES),
        "BYTES",
        "the files of one box together ({})",
    ),
    Option(
        "keep-free",
        _number(0, MAX_DISK_BYTES),
        "BYTES",
        "room on the disk that files leave free ({})",
    ),
    Option(
        "cert", _path, "FILE", "a TLS certificate chain, PEM (else one is self-made)"
    ),
    Option("key", _path, "FILE", "its private key, PEM, mode 0600"),
    Option(
        "store",
        _store,
        "URL",
        "postgresql://…, or sqlite:///… (SQLite in the data folder)",
    ),
    Option("log-format", _one_of("text", "json"), "text|json", "how to log ({})"),
)

_BY_NAME = {option.name: option for option in OPTIONS}


def load(
    command_line: Mapping[str, str],
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """
    Make the settings from all the places where they may be written.

    Args:
        command_line: option name to written value; a switch that is on has
            the value ``"true"``.
        config: a TOML file, or None to look for ``SECURERECV_CONFIG``.
        environment: where ``SECURERECV_…`` variables are looked up.

    Raises:
        OperatorError: something written is wrong; the message names the
            place and the value.
    """
    _refuse_unknown(environment)
    values: dict[str, Any] = {}
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    if config is not None:
        values.update(_from_file(config))
    for option in OPTIONS:
        written = environment.get(option.variable)
        if written is not None:
            values[option.attribute] = option.read(written, option.variable)
    for name, written in command_line.items():
        option = _BY_NAME[name]
        values[option.attribute] = option.read(written, f"--{name}")
    return Settings(**values)


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = {option.variable for option in OPTIONS}
    known |= {CONFIG_VARIABLE, PASSWORD_VARIABLE, TOKEN_VARIABLE}
    for name in environment:
        if name.startswith(_VARIABLES_BEGIN) and name not in known:
            raise OperatorError(f"{name}: there is no such option")


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path}: {error}") from None
    values: dict[str, Any] = {}
    for name, found in table.items():
        option = _BY_NAME.get(name)
        if option is None:
            raise OperatorError(f"{path}: there is no option {name!r}")
        is_several = option.is_list and isinstance(found, list)
        value = " ".join(map(str, found)) if is_several else found
        if isinstance(value, bool) != option.is_switch or not isinstance(
            value, str | int
        ):
            wanted = "true or false" if option.is_switch else "a string or a number"
            raise OperatorError(f"{path}: {name}: {wanted} is wanted")
        written = str(value).lower() if option.is_switch else str(value)
        values[option.attribute] = option.read(written, f"{path}: {name}")
    return values
