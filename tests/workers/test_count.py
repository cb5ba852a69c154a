"""How many workers: a number, or the cores that a process may use by its affinity and by its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from waypost.errors import ConfigurationError
from waypost.serving.options import ServeOptions
from waypost.serving.settings import gather
from waypost.workers.count import usable_cores, workers_of

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_number_or_auto() -> None:
    assert workers_of(ServeOptions(workers=3)) == 3
    assert workers_of(ServeOptions(workers="auto")) >= 1
    for wrong in ("0", "-1", "two", "1.5", "10000", "9" * 5000):
        with pytest.raises(ConfigurationError, match=r'workers=.*: expected "auto" or a whole number from 1 to 9999'):
            gather({"workers": wrong}, {})


def test_the_cores_of_the_affinity_count_without_a_limit(tmp_path: Path) -> None:
    write(tmp_path / "membership", "0::/\n")
    write(tmp_path / "cpu.max", "max 100000\n")
    assert usable_cores(tmp_path, tmp_path / "membership") == _CORES
    assert usable_cores(tmp_path, tmp_path / "missing") == _CORES


def test_the_affinity_of_the_process_counts() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system has none")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("quota", ["100000 100000", "20000 100000", "99999 100000"])
def test_a_quota_of_version_2_limits_them(tmp_path: Path, quota: str) -> None:
    write(tmp_path / "membership", "0::/waypost.slice/waypost.service\n")
    write(tmp_path / "waypost.slice/cpu.max", quota)
    write(tmp_path / "waypost.slice/waypost.service/cpu.max", "max 100000")
    assert usable_cores(tmp_path, tmp_path / "membership") == 1


def test_a_quota_of_version_1_limits_them(tmp_path: Path) -> None:
    write(tmp_path / "membership", "5:cpuset:/docker/a\n4:cpu,cpuacct:/docker/b\n")
    for name, text in (("quota", "50000"), ("period", "100000")):
        write(tmp_path / f"cpu/docker/b/cpu.cfs_{name}_us", text)
        write(tmp_path / f"cpu/cpu.cfs_{name}_us", "-1" if name == "quota" else text)
    assert usable_cores(tmp_path, tmp_path / "membership") == 1
