"""Files per second: ours over TCP and UDP, on bad paths too, beside peers and clamd."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench import filepeers, servers
from bench.absence import Absent
from bench.boxes import make_boxes
from bench.peers import enter
from bench.proc import children
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
    give_up_at = time.monotonic() + servers.START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        for child in children(server.pid):
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
        {"bytes": LARGE_BYTES},
        rate="mb_per_s",
    )
    with ExitStack() as stack:
        sink = stack.enter_context(servers.file_sink(house.folder))
        entries = [
            Entry("ours", house.server, {"way": "tls"}),
            Entry("sink, keeps nothing", sink, {"way": "plain"}),
            enter(stack, "nginx PUT", filepeers.nginx(house.folder)),
            enter(stack, "scp", filepeers.sshd(house.folder)),
        ]
        return measure(case, entries, house.runs)


def over_udp(house: House) -> Result:
    """
    Send large files over UDP without loss.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    ours, udp = house.server, house.over_udp
    case = Case(
        f"{LARGE_BYTES >> 20} MiB, UDP",
        "bench.fileload",
        {"bytes": LARGE_BYTES},
        "udp",
        "mb_per_s",
    )
    with ExitStack() as stack:
        uftpd = filepeers.uftpd(house.folder / "loopback", UFTP_KBIT_PER_S)
        entries = [
            Entry("ours, 1,232 bytes a packet", ours, {**udp, **SHORTEST}),
            Entry("ours, as found", ours, udp),
            enter(stack, "uftp", uftpd),
            enter(stack, "srt", filepeers.srt(house.folder)),
        ]
        return measure(case, entries, house.runs)


@contextmanager
def behind_relay(folder: Path, entry: Entry, options: list[str]) -> Iterator[Entry]:
    """Put a relay before a server; its process still counts as the server's."""
    to = entry.server
    if isinstance(to, Absent):
        yield entry
        return
    words = ("--to", str(to.ports["udp"]), *options)
    log = folder / f"relay-{to.name}.log"
    with servers.serving("bench.lanerelay", *words, transport="udp", log=log) as relay:
        yield replace(entry, server=replace(to, ports=relay.ports))


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
        entries = [Entry("ours", house.server, house.over_udp)]
        if fast:
            uftpd = filepeers.uftpd(house.folder / f"path-{loss}", 1000 * mbit)
            entries.append(enter(stack, "uftp", uftpd))
        relays = [behind_relay(house.folder, entry, options) for entry in entries]
        return measure(case, list(map(stack.enter_context, relays)), house.runs)


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
        result.add(measure(case, [Entry("ours", house.server)], 1))
        options = {"socket": house.scanner, "bytes": SCANNED_BYTES}
        result.runs["clamd alone"].append(servers.run_json("bench.scanload", options))
    return result
