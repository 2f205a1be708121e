"""The classes of load: what is measured of each, and what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import (
    collectors,
    datagrams,
    files,
    lane,
    memory,
    messages,
    servers,
    unanswered,
)
from bench.filetables import (
    PATH_NOTES,
    TCP_NOTES,
    UDP_NOTES,
    clean_sheet,
    files_sheet,
)
from bench.sheets import Sheet
from bench.tables import (
    dtls_sheet,
    logins_sheets,
    memory_sheet,
    openings_sheet,
    sealed_sheet,
    tls_sheet,
)
from bench.turns import Entry, Result, measure

LOGINS = 50


@dataclass(frozen=True)
class Bench:
    """What every class of load is given: our server, the extent, where to print."""

    folder: Path
    ours: servers.Server
    sealing_key: bytes
    boxes: int
    runs: int
    seconds: float
    console: Console
    sheets: list[Sheet]

    def show(self, sheet: Sheet) -> None:
        """Print a table, and keep it."""
        self.console.print(sheet.terminal())
        self.sheets.append(sheet)

    def collect(self, what: str, results: Iterable[Result]) -> list[Result]:
        """Wait for results, and say how far it is."""
        done: list[Result] = []
        with self.console.status(what) as status:
            for result in results:
                done.append(result)
                status.update(f"{what}: done {', '.join(r.case.name for r in done)}")
        return done


def bench_messages(bench: Bench) -> object:
    """Measure messages per second; return the figures for the JSON file."""
    results = bench.collect(
        "messages",
        messages.run(bench.folder, bench.ours, bench.boxes, bench.runs, bench.seconds),
    )
    bench.show(tls_sheet(results))
    return [result.as_json() for result in results]


def bench_logins(bench: Bench) -> object:
    """Measure logins, and PING meanwhile; return the figures for the JSON file."""
    options = {
        "port": bench.ours.ports["tcp"],
        "server-pid": bench.ours.pid,
        "logins": LOGINS,
    }
    with bench.console.status(f"{LOGINS} logins"):
        runs = [servers.run_json("bench.logins", options) for _ in range(bench.runs)]
    for sheet in logins_sheets(runs):
        bench.show(sheet)
    return runs


def bench_dtls(bench: Bench) -> object:
    """Measure messages per second over DTLS; return the figures for the JSON file."""
    cases = datagrams.dtls_cases(bench.seconds)
    results = bench.collect(
        "dtls", datagrams.run(bench.folder, "dtls", bench.ours, cases, bench.runs)
    )
    bench.show(dtls_sheet(results))
    return [result.as_json() for result in results]


def bench_sealed(bench: Bench) -> object:
    """Measure sealed datagrams per second; return the figures for the JSON file."""
    cases = [datagrams.sealed_case(bench.sealing_key, bench.seconds)]
    results = bench.collect(
        "sealed", datagrams.run(bench.folder, "sealed", bench.ours, cases, bench.runs)
    )
    bench.show(sealed_sheet(results))
    with bench.console.status("sealed: a fresh enc each"):
        case = datagrams.fresh_case(bench.sealing_key, bench.seconds)
        fresh = measure(case, [Entry("ours", bench.ours)], bench.runs)
        openings = servers.run_json("bench.openings", {"runs": bench.runs})
    bench.show(openings_sheet(fresh, openings))
    with bench.console.status("sealed: no answer wanted"):
        programs = collectors.all_of_them(bench.folder)
        outcomes = list(unanswered.run(programs, bench.runs, bench.seconds))
    bench.show(unanswered.sheet(outcomes))
    return {
        "one_enc": [result.as_json() for result in results],
        "unanswered": [outcome.as_json() for outcome in outcomes],
        "fresh_enc": fresh.as_json(),
        "openings": openings,
    }


def bench_lane(bench: Bench) -> object:
    """Measure the lane alone; return the figures for the JSON file."""
    with bench.console.status("lane: beside a bare loop"):
        loops = lane.beside_bare_loop(bench.folder, bench.runs)
    bench.show(lane.loop_sheet(loops))
    return lane.as_json(loops)


def bench_files(bench: Bench) -> object:
    """Measure files; return the figures for the JSON file."""
    if not files.can_run():
        bench.console.print("files: clamd is not installed, so none is taken")
        return None
    with files.house(bench.folder, bench.runs) as house:
        with bench.console.status("files over TCP"):
            tcp = files.over_tcp(house)
        bench.show(files_sheet("A file over TLS 1.3, durable", [tcp], TCP_NOTES))
        with bench.console.status("files over UDP"):
            udp = files.over_udp(house)
        bench.show(files_sheet("A file over UDP, durable", [udp], UDP_NOTES))
        paths = bench.collect("files on bad paths", files.on_paths(house))
        bench.show(files_sheet("Files on bad paths, durable", paths, PATH_NOTES))
        with bench.console.status("scans"):
            clean = files.to_verdict(house)
        bench.show(clean_sheet(clean))
    return [result.as_json() for result in (tcp, udp, *paths, clean)]


def bench_idle(bench: Bench) -> object:
    """Measure idle connections' memory; return the figures for the JSON file."""
    with bench.console.status(f"{memory.CONNECTIONS:,} idle connections"):
        result = memory.run(bench.folder, bench.runs)
    bench.show(memory_sheet(result))
    return result.as_json()


CLASSES: Mapping[str, Callable[[Bench], object]] = {
    "messages": bench_messages,
    "dtls": bench_dtls,
    "sealed": bench_sealed,
    "lane": bench_lane,
    "files": bench_files,
    "logins": bench_logins,
    "idle": bench_idle,
}
