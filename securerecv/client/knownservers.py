"""
Trust on first use: the keys of servers that were accepted once.

The file has one line for each server, ``HOST:PORT sha256//BASE64``.  Blank
lines and lines that begin with ``#`` are left as they are.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from securerecv.client.address import ServerAddress
from securerecv.client.errors import UnknownServerError, UntrustedServerError
from securerecv.client.trust import is_pin
from securerecv.errors import OperatorError


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the file's place, ``securerecv/known_servers`` in the XDG folder."""
    folder = Path(environment.get("XDG_CONFIG_HOME", ""))
    # The XDG base directory specification: a path that is not absolute is as
    # good as none.
    if not folder.is_absolute():
        folder = Path.home() / ".config"
    return folder / "securerecv" / "known_servers"


class KnownServers:
    """
    The servers in one file.

    Args:
        path: the file; it and its folder are made when they are needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, server: ServerAddress, pin: str) -> None:
        """
        Compare a server's key with the known one.

        Raises:
            UnknownServerError: there is none; `remember` can change that.
            UntrustedServerError: there is another one.
            OperatorError: the file cannot be read.
        """
        place, known = self._find(server)
        if known is None:
            raise UnknownServerError(
                f"the key of {server} is not known yet: it shows {pin}", pin
            )
        if known != pin:
            raise UntrustedServerError(
                f"the key of {server} has changed: it was {known} and now is {pin}."
                " Either the server was given a new key, or somebody else answers in"
                " its place; nothing was sent. Ask whoever runs the server; if they"
                f" confirm the new key, remove line {place} from {self.path} and"
                " connect again"
            )

    def remember(self, server: ServerAddress, pin: str) -> None:
        """
        Store the key of a server that is not known yet.

        Raises:
            UntrustedServerError: another key was stored in the meantime.
            OperatorError: the file cannot be read or written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path.parent):
                _, known = self._find(server)
                if known is None:
                    self._replace([*self._lines(), f"{server} {pin}"])
        except OSError as error:
            raise self._trouble(error) from None
        self.check(server, pin)

    def _find(self, server: ServerAddress) -> tuple[int, str | None]:
        """Give the number of a server's line, from 1, and its key."""
        for number, line in enumerate(self._lines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != len(("server", "pin")) or not is_pin(words[1]):
                raise OperatorError(
                    f"{self.path}, line {number}: HOST:PORT sha256//BASE64 is wanted"
                )
            if words[0] == str(server):
                return number, words[1]
        return 0, None

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._trouble(error) from None

    def _replace(self, lines: list[str]) -> None:
        """Put a new file in the old one's place; readers see one of the two."""
        # Made with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".known-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _trouble(self, error: Exception) -> OperatorError:
        words = error.strerror if isinstance(error, OSError) else str(error)
        return OperatorError(f"{self.path}: {words}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which nothing but this module takes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
