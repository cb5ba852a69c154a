"""``waypost serve``: runs a server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from waypost import __version__
from waypost.commands.common import add_log_level, configure_logging, port_number

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]


def add(subcommands: Subcommands) -> None:
    """Add ``serve`` to the command line."""
    parser = subcommands.add_parser("serve", help="run a server", description="Run a Waypost server.")
    parser.add_argument(
        "application", metavar="module:name", help="a waypost.Server, or an ASGI application that contains one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=port_number, default=8000, help="the port; 0 takes a free one (default %(default)s)"
    )
    parser.add_argument("--store", help="use this store instead of the application's: a path, or memory:")
    add_log_level(parser)
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from waypost import serving
    from waypost.transports.uvicorn_runner import bind, serve

    configure_logging(options.log_level)
    app = serving.load(options.application)
    io = serving.find_server(app)
    if options.store is not None:
        io.use_store(options.store)

    def announce(address: str) -> None:
        print(f"Waypost {__version__} listening on {address}  {io.describe()}", flush=True)

    return serve(app, io, bind(options.host, options.port), announce=announce)
