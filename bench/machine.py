"""What figures depend on, beside what is measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from ssl import OPENSSL_VERSION
from typing import Any

from bench.servers import NotInstalledError, installed

PEERS = {
    "redis": ("redis-server", "--version"),
    "mosquitto": ("mosquitto", "-h"),
    "nginx": ("nginx", "-v"),
    "openssh": ("ssh", "-V"),
    "srt": ("srt-file-transmit", "-version"),
    "rsyslog": ("rsyslogd", "-v"),
    "clamav": ("clamd", "--version"),
}
"""How other programs say their version; uftp and carbon-cache never do."""

TIMEOUT_S = 10.0


def machine() -> dict[str, Any]:
    """Return its cores and load, and the versions of kernel, libraries and peers."""
    return {
        "cores": os.cpu_count(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "twisted": version("twisted"),
        "pyopenssl": version("pyopenssl"),
        "cryptography": version("cryptography"),
        "bcrypt": version("bcrypt"),
        "openssl_of_the_generator": OPENSSL_VERSION,
        **peers(),
    }


def peers() -> dict[str, str]:
    """Return the versions of other programs that are installed and tell theirs."""
    told = {name: told_by(*command) for name, command in PEERS.items()}
    return {name: words for name, words in told.items() if words}


def told_by(name: str, option: str) -> str:
    """Return the version in a program's first line; nothing if there is none."""
    try:
        done = subprocess.run(
            [installed(name), option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except (NotInstalledError, OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+(\.\d+)+(p\d+)?", done.stdout.partition("\n")[0])
    return found[0] if found else ""
