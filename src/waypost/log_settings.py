"""Where a process of ``waypost`` logs to, and in which form: settings that a parent hands on to its workers."""

from __future__ import annotations

import json
import logging
import logging.config
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from waypost.errors import ConfigurationError
from waypost.logs import get_logger

__all__ = ["LogSettings"]

_LINE = "%(asctime)s %(levelname)-7s {worker}%(name)s: %(message)s"


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process logs to, and in which form.

    Attributes:
        level: The least level to log, of those that ``--log-level`` takes.
        format: Lines for people, or lines of JSON for programs.
        config: A file for `logging.config.dictConfig`, as JSON or TOML, that takes the place of both; ``None``
            for none.
    """

    level: str = "info"
    format: Literal["text", "json"] = "text"
    config: str | None = None

    def apply(self, worker: int | None = None) -> None:
        """Send this process's log to stderr, or where the file says.

        Args:
            worker: The number of this worker, for each line; ``None`` if it is none.

        Raises:
            ConfigurationError: The file can't be read or used.
        """
        if self.config is not None:
            _apply_file(self.config)
            return
        handler = logging.StreamHandler()
        if self.format == "json":
            from waypost.json_logs import JsonFormatter  # takes orjson, which most commands don't need

            formatter: logging.Formatter = JsonFormatter(worker)
        else:
            formatter = logging.Formatter(_LINE.format(worker="" if worker is None else f"worker {worker} "))
        handler.setFormatter(formatter)
        logging.basicConfig(level=self.level.upper(), handlers=[handler])
        if self.level == "info":
            # uvicorn's start and stop messages only repeat Waypost's start-up line.
            get_logger("uvicorn").setLevel(logging.WARNING)


def _apply_file(path: str) -> None:
    expected = "a JSON or TOML file for Python's logging.config.dictConfig"
    try:
        text = Path(path).read_text()
        read: Any = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
        # Loggers exist by now; dictConfig would silence those that the file does not name.
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **read})
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise ConfigurationError("log_config", path, f"{expected}; it says: {error}{cause}") from error
