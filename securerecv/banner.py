"""What the person who starts a server is shown."""

import shlex
import shutil
import sys
from pathlib import Path

from attrs import evolve
from sqlalchemy import make_url

from securerecv import __version__
from securerecv.assembly.places import Place
from securerecv.net.ports import EVERYWHERE
from securerecv.service import Receiver
from securerecv.settings import DEFAULT_DATA, Settings
from securerecv.wire.lines import NOTICE

_PICTURE = r"""
  ___ ___ __ _  _ _ _ ___ _ _ ___ __ __ __
 (_-</ -_) _| || | '_/ -_) '_/ -_) _\ V /
 /__/\___\__|\_,_|_| \___|_| \___\__|\_/
"""

HEADING = f"""{_PICTURE.strip(chr(10))}
 securerecv {__version__}: a secure receiver

 {NOTICE}
"""
"""The name, and what it may be used for."""


def banner(receiver: Receiver) -> str:
    """Describe a receiver that has started, and say what to type next."""
    settings = receiver.settings
    rows = [
        HEADING,
        *(
            f" {place.transport:<12} {place}{' (behind a proxy)' * place.proxied}"
            for place in receiver.places
        ),
        f" data         {settings.data}",
        f" pin          {receiver.identity.pin}",
        f" sealing key  x25519 {receiver.identity.sealing_key.hex()}",
        f" scanner      {receiver.office.scanner_words}",
        "",
        " Type next, in another terminal:",
        f"   {next_command(receiver)}",
        "",
    ]
    return "\n".join(rows) + "\n"


def next_command(receiver: Receiver) -> str:
    """Give the command that brings a person one step further."""
    if receiver.office.has_accounts:
        for place in receiver.places:
            if not place.proxied:
                return f"openssl s_client {_way_to(place)} -quiet"
    return account_command(receiver.settings)


def _way_to(place: Place) -> str:
    if place.transport == "unix":
        return f"-unix {shlex.quote(place.host)}"
    if place.host in EVERYWHERE:
        place = evolve(place, host="127.0.0.1")
    version = "-dtls1_2 " if place.transport == "udp" else ""
    return f"{version}-connect {place}"


def account_command(settings: Settings) -> str:
    """Give the command that makes the first account where the settings say."""
    words = [*_program(), "account", "add", "alice"]
    if settings.data != Path(DEFAULT_DATA).absolute():
        words += ["--data", str(settings.data)]
    if settings.store and make_url(settings.store).password is None:
        words += ["--store", settings.store]
    elif settings.store:
        # A command line is for everybody to see.
        return f'{shlex.join(words)} --store "$SECURERECV_STORE"'
    return shlex.join(words)


def _program() -> list[str]:
    """Find how the ``securerecv`` command is to be called from a shell."""
    beside = Path(sys.executable).with_name("securerecv")
    if not beside.exists():
        return [sys.executable, "-m", "securerecv.cli.main"]
    found = shutil.which("securerecv")
    if found is not None and Path(found).samefile(beside):
        return ["securerecv"]
    here = Path.cwd()
    return [str(beside.relative_to(here) if beside.is_relative_to(here) else beside)]
