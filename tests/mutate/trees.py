"""Copies of the source tree, in which mistakes are made and tests run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

__all__ = ["Tree", "digest_of", "files_of"]


def files_of(root: Path) -> list[str]:
    """List the files of a tree that belong to it, also those that git does not know yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (root / name).is_file())


def digest_of(root: Path, names: Sequence[str]) -> str:
    """Return what changes with any of these files."""
    digest = sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class Tree:
    """A copy of the source tree.

    Args:
        root: Where it is.

    Attributes:
        root: Where it is.
        log: What pytest has said last.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "pytest.log"

    def fill(self, source: Path, names: Sequence[str]) -> None:
        """Let these files be as they are in another tree."""
        for name in names:
            goal = self.root / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            if not goal.exists() or goal.read_bytes() != (source / name).read_bytes():
                shutil.copy2(source / name, goal)
                _forget_compiled(goal)

    def copy_to(self, root: Path) -> Tree:
        """Make another tree of this one, with all that is compiled, unless it exists."""
        if not root.exists():
            shutil.copytree(self.root, root, symlinks=True)
        return Tree(root)

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """Let a file have another text for a while."""
        file = self.root / path
        before = file.read_text()
        try:
            self._write(file, text)
            yield
        finally:
            self._write(file, before)

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        _forget_compiled(file)

    def pytest(self, words: Sequence[str], *, limit_s: float | None) -> int | None:
        """Run tests here; returns pytest's exit code, or `None` if they did not end in this time."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(self.root / "src"), str(self.root))),
            "WAYPOST_TEST_SEED": "1",
        }
        # What is compiled while a mistake is in the source must not be kept; the first run compiles all.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if limit_s is not None:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        fixed = ["-q", "--hypothesis-seed=0", "-p", "no:cacheprovider", "-p", "no:randomly"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *fixed, *words],
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                # Also what the tests have started and left.
                _end_group(process.pid)
                process.wait()


def _forget_compiled(file: Path) -> None:
    # Within a second, and as long as before, Python would take what is compiled for the same source.
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
