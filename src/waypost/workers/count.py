"""How many workers a machine can keep busy."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from waypost.errors import ConfigurationError
from waypost.serving.options import ServeOptions

__all__ = ["usable_cores", "workers_of"]

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def workers_of(serve: ServeOptions) -> int:
    """Return the number of workers that options ask for.

    Args:
        serve: The options. ``"auto"`` is the number of cores that this process may use.

    Raises:
        ConfigurationError: There can be only one on this system, or another option needs more or fewer.
    """
    workers = _number_of(serve.workers)
    if serve.reload and sys.platform == "win32":
        raise ConfigurationError(
            "reload", True, "False on Windows, where processes can't hand each other connections"
        )
    if workers == 1 and serve.emitter_socket is not None:
        expected = "several workers (--workers 2); a store in a file or on PostgreSQL needs no socket"
        raise ConfigurationError("emitter_socket", serve.emitter_socket, expected)
    return workers


def _number_of(given: int | Literal["auto"]) -> int:
    if given == "auto":
        return 1 if sys.platform == "win32" else usable_cores()
    if given > 1 and sys.platform == "win32":
        raise ConfigurationError("workers", given, "1 on Windows, where processes can't hand each other connections")
    return given


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the cores that this process may use: by its affinity, and by the quotas of its control groups.

    Args:
        cgroups: The folder in which the system shows the control groups.
        membership: The file that names the control group of this process.

    Returns:
        The number, at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, math.ceil(min([float(cores), *_quotas(cgroups, membership)])))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the limits of all control groups that this process is in, in cores."""
    for group in _groups(membership):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                fields = [field for name in files for field in (cgroups / group / name).read_text().split()]
                quota, period = float(fields[0]), float(fields[1])
            except (OSError, ValueError, IndexError):  # another version, or "max"
                continue
            if quota > 0 and period > 0:
                yield quota / period


def _groups(membership: Path) -> Iterator[Path]:
    """Yield the folders of the control groups, and of those around them, below that of all."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 has one hierarchy; version 1 has one for the time of the cores, in a folder of its own.
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = Path("cpu") if controllers else Path()
        group = PurePosixPath(path.lstrip("/"))
        yield from (top / one for one in (group, *group.parents))
