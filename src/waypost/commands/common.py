"""What several commands share: types of arguments, logging."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The type of what `add_subparsers` returns has no public name.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = ["Subcommands", "add_log_level", "configure_logging", "port_number"]

_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def add_log_level(parser: argparse.ArgumentParser, default: str = "info") -> None:
    """Add ``--log-level``.

    Args:
        parser: The command's parser.
        default: The level without it.
    """
    parser.add_argument(
        "--log-level", choices=_LOG_LEVELS, default=default, help="what to log, to stderr (default %(default)s)"
    )


def configure_logging(level: str) -> None:
    """Log to stderr.

    Args:
        level: One that ``--log-level`` takes.
    """
    logging.basicConfig(level=level.upper(), format=_LOG_FORMAT)
    if level == "info":
        # uvicorn's own start and stop messages say what the start-up line says.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


def port_number(text: str) -> int:
    """Take a port from the command line.

    Args:
        text: What was typed.

    Returns:
        The port, from 0 to 65535.

    Raises:
        ValueError: It is none.
    """
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port
