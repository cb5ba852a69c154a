"""What users install: the sdist, and the wheel that is built from it, in an empty folder on each Python there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.require import skip_or_fail
from tests.support.server_process import REPOSITORY

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_JOURNEYS = Path(__file__).parent / "journeys"
_STATIC = ("waypost/demo/static", "waypost/transports/static")
_PYTHONS = ("3.11", "3.12", "3.13")
_CAN_MAKE_A_VENV = 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])'


@dataclass(frozen=True)
class Packages:
    """The two packages, and the folder of the sdist unpacked."""

    sdist: Path
    wheel: Path
    unpacked: Path


def build(source: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """Build the sdist of a folder, and from it the wheel, with the tools of this environment."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Build them once."""
    if not all((REPOSITORY / "src" / folder).is_dir() for folder in _STATIC):
        skip_or_fail("the static files are not built; run `make web`")
    folder = tmp_path_factory.mktemp("packages")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Packages(sdist, wheel, unpacked)


def test_the_static_files_are_in_both(packages: Packages) -> None:
    built = {
        path.relative_to(REPOSITORY / "src").as_posix()
        for folder in _STATIC
        for path in (REPOSITORY / "src" / folder).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(packages.wheel) as archive:
        assert built <= set(archive.namelist())
    assert all((packages.unpacked / "src" / name).is_file() for name in built)


def test_nothing_is_built_without_them(packages: Packages, tmp_path: Path) -> None:
    for folder in _STATIC:
        source = tmp_path / folder.replace("/", "-")
        shutil.copytree(packages.unpacked, source)
        shutil.rmtree(source / "src" / folder)
        done = build(source, tmp_path / "dist")
        assert done.returncode != 0
        assert "run `make web` first" in done.stdout + done.stderr


def test_the_description_has_no_link_that_leads_nowhere(packages: Packages) -> None:
    with zipfile.ZipFile(packages.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        described = archive.read(name).decode()
    assert "](docs/" not in described
    assert "](#" not in described
    assert "Classifier: Typing :: Typed" in described


def find_python(version: str) -> str | None:
    """Return a Python of this version, on the path or of pyenv, that makes virtual environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"versions/{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is not None:
            done = subprocess.run([candidate, "-c", _CAN_MAKE_A_VENV], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                return candidate
    return None


@pytest.fixture(scope="module", params=_PYTHONS)
def python(
    request: pytest.FixtureRequest, packages: Packages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Install the wheel, with what the journeys need beside it, into an environment of its own."""
    found = find_python(request.param)
    if found is None:
        pytest.skip(f"there is no Python {request.param} here")
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    subprocess.run([found, "-m", "venv", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    beside = ("fastapi", "httpx2", "python-socketio", "Django")
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        constraints,
    ]
    subprocess.run([*install, f"{packages.wheel}[testing]", *beside], check=True, timeout=300)
    yield python
    shutil.rmtree(folder)


@pytest.mark.parametrize("journey", sorted(path.stem for path in _JOURNEYS.glob("*.py")))
def test_a_journey(journey: str, python: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CI")}
    command = [python, _JOURNEYS / f"{journey}.py", REPOSITORY / "README.md"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
