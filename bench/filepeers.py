"""
Other programs that receive files, where they are installed.

How they run is in `bench.peers`.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.certificate import certificate
from bench.fileways import NAME
from bench.peers import free_port, home_of, listening
from bench.proc import children
from bench.servers import NotStartedError, Server, installed
from bench.tls import CIPHER

_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {cipher};
        client_max_body_size 0;
        root {home}/in;
        location / {{ dav_methods PUT; }}
    }}
}}
"""

_SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Ciphers aes256-gcm@openssh.com
"""

AGAIN = r'trap "kill \$!; wait; exit" TERM; while "$@" & wait $!; do :; done'
"""Of a shell: runs a command again each time that it has ended, if that was well."""

_UFTP_KEY = "ec:prime256v1"
_UFTP_ID = "0x11223344"
_UFTP_BUFFER_BYTES = 4 * 1024 * 1024
_UFTP_BLOCK_BYTES = 1300


def _sent_by(command: Sequence[str], kept: Path) -> dict[str, object]:
    """
    Return the load's options for what has a program that sends to it.

    Args:
        command: of that; ``{file}`` and ``{port}`` stand for the file and the
            server's port.
        kept: where the file is then.
    """
    return {"way": "program", "command": " ".join(command), "kept": kept}


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """Run nginx, which takes files by PUT over HTTPS."""
    program = installed("nginx")
    home = home_of(folder, "nginx")
    (home / "in").mkdir()
    cert, key = certificate(home)
    port = free_port()
    configuration = home / "nginx.conf"
    configuration.write_text(
        _NGINX.format(
            home=home,
            port=port,
            certificate=cert,
            key=key,
            cipher=CIPHER,
            # Root's worker would lose its rights, and could not write here.
            user="" if os.geteuid() else "user root;",
        )
    )
    command = [program, "-p", str(home), "-c", str(configuration)]
    command += ["-e", str(home / "error.log")]
    way = {"way": "http"}
    with listening("nginx", command, home, {"tcp": port}, way) as server:
        # Its worker is there before it listens, and does the work.
        yield replace(server, pid=children(server.pid)[0])


@contextmanager
def sshd(folder: Path) -> Iterator[Server]:
    """Run OpenSSH's server, which takes files from scp."""
    program, scp, keygen = map(installed, ("sshd", "scp", "ssh-keygen"))
    home = home_of(folder, "sshd")
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        if subprocess.run(command, check=False).returncode:
            raise NotStartedError(f"sshd did not start: {keygen} made no key")
    if not os.geteuid():
        # It gives up its rights into this folder, which an init script makes.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    configuration = home / "sshd_config"
    configuration.write_text(_SSHD.format(home=home, port=port))
    words = [scp, "-O", "-q", "-F", "none", "-i", str(home / "user")]
    for option in (
        "Ciphers=aes256-gcm@openssh.com",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
    ):
        words += ["-o", option]
    kept = home / "kept"
    words += ["-P", "{port}", "{file}", f"{getpass.getuser()}@127.0.0.1:{kept}"]
    command = [program, "-D", "-e", "-f", str(configuration)]
    options = _sent_by(words, kept)
    with listening("sshd", command, home, {"tcp": port}, options) as server:
        yield server


@contextmanager
def srt(folder: Path) -> Iterator[Server]:
    """
    Run SRT's receiver of files, which takes one and ends, again and again.

    Its exit code is 0 whatever becomes of a file. Datagrams have 1,456 bytes of content
    at most, and with larger pieces than those the sender breaks off.
    """
    program = installed("srt-file-transmit")
    home = home_of(folder, "srt")
    port = free_port(socket.SOCK_DGRAM)
    address = f"srt://127.0.0.1:{{}}?passphrase={secrets.token_hex()}&pbkeylen=32"
    command = ["sh", "-c", AGAIN, "sh", program, "-q"]
    command += [address.format(port) + "&mode=listener", f"file://{home}/"]
    words = [program, "-q", "{file}", address.format("{port}")]
    options = _sent_by(words, home / NAME)
    with listening("srt", command, home, {"udp": port}, options) as server:
        yield server


@contextmanager
def uftpd(folder: Path, kbit_per_s: int) -> Iterator[Server]:
    """
    Run uftp's server; what is sent to it is encrypted and signed.

    Args:
        folder: for what it keeps.
        kbit_per_s: the rate of sending; uftp knows no congestion control at it.
    """
    program, uftp = map(installed, ("uftpd", "uftp"))
    home = home_of(folder, "uftp")
    port = free_port(socket.SOCK_DGRAM)
    command = [program, "-d", "-E", "-q", "-I", "lo", "-p", str(port)]
    command += ["-B", str(_UFTP_BUFFER_BYTES), "-D", str(home)]
    command += ["-U", _UFTP_ID, "-K", _UFTP_KEY, "-k", str(home / "key")]
    words = [uftp, "-M", "127.0.0.1", "-P", "127.0.0.1", "-I", "lo", "-p", "{port}"]
    words += ["-B", str(_UFTP_BUFFER_BYTES), "-b", str(_UFTP_BLOCK_BYTES)]
    words += ["-Y", "aes256-gcm", "-h", "sha256", "-e", "ecdh_ecdsa"]
    words += ["-K", "prime256v1", "-H", _UFTP_ID]
    words += ["-D", "kept", "-R", str(kbit_per_s), "{file}"]
    options = _sent_by(words, home / "kept")
    with listening("uftpd", command, home, {"udp": port}, options) as server:
        yield server
