"""Parts that several commands share: types of arguments, and the options of logging."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # argparse has no public name for the type that `add_subparsers` returns.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = ["Subcommands", "add_log_level", "port_number"]

_LOG_LEVELS = ("debug", "info", "warning", "error")


def add_log_level(parser: argparse.ArgumentParser, default: str = "info") -> None:
    """Add the option ``--log-level`` to a command.

    Args:
        parser: The command's parser.
        default: The level that applies without the option.
    """
    parser.add_argument(
        "--log-level",
        choices=_LOG_LEVELS,
        default=default,
        help="the least level to log to stderr (default %(default)s)",
    )


def port_number(text: str) -> int:
    """Parse a port from the command line.

    Args:
        text: The text as typed.

    Returns:
        The port, from 0 to 65535.

    Raises:
        argparse.ArgumentTypeError: The text is not a port.
    """
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port from 0 to 65535")
    return int(text)
