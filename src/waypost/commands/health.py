"""``waypost health``: asks a server whether it is ready, for containers."""

from __future__ import annotations

import argparse
import sys
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from waypost.errors import ConfigurationError
from waypost.text import printable

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]

_TIMEOUT_S = 5.0


def add(subcommands: Subcommands) -> None:
    """Add ``health`` to the command line."""
    parser = subcommands.add_parser(
        "health",
        help="ask a server whether it is ready",
        description="Ask a server's /readyz: the exit code is 0 for ready, 1 for not ready or no answer in time.",
    )
    parser.add_argument("url", help="where the server answers probes: http://127.0.0.1:8001, or with a path of yours")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT_S, metavar="S", help="seconds to wait (default %(default)g)"
    )
    parser.set_defaults(run=_ask)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds above 0, to 3600")
    return seconds


def _ask(options: argparse.Namespace) -> int:
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("url", options.url, "a URL, such as http://127.0.0.1:8001")
    url = options.url if parts.path.strip("/") else parts._replace(path="/readyz").geturl()
    # A proxy of the environment is not on the way to a server beside.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=options.timeout):
            print("ready")
            return 0
    except HTTPError as error:
        error.close()
        said = f"not ready: HTTP {error.code}"
    except (URLError, HTTPException, OSError) as error:
        said = f"no answer: {error.reason if isinstance(error, URLError) else str(error) or type(error).__name__}"
    print(f"waypost: {printable(said)}", file=sys.stderr)
    return 1
