"""Files per second: ours over TCP and UDP, on bad paths too, beside peers and clamd."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import filepeers, servers
from bench.boxes import make_boxes
from bench.turns import Case, Entry, Result, measure
from securerecv.errors import ScannerError
from securerecv.scanning.client import UnixClient
from securerecv.scanning.home import find_program
from securerecv.scanning.proofs import EICAR
from securerecv.wire.pathmtu import SIZES

LARGE_BYTES = 512 << 20
SCANNED_BYTES = 64 << 20
FAST_PATH_BYTES = 64 << 20
SLOW_PATH_BYTES = 32 << 20
UFTP_KBIT_PER_S = 2_000_000
"""What it is fastest at without loss."""

FAST_MBIT, SLOW_MBIT = 800, 100
FAST_PATHS = ((0.01, 20), (0.05, 50))
SLOW_PATHS = ((0.0, 20), (0.01, 20), (0.05, 20))
"""Share of packets that is lost, in either direction, and round trip in ms."""

SHORTEST = {"longest": SIZES[0]}


@dataclass(frozen=True)
class House:
    """
    Our server, set up for large files.

    Attributes:
        folder: for what the others keep.
        server: running.
        scanner: the socket of its clamd.
        runs: how many on each.
    """

    folder: Path
    server: servers.Server
    scanner: str
    runs: int

    @property
    def over_udp(self) -> dict[str, object]:
        """The load's options."""
        return {"way": "udp", "tcp-port": self.server.ports["tcp"]}


def can_run() -> bool:
    """Tell whether there is a clamd, without which no file is taken."""
    return find_program() is not None


@contextmanager
def house(folder: Path, runs: int) -> Iterator[House]:
    """
    Run our server, with a clamd of its own that knows one signature.

    Raises:
        ServerError: it did not start.
        OperatorError: its folder could not be made.
    """
    signatures = folder / "signatures"
    signatures.mkdir()
    (signatures / "bench.ndb").write_text(f"Eicar-Test-Signature:0:0:{EICAR.hex()}\n")
    data = folder / "files"
    make_boxes(data, 1, 1)
    options = {
        "scanner": "spawn",
        "signatures": signatures,
        "max-file": LARGE_BYTES,
        "box-bytes": 8 * LARGE_BYTES,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with servers.securerecv(data, *map(str, words)) as server:
        yield House(folder, server, scanner_of(server), runs)


def scanner_of(server: servers.Server) -> str:
    """
    Wait for a server's own clamd; return its socket.

    Raises:
        ServerError: it does not answer.
    """
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    give_up_at = time.monotonic() + servers.START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        for child in children.read_text().split():
            # The process that looks after clamd is told where its home is.
            words = Path(f"/proc/{child}/cmdline").read_text()
            if home := re.search(r"/[^\0]*/securerecv-clamd-[^/\0]+", words):
                path = f"{home[0]}/clamd.sock"
                with suppress(ScannerError):
                    UnixClient(path, servers.START_TIMEOUT_S).ping()
                    return path
        time.sleep(servers.POLL_S)
    raise servers.ServerError("the server's clamd did not start")


def over_tcp(house: House) -> Result:
    """
    Send large files over TLS.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    case = Case(
        f"{LARGE_BYTES >> 20} MiB, TLS",
        "bench.fileload",
        {"bytes": LARGE_BYTES, "way": "program"},
        rate="mb_per_s",
    )
    with ExitStack() as stack:
        sink = stack.enter_context(servers.file_sink(house.folder))
        nginx = stack.enter_context(filepeers.nginx(house.folder))
        ssh = stack.enter_context(filepeers.sshd(house.folder))
        entries = [
            Entry("ours", house.server, {"way": "tls"}),
            Entry("sink, keeps nothing", sink, {"way": "plain"}),
            Entry("nginx PUT", nginx, {"way": "http"}),
            Entry(
                "scp",
                ssh.server if ssh else None,
                {"command": ssh.command if ssh else None},
            ),
        ]
        return measure(case, entries, house.runs)


def over_udp(house: House) -> Result:
    """
    Send large files over UDP without loss.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    ours, udp = house.server, house.over_udp
    with filepeers.uftpd(house.folder / "loopback") as uftp:
        port = uftp.ports["udp"] if uftp else 0
        command = filepeers.uftp_command(port, UFTP_KBIT_PER_S)
        entries = [
            Entry("ours, 1,232 bytes a packet", ours, {**udp, **SHORTEST}),
            Entry("ours, as found", ours, udp),
            Entry("uftp", uftp, {"way": "program", "command": command}),
        ]
        case = Case(
            f"{LARGE_BYTES >> 20} MiB, UDP",
            "bench.fileload",
            {"bytes": LARGE_BYTES},
            "udp",
            "mb_per_s",
        )
        return measure(case, entries, house.runs)


@contextmanager
def path(
    folder: Path, to: servers.Server | None, options: list[str]
) -> Iterator[servers.Server | None]:
    """Put a relay before a server; its process still counts as the server's."""
    if to is None:
        yield None
        return
    command = [sys.executable, "-m", "bench.lanerelay"]
    command += ["--to", str(to.ports["udp"]), *options]
    log = folder / f"relay-{to.name}.log"
    with servers.running(command, servers.REPOSITORY, log, {"udp"}) as relay:
        yield servers.Server(to.name, to.pid, relay.ports)


def on_path(house: House, mbit: int, loss: float, round_trip_ms: int) -> Result:
    """
    Send files through a relay: on a fast one, beside uftp at the link's rate.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    fast = mbit == FAST_MBIT
    options = ["--mbit", str(mbit), "--loss", str(loss)]
    options += ["--round-trip-ms", str(round_trip_ms)]
    case = Case(
        f"{mbit} Mbit/s, {round_trip_ms} ms, {loss:.0%}",
        "bench.fileload",
        {"bytes": FAST_PATH_BYTES if fast else SLOW_PATH_BYTES},
        "udp",
        "mb_per_s",
    )
    with ExitStack() as stack:
        ours = stack.enter_context(path(house.folder, house.server, options))
        entries = [Entry("ours", ours, house.over_udp)]
        if fast:
            home = house.folder / f"path-{loss}"
            server = stack.enter_context(filepeers.uftpd(home))
            uftp = stack.enter_context(path(house.folder, server, options))
            port = uftp.ports["udp"] if uftp else 0
            command = filepeers.uftp_command(port, 1000 * mbit)
            entries.append(Entry("uftp", uftp, {"way": "program", "command": command}))
        return measure(case, entries, house.runs)


def on_paths(house: House) -> Iterator[Result]:
    """
    Send files on every path, and yield each result when it is done.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    for mbit, paths in ((FAST_MBIT, FAST_PATHS), (SLOW_MBIT, SLOW_PATHS)):
        for loss, round_trip_ms in paths:
            yield on_path(house, mbit, loss, round_trip_ms)


def to_verdict(house: House) -> Result:
    """
    Take the time from the last byte to the verdict, beside clamd's own.

    Raises:
        ServerError: a run failed.
    """
    case = Case(
        f"{SCANNED_BYTES >> 20} MiB",
        "bench.fileload",
        {"bytes": SCANNED_BYTES, "way": "tls"},
        rate="verdict_s",
    )
    result = Result(case, {"ours": [], "clamd alone": []})
    for _ in range(house.runs):
        one = measure(case, [Entry("ours", house.server)], 1)
        result.runs["ours"] += one.runs["ours"]
        options = {"socket": house.scanner, "bytes": SCANNED_BYTES}
        result.runs["clamd alone"].append(servers.run_json("bench.scanload", options))
    return result
