"""What a load costs: elapsed time, and the CPU time of server and generator."""

from __future__ import annotations

import time

from bench.proc import cpu_seconds, machine_cpu_seconds, own_cpu_seconds


class Meter:
    """
    Starts to measure when it is made.

    Args:
        server_pid: the process whose CPU time is the server's. The generator's is
            this process's own, and that of programs which it has run to their ends.
    """

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._server_from_s = cpu_seconds(server_pid)
        self._machine_from_s = machine_cpu_seconds()
        self._own_from_s = own_cpu_seconds()
        self._from_s = time.perf_counter()

    def figures(self, messages: int) -> dict[str, float | int | str]:
        """
        Return what was measured up to now, by the names it has in the JSON line.

        Args:
            messages: how many were answered meanwhile. What one has cost is what
                all have if there was none.
        """
        shares = max(messages, 1)
        elapsed_s = time.perf_counter() - self._from_s
        own_s = own_cpu_seconds() - self._own_from_s
        server_s = cpu_seconds(self._server_pid) - self._server_from_s
        others_s = machine_cpu_seconds() - self._machine_from_s - own_s - server_s
        return {
            "messages": messages,
            "elapsed_s": round(elapsed_s, 4),
            "messages_per_s": round(messages / elapsed_s, 1),
            "server_cpu_us": round(server_s * 1e6 / shares, 2),
            "server_busy": round(server_s / elapsed_s, 3),
            "generator_cpu_us": round(own_s * 1e6 / shares, 2),
            "generator_busy": round(own_s / elapsed_s, 3),
            "others_busy": round(max(others_s, 0.0) / elapsed_s, 3),
        }
