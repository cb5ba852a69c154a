"""The ``waypost`` command: parses the command line and turns errors into exit codes.

Each group of commands is a module of `waypost.commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from waypost import __version__
from waypost.commands import api_key, check, client, db, demo, health, queue, serve, store
from waypost.commands.parser import CommandParser
from waypost.commands.printing import to_json
from waypost.errors import ConfigurationError, ConnectFailed, EventRefused, WaypostError
from waypost.text import printable

__all__ = ["main"]

_GROUPS = (serve, check, health, client, queue, store, db, api_key, demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the command's name; ``None`` for those of this process.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.
    """
    options, more = _parser().parse_known_args(arguments)
    if more:
        options.take_more(options, more)
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        return _fail(error, 2)
    except (ConnectFailed, EventRefused) as error:
        return _fail(error if error.data is None else f"{error} {to_json(error.data)}", 1)
    except WaypostError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="waypost", description="A Socket.IO server in which no client misses an event.")
    parser.add_argument("--version", action="version", version=f"Waypost {__version__}")
    subcommands = parser.add_subparsers(required=True, metavar="command")
    for group in _GROUPS:
        group.add(subcommands)
    return parser


def _fail(error: Exception | str, code: int) -> int:
    print(f"waypost: {printable(str(error))}", file=sys.stderr)
    return code
