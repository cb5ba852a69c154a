"""``waypost demo``: the parcel service that loses nothing."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from waypost.commands.common import add_log_level, port_number
from waypost.log_settings import LogSettings

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]


def add(subcommands: Subcommands) -> None:
    """Add ``demo`` to the command line."""
    parser = subcommands.add_parser(
        "demo",
        help="a parcel service that loses nothing",
        description="A shop, a driver who goes offline, and a server that is killed: no parcel is lost.",
    )
    parser.add_argument(
        "--port", type=port_number, help="the service's port (default 8000; with --headless a free port)"
    )
    parser.add_argument("--headless", action="store_true", help="play it in the terminal; exit 1 if a parcel is lost")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--directory", help="where to keep the database (default: a temporary directory)")
    parser.add_argument(
        "--store", help="the URL of a PostgreSQL database: two servers play it in the terminal, and one is killed"
    )
    add_log_level(parser, default="warning")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        print(
            "waypost demo: expected Linux or macOS; it kills its server, in a way that Windows lacks", file=sys.stderr
        )
        return 1
    if options.store is not None:
        _check_database(options.store)
    from waypost.demo.headless import play_headless
    from waypost.demo.page import serve_page
    from waypost.demo.settings import Settings

    LogSettings(level=options.log_level).apply()
    settings = Settings(
        port=options.port, directory=options.directory, log_level=options.log_level, store=options.store
    )
    if options.headless or options.store is not None:
        return play_headless(settings)
    return serve_page(settings, open_browser=not options.no_browser)


def _check_database(store: str) -> None:
    from waypost.errors import ConfigurationError
    from waypost.storage.choose import is_database
    from waypost.storage.database_address import EXPECTED_ADDRESS

    if not is_database(store):
        raise ConfigurationError("store", store, EXPECTED_ADDRESS)
