"""What Linux tells of processes and sockets, see proc(5)."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """
    Return the user and system CPU time of a process, all its threads, in seconds.

    That of its children that have ended is part of it.

    Source: /proc/PID/stat, fields 14 to 17; usually 10 ms apart.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / CLOCK_TICKS_PER_S


def own_cpu_seconds() -> float:
    """Return the same of this process, in finer steps, see getrusage(2)."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def machine_cpu_seconds() -> float:
    """
    Return the CPU time spent by everything on this machine since it started.

    Source: /proc/stat, first line, without idle and iowait; guest time is part of
    user time.
    """
    line = Path("/proc/stat").read_text().partition("\n")[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
    return (user + nice + system + irq + softirq + steal) / CLOCK_TICKS_PER_S


def resident_kib(pid: int) -> int:
    """Return what a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0])


def children(pid: int) -> list[int]:
    """Return the processes that the first thread of a process has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def udp_socket(port: int) -> tuple[int, int] | None:
    """
    Look at the socket that has a UDP port, by IPv4.

    Returns:
        The bytes that wait to be read, and how many datagrams found no room; None if
        nobody has that port.
    """
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            return int(fields[4].partition(":")[2], 16), int(fields[-1])
    return None
