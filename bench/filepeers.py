"""
Other programs that receive files, where they are installed.

What is said in `bench.peers` of those for messages holds for them.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers import certificate, free_port, listening
from bench.servers import POLL_S, START_TIMEOUT_S, Server, ServerError, found, process
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

_UFTP_KEY = "ec:prime256v1"
_UFTP_ID = "0x11223344"
_UFTP_BUFFER_BYTES = 4 * 1024 * 1024
_UFTP_BLOCK_BYTES = 1300


@dataclass(frozen=True)
class Receiver:
    """
    A server, and the command that sends it a file.

    Attributes:
        server: running.
        command: words with spaces between; FILE stands for the file.
    """

    server: Server
    command: str


def _home(folder: Path, name: str) -> Path:
    home = folder / name
    (home / "in").mkdir(parents=True)
    return home


@contextmanager
def nginx(folder: Path) -> Iterator[Server | None]:
    """Run nginx, which takes files by PUT over HTTPS."""
    program = found("nginx")
    if program is None:
        yield None
        return
    home = _home(folder, "nginx")
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
    with listening(command, home, port) as server:
        yield _first_child(server)


def _first_child(server: Server) -> Server:
    """Return the same server with its worker's process, which does the work."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not (pids := children.read_text().split()):
        if time.monotonic() > give_up_at:
            raise ServerError(f"{server.name} has no worker")
        time.sleep(POLL_S)
    return Server(server.name, int(pids[0]), server.ports)


@contextmanager
def sshd(folder: Path) -> Iterator[Receiver | None]:
    """Run OpenSSH's server, which takes files from scp."""
    server_program, scp, keygen = map(found, ("sshd", "scp", "ssh-keygen"))
    if server_program is None or scp is None or keygen is None:
        yield None
        return
    home = _home(folder, "sshd")
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(command, check=True)
    if not os.geteuid():
        # It gives up its rights into this folder, which an init script makes.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    configuration = home / "sshd_config"
    configuration.write_text(_SSHD.format(home=home, port=port))
    words = [scp, "-O", "-q", "-F", "none", "-i", str(home / "user"), "-P", str(port)]
    for option in (
        "Ciphers=aes256-gcm@openssh.com",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
    ):
        words += ["-o", option]
    words += ["FILE", f"{getpass.getuser()}@127.0.0.1:{home}/in/bench.bin"]
    command = [server_program, "-D", "-e", "-f", str(configuration)]
    with listening(command, home, port) as server:
        yield Receiver(server, " ".join(words))


@contextmanager
def uftpd(folder: Path) -> Iterator[Server | None]:
    """Run uftp's server, for `uftp_command`."""
    program = found("uftpd")
    if program is None or found("uftp") is None:
        yield None
        return
    home = _home(folder, "uftp")
    port = free_port(socket.SOCK_DGRAM)
    command = [program, "-d", "-E", "-q", "-I", "lo", "-p", str(port)]
    command += ["-B", str(_UFTP_BUFFER_BYTES), "-D", str(home / "in")]
    command += ["-U", _UFTP_ID, "-K", _UFTP_KEY, "-k", str(home / "key")]
    with process(command, home, home / "uftpd.log") as running:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not _is_bound(port):
            if running.poll() is not None or time.monotonic() > give_up_at:
                raise ServerError("uftpd did not start")
            time.sleep(POLL_S)
        yield Server("uftpd", running.pid, {"udp": port})


def _is_bound(port: int) -> bool:
    """Tell whether somebody listens on a port for UDP, see proc(5)."""
    return f":{port:04X} " in Path("/proc/net/udp").read_text()


def uftp_command(port: int, kbit_per_s: int) -> str:
    """
    Return the command that sends FILE at a fixed rate, encrypted and signed.

    Args:
        port: of the server, or of what stands before it.
        kbit_per_s: the rate; uftp knows no congestion control at it.
    """
    words = [found("uftp") or "uftp", "-M", "127.0.0.1", "-P", "127.0.0.1", "-I", "lo"]
    words += ["-p", str(port), "-B", str(_UFTP_BUFFER_BYTES)]
    words += ["-b", str(_UFTP_BLOCK_BYTES), "-Y", "aes256-gcm", "-h", "sha256"]
    words += ["-e", "ecdh_ecdsa", "-K", "prime256v1", "-H", _UFTP_ID]
    words += ["-D", "bench.bin", "-R", str(kbit_per_s), "FILE"]
    return " ".join(words)
