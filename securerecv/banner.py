"""What the person who starts a server is shown."""

import shlex
import shutil
import sys
from pathlib import Path

from securerecv import __version__
from securerecv.service import EVERYWHERE, Receiver
from securerecv.wire.lines import NOTICE

_PICTURE = r"""
  ___ ___ __ _  _ _ _ ___ _ _ ___ __ __ __
 (_-</ -_) _| || | '_/ -_) '_/ -_) _\ V /
 /__/\___\__|\_,_|_| \___|_| \___\__|\_/
"""


def banner(receiver: Receiver) -> str:
    """Describe a receiver that has started, and say what to type next."""
    settings = receiver.settings
    rows = [
        _PICTURE.strip("\n"),
        f" securerecv {__version__}: a secure receiver",
        "",
        f" {NOTICE}",
        "",
    ]
    rows += [
        f" {transport} {host}:{port}"
        for transport, (host, port) in receiver.ports.items()
    ]
    rows += [
        f" data         {settings.data}",
        f" pin          {receiver.identity.pin}",
        f" sealing key  x25519 {receiver.identity.sealing_key.hex()}",
        " scanner      none: this version receives no files",
        "",
        " Type next, in another terminal:",
        f"   {next_command(receiver)}",
        "",
    ]
    return "\n".join(rows) + "\n"


def next_command(receiver: Receiver) -> str:
    """Give the command that brings a person one step further."""
    if receiver.has_accounts:
        host, port = receiver.ports["tcp"]
        where = "127.0.0.1" if host in EVERYWHERE else host
        return f"openssl s_client -connect {where}:{port} -quiet"
    words = [_program(), "account", "add", "alice"]
    if receiver.settings.data != Path("var").absolute():
        words += ["--data", str(receiver.settings.data)]
    if receiver.settings.store:
        words += ["--store", receiver.settings.store]
    return shlex.join(words)


def _program() -> str:
    """Find how the ``securerecv`` command is to be called from a shell."""
    beside = Path(sys.executable).with_name("securerecv")
    found = shutil.which("securerecv")
    if found is not None and Path(found).samefile(beside):
        return "securerecv"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)
