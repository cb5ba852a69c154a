"""The files of deploy/ and the Dockerfile say what the documentation says, and their tools accept them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server_process import REPOSITORY
from waypost import Server
from waypost.serving.settings import gather

_SERVING = REPOSITORY / "docs" / "serving.md"
_UNIT = REPOSITORY / "deploy" / "systemd" / "waypost.service"


def test_nginx_is_configured_as_the_documentation_says() -> None:
    block = re.search(r"```nginx\n(.*?)```", _SERVING.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    comment, _, configuration = (REPOSITORY / "deploy/nginx/waypost.conf").read_text(encoding="utf-8").partition("\n")
    assert comment.startswith("#")
    assert configuration == block[1]


def test_systemd_waits_for_a_stop() -> None:
    options = Server().options
    longest = options.stop_timeout_s + options.drain_s + 5
    found = re.search(r"^TimeoutStopSec=(\d+)$", _UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > longest


def test_systemd_knows_the_unit_s_words(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here, as on most machines that run containers")
    unit = _UNIT.read_text(encoding="utf-8")
    runnable = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit, flags=re.MULTILINE)
    runnable = runnable.replace("User=waypost", "User=root")
    (tmp_path / "waypost.service").write_text(runnable, encoding="utf-8")
    done = subprocess.run(
        [program, "verify", "--man=no", tmp_path / "waypost.service"], capture_output=True, text=True, check=False
    )
    assert "Unknown key" not in done.stderr
    assert "Failed to parse" not in done.stderr


def test_the_dockerfile_is_linted() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_asks_for_its_health_where_it_is_answered() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    [asked] = re.findall(r'^HEALTHCHECK .*CMD \["waypost", "health", "http://([^"]+)"\]$', dockerfile, re.MULTILINE)
    gathered = gather({}, {"WAYPOST_HEALTH": settings["WAYPOST_HEALTH"]})
    assert gathered.serve.options.health == asked
    assert gathered.unknown == ()
