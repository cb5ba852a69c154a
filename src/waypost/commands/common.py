"""Parts that several commands share: types of arguments, and the options of logging."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # argparse has no public name for the type that `add_subparsers` returns.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = ["Subcommands", "add_log_form", "add_log_level", "host_and_port", "port_number"]

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


def add_log_form(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--log-format`` and ``--log-config`` to a command.

    Args:
        parser: The command's parser.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines of the log for people, or an object of JSON each (default %(default)s)",
    )
    group.add_argument(
        "--log-config",
        metavar="FILE",
        help="log as this file says: JSON or TOML for Python's logging.config.dictConfig",
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
