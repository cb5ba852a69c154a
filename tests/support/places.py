"""The folder of this run of the tests, for what is shared by all of its processes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["place_of_run", "use_place"]

_places: list[Path] = []


def use_place(place: Path) -> None:
    """Note the folder; the same one in all processes of the run."""
    _places[:] = [place]


def place_of_run() -> Path:
    """Return the folder."""
    return _places[0]
