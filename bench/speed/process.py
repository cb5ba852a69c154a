"""What processes take: CPU time, memory, cores (Linux)."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOAD_CORE", "SERVER_CORE", "Used", "cpu_s", "memory_bytes", "pin", "processes", "raise_file_limit"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SERVER_CORE = 0
LOAD_CORE = 1


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where there are several."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def raise_file_limit() -> int:
    """Allow as many open files as may be; returns how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def processes(pid: int) -> list[int]:
    """Return a process and all that it has started, as a parent of workers does."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in processes(int(child)))]


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and those that it has started have taken, all their threads together."""
    return sum(_cpu_s(one) for one in processes(pid))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def memory_bytes(pid: int) -> int:
    """Return what a process and those that it has started have in memory, what is shared counted in parts (PSS)."""
    return sum(_memory_bytes(one) for one in processes(pid))


def _memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"the kernel does not tell the memory of process {pid}")


@dataclass(frozen=True)
class Used:
    """What server and load generator took over some time.

    Attributes:
        seconds: How long.
        server_s: The server's CPU time in it.
        load_s: The load generator's.
    """

    seconds: float
    server_s: float
    load_s: float

    @classmethod
    def now(cls, pid: int) -> Used:
        """Read all clocks."""
        return cls(time.perf_counter(), cpu_s(pid), time.process_time())

    def since(self, start: Used) -> Used:
        """Give what was taken since."""
        return Used(self.seconds - start.seconds, self.server_s - start.server_s, self.load_s - start.load_s)
