"""``waypost serve``: runs a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from waypost import __version__
from waypost.commands.common import add_log_form, add_log_level, host_and_port, port_number
from waypost.errors import ConfigurationError
from waypost.log_settings import LogSettings

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
    parser.add_argument(
        "--store",
        help="use this store instead of the application's: a path, memory:, or postgresql://user@host:5432/database",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        default="1",
        help="the number of processes, or auto for the cores that may be used (default %(default)s)",
    )
    parser.add_argument(
        "--emitter-socket",
        metavar="PATH",
        help="with several workers: a unix socket for waypost.Emitter of other programs, for a store in memory",
    )
    parser.add_argument(
        "--health",
        metavar="HOST:PORT",
        type=host_and_port,
        help="answer the probes /livez and /readyz on this address too, also while the store is opened or closed",
    )
    add_log_level(parser)
    add_log_form(parser)
    parser.set_defaults(run=_serve)
    # Not listed: only a parent starts it.
    worker = subcommands.add_parser("worker", description="Serve as a worker of `waypost serve --workers`.")
    worker.add_argument("settings")
    worker.set_defaults(run=_work)


def _serve(options: argparse.Namespace) -> int:
    from waypost.workers.count import workers_from

    log = _log_settings(options)
    log.apply()
    workers = workers_from(options.workers)
    if workers == 1 and options.emitter_socket is not None:
        expected = "several workers (--workers 2); a store in a file or on PostgreSQL needs no socket"
        raise ConfigurationError("emitter_socket", options.emitter_socket, expected)
    if workers > 1 and options.health is not None:
        host, port = options.health
        expected = "one worker; with several, mount io.health() in the application, which each worker serves"
        raise ConfigurationError("health", f"{host}:{port}", expected)
    return _serve_alone(options) if workers == 1 else _serve_together(options, workers, log)


def _log_settings(options: argparse.Namespace) -> LogSettings:
    return LogSettings(level=options.log_level, format=options.log_format, config=options.log_config)


def _serve_alone(options: argparse.Namespace) -> int:
    from waypost import serving
    from waypost.application import handover_for
    from waypost.transports.side_listener import SideListener
    from waypost.transports.uvicorn_runner import bind, serve

    app = serving.load(options.application)
    io = serving.find_server(app)
    if options.store is not None:
        io.use_store(options.store)

    def announce(address: str) -> None:
        print(f"Waypost {__version__} listening on {address}  {io.describe()}", flush=True)

    side = None if options.health is None else SideListener(io.health(), bind(*options.health))
    listeners = bind(options.host, options.port)
    return serve(app, io, listeners, announce=announce, handover=handover_for(io), side=side)


def _serve_together(options: argparse.Namespace, workers: int, log: LogSettings) -> int:
    from waypost.workers.parent import Plan, serve_with_workers
    from waypost.workers.sockets import bind_for_workers

    def announce(address: str, store: str, pids: Sequence[int]) -> None:
        shown = f"workers: {len(pids)} (pids {', '.join(map(str, pids))})"
        print(f"Waypost {__version__} listening on {address}  {store}  {shown}", flush=True)

    plan = Plan(
        application=options.application,
        store=options.store,
        log=log,
        announce=announce,
        emitter_socket=options.emitter_socket,
    )
    return serve_with_workers(plan, bind_for_workers(options.host, options.port, workers))


def _work(options: argparse.Namespace) -> int:
    from waypost.workers.child import run_worker
    from waypost.workers.settings import WorkerSettings

    settings = WorkerSettings.decode(options.settings)
    settings.log.apply(settings.number)
    return run_worker(settings)
