"""The ``waypost`` command. Each subcommand adds its parser and runs itself, importing what it needs only then."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from waypost.errors import ConfigurationError, WaypostError

if TYPE_CHECKING:
    # The type of what `add_subparsers` returns has no public name.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = ["main"]

_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the command's name; by default those of this process.

    Returns:
        The exit code: 0 if all went well, 1 if it failed, 2 if it was asked for something that can't be.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        return _fail(error, 2)
    except WaypostError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="waypost", description="A Socket.IO server in which no client misses an event."
    )
    parser.add_argument("--version", action="version", version=f"Waypost {_version()}")
    subcommands = parser.add_subparsers(required=True, metavar="command")
    _add_serve(subcommands)
    _add_demo(subcommands)
    return parser


def _add_serve(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("serve", help="run a server", description="Run a Waypost server.")
    parser.add_argument(
        "application", metavar="module:name", help="a waypost.Server, or an ASGI application that holds one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="the port; 0 takes a free one (default %(default)s)")
    parser.add_argument("--store", help="keep everything here instead: a path, or memory:")
    _add_log_level(parser)
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from waypost import serving
    from waypost.transports.uvicorn_runner import bind, serve

    _configure_logging(options.log_level)
    app = serving.load(options.application)
    io = serving.find_server(app)
    if options.store is not None:
        io.use_store(options.store)

    def announce(address: str) -> None:
        print(f"Waypost {_version()} listening on {address}  {io.describe()}", flush=True)

    return serve(app, io, bind(options.host, options.port), announce=announce)


def _add_demo(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "demo",
        help="a parcel service that loses nothing",
        description="A shop, a driver who goes offline, and a server that is killed: no parcel is lost.",
    )
    parser.add_argument("--port", type=_port, help="the service's port (default 8000; for --headless a free one)")
    parser.add_argument("--headless", action="store_true", help="play it in the terminal; fails if a parcel does")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--directory", help="where to keep the database (default: a temporary directory)")
    _add_log_level(parser, default="warning")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from waypost.demo.headless import play_headless
    from waypost.demo.page import serve_page
    from waypost.demo.settings import Settings

    _configure_logging(options.log_level)
    settings = Settings(port=options.port, directory=options.directory, log_level=options.log_level)
    if options.headless:
        return play_headless(settings)
    return serve_page(settings, open_browser=not options.no_browser)


def _add_log_level(parser: argparse.ArgumentParser, default: str = "info") -> None:
    parser.add_argument(
        "--log-level", choices=_LOG_LEVELS, default=default, help="what to log, to stderr (default %(default)s)"
    )


def _configure_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), format=_LOG_FORMAT)
    if level == "info":
        # uvicorn's own start and stop messages say what the start-up line says.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _version() -> str:
    return metadata.version("waypost")


def _fail(error: Exception, code: int) -> int:
    print(f"waypost: {error}", file=sys.stderr)
    return code
