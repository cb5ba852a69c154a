"""Keeps hatchling from building a package without the files that `make web` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NEEDED = ("src/waypost/demo/static/index.html", "src/waypost/transports/static/socket.io.min.js")


class StaticFiles(BuildHookInterface[Any]):
    """Refuses to build an sdist or a wheel that lacks the demo's page or the JavaScript client."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Look for the files, before anything is built; see hatchling, "Build hook plugins"."""
        if version == "editable":
            return
        missing = [name for name in _NEEDED if not (Path(self.root) / name).is_file()]
        if missing:
            names = ", ".join(missing)
            raise FileNotFoundError(f"expected {names}: run `make web` first, which needs Node.js with npm")
