"""Notices that Python files have changed, for ``waypost serve --reload``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

__all__ = ["changes"]

_LOOK_EVERY_S = 0.5
_SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages"))


async def changes(folder: Path, *more: Path) -> AsyncIterator[Path]:
    """Yield a file each time that files have changed, appeared or gone.

    Args:
        folder: The folder whose Python files are looked at, with those of the folders in it; hidden ones and
            environments are left out.
        more: Further files.
    """
    known = await asyncio.to_thread(_times, folder, more)
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        found = await asyncio.to_thread(_times, folder, more)
        changed = {path for path, _ in known.items() ^ found.items()}
        known = found
        if changed:
            yield min(changed)


def _times(folder: Path, more: tuple[Path, ...]) -> dict[Path, int]:
    found = {}
    for path in (*_python_files(folder), *more):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:  # it is being replaced
            continue
    return found


def _python_files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [
            one
            for one in folders
            if not (one.startswith(".") or one in _SKIPPED or os.path.exists(os.path.join(here, one, "pyvenv.cfg")))
        ]
        yield from (Path(here, name) for name in files if name.endswith(".py"))
