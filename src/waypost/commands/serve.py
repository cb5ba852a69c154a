"""``waypost serve``: runs a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from waypost.commands.announcing import announce
from waypost.commands.serve_flags import add_serve_flags, words_of
from waypost.logs import get_logger

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands
    from waypost.serving.settings import ServeSettings

__all__ = ["add"]

logger = get_logger("waypost.serve")

_UDS_MODE = 0o666
"""A proxy of another user may connect; who else may, the folder's permissions say."""


def add(subcommands: Subcommands) -> None:
    """Add ``serve`` to the command line."""
    parser = subcommands.add_parser(
        "serve",
        help="run a server",
        description="Run a Waypost server.",
        epilog="Each option, and each of waypost.Server, may come from the environment (WAYPOST_DRAIN_S=5) or a TOML "
        "file (--config) too; `waypost check` shows them all.",
    )
    add_serve_flags(parser)
    parser.set_defaults(run=_serve)
    # Not listed: only a parent starts it.
    worker = subcommands.add_parser("worker", description="Serve as a worker of `waypost serve --workers`.")
    worker.add_argument("settings")
    worker.set_defaults(run=_work)


def _serve(options: argparse.Namespace) -> int:
    from waypost.serving.settings import gather
    from waypost.workers.count import workers_of

    words = words_of(options)
    settings = gather(words)
    serve = settings.serve.options
    serve.log.apply()
    for told in settings.unknown:
        logger.warning("%s", told)
    workers = workers_of(serve)
    if workers == 1 and not serve.reload:
        return _serve_alone(options.application, settings)
    return _serve_together(options.application, settings, words, workers)


def _serve_alone(application: str, settings: ServeSettings) -> int:
    from waypost.application import handover_for
    from waypost.serving.loading import load_served
    from waypost.serving.side_app import side_app
    from waypost.serving.sides import sides_of, urls_of
    from waypost.serving.wiring import wire_of
    from waypost.transports.side_listener import SideListener
    from waypost.transports.unix_listener import unix_listener
    from waypost.transports.uvicorn_runner import bind, serve

    app, io = load_served(application, settings)
    options = settings.serve.options

    def tell(address: str) -> None:
        engine = io.state().engine
        node = "" if engine is None else f"  node: {engine.address}"
        announce(options.log_format, address, f"{io.describe()}{node}", sides=urls_of(bound))

    applications = {one.parts: side_app(io, one.parts, options) for one in sides_of(options)}
    bound = {one.parts: bind(*one.address) for one in sides_of(options)}
    sides = [SideListener(applications[parts], listeners) for parts, listeners in bound.items()]
    with ExitStack() as stack:
        if options.uds is None:
            listeners = bind(options.host, options.port)
        else:
            listeners = [stack.enter_context(unix_listener("uds", options.uds, _UDS_MODE))]
        return serve(
            *(app, io, listeners),
            announce=tell,
            handover=handover_for(io),
            sides=sides,
            wire=wire_of(options),
        )


def _serve_together(application: str, settings: ServeSettings, words: dict[str, str], workers: int) -> int:
    from waypost.operations.http.key_file import KeyFile
    from waypost.serving.sides import sides_of, urls_of
    from waypost.serving.wiring import wire_of
    from waypost.transports.unix_listener import unix_listener
    from waypost.transports.uvicorn_runner import bind
    from waypost.workers.code_watch import changes
    from waypost.workers.parent import serve_with_workers
    from waypost.workers.plan import Plan
    from waypost.workers.sockets import bind_for_workers, share

    options = settings.serve.options

    def tell(address: str, store: str, pids: Sequence[int]) -> None:
        announce(options.log_format, address, store, pids, urls_of(sides))

    config = () if options.config is None else (Path(options.config),)
    plan = Plan(
        application=application,
        words=words,
        announce=tell,
        emitter_socket=options.emitter_socket,
        code=partial(changes, Path.cwd(), *config) if options.reload else None,
    )
    wire_of(options).check()
    if options.api_key_file is not None:
        KeyFile(options.api_key_file)
    sides = {one.parts: bind(*one.address) for one in sides_of(options)}
    with ExitStack() as stack:
        if options.uds is None:
            listeners = bind_for_workers(options.host, options.port, workers)
        else:
            listeners = share([stack.enter_context(unix_listener("uds", options.uds, _UDS_MODE))], workers)
        return serve_with_workers(plan, listeners, sides)


def _work(options: argparse.Namespace) -> int:
    from waypost.serving.settings import gather
    from waypost.workers.child import run_worker
    from waypost.workers.settings import WorkerSettings

    worker = WorkerSettings.decode(options.settings)
    settings = gather(worker.words)
    settings.serve.options.log.apply(worker.number)
    return run_worker(worker, settings)
