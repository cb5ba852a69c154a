"""Parts that several commands share: types of arguments, and logging."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from waypost.logs import get_logger

if TYPE_CHECKING:
    # argparse has no public name for the type that `add_subparsers` returns.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = ["Subcommands", "add_log_level", "configure_logging", "host_and_port", "port_number"]

_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMAT = "%(asctime)s %(levelname)-7s {worker}%(name)s: %(message)s"


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


def configure_logging(level: str, worker: int | None = None) -> None:
    """Send this process's log to stderr.

    Args:
        level: A level of ``--log-level``.
        worker: The number of this worker, for each line; ``None`` if it is none.
    """
    prefix = "" if worker is None else f"worker {worker} "
    logging.basicConfig(level=level.upper(), format=_LOG_FORMAT.format(worker=prefix))
    if level == "info":
        # uvicorn's start and stop messages only repeat Waypost's start-up line.
        get_logger("uvicorn").setLevel(logging.WARNING)


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


def host_and_port(text: str) -> tuple[str, int]:
    """Parse an address from the command line.

    Args:
        text: The text as typed: ``127.0.0.1:8001``, ``localhost:8001`` or ``[::1]:8001``.

    Returns:
        The host, without brackets, and the port.

    Raises:
        argparse.ArgumentTypeError: The text is no address.
    """
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    if not (host and colon) or (":" in host) != is_bracketed:
        raise argparse.ArgumentTypeError(f"{text!r}: expected host:port, as in 127.0.0.1:8001 or [::1]:8001")
    return host, port_number(port)
