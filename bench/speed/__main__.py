"""Waypost's server beside Node's socket.io and python-socketio, on the same work, in turn.

``python -m bench.speed [--full] [--only ITEM …] [--servers NAME …]`` measures. ``serve NAME --port N`` runs one of
the servers alone, and ``load ITEM --port N`` one piece of work against what listens there, for a profiler beside it.
``document RESULTS`` puts the results of a run into docs/speed.md.

The server has one core, the load generator another. In each round every server has its turn; what counts are the
ratios. Every answer and every delivery is counted: a server that leaves one out fails. The load generator's own limit
is the line "ceiling": the same frames answered without any Socket.IO.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from bench.speed.contenders import CONTENDERS, Serving, command_of, missing
from bench.speed.document import document
from bench.speed.items import ITEMS
from bench.speed.items.common import Extent
from bench.speed.process import LOAD_CORE, SERVER_CORE, pin, raise_file_limit
from bench.speed.report import Report
from bench.speed.rounds import Plan, run

_QUICK_S = 270
_FULL_S = 36 * 60
_FULL_RESULTS, _QUICK_RESULTS = Path("bench/results/speed.json"), Path("bench/results/speed-quick.json")
_QUICK_SERVERS = ("waypost-memory", "node-recovery", "python-socketio-uvicorn", "ceiling")


def _measure(options: argparse.Namespace) -> int:
    extent = Extent(
        rounds=options.rounds or (3 if options.full else 2),
        seconds=options.seconds or (1.5 if options.full else 0.6),
        is_full=options.full,
    )
    names = options.servers or (CONTENDERS if options.full else _QUICK_SERVERS)
    contenders = [CONTENDERS[name] for name in names]
    budget_s = options.minutes * 60 if options.minutes else _FULL_S if options.full else _QUICK_S
    present = [contender for contender in contenders if missing(contender) is None]
    plan = Plan(present, options.only or list(ITEMS), extent, budget_s)
    report = Report(sys.stdout.write)
    report.describe(extent)
    for contender in contenders:
        if contender not in present:
            report.leave_out(f"{contender.name}: {missing(contender)}")
    uvloop.run(_until_terminated(run(plan, report)))
    report.finish(options.results or (_FULL_RESULTS if options.full else _QUICK_RESULTS))
    return 1 if report.failures else 0


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """End servers, too, when this is told to end."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _serve(options: argparse.Namespace) -> int:
    contender = CONTENDERS[options.name]
    with (
        tempfile.TemporaryDirectory(prefix="waypost-bench-") as directory,
        command_of(contender, options.port, directory) as command,
    ):
        pin(0, SERVER_CORE)
        # In place of this process, so that a profiler finds it; an SQLite file stays behind.
        os.execve(command[0], command, {**os.environ, **contender.environment})


def _load(options: argparse.Namespace) -> int:
    async def work() -> None:
        server = Serving(CONTENDERS[options.name], options.port, options.pid or os.getpid())
        extent = Extent(rounds=1, seconds=options.seconds, is_full=options.full)
        while True:
            async for case, figures in ITEMS[options.item].measure(server, extent):
                print(case, {name: round(value, 2) for name, value in figures.items()}, flush=True)
            if not options.forever:
                return

    uvloop.run(work())
    return 0


def _document(options: argparse.Namespace) -> int:
    for path in document(options.results, options.page):
        print(path)
    return 0


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="all servers, cases and sizes")
    parser.add_argument("--only", nargs="+", choices=ITEMS, metavar="ITEM", help=", ".join(ITEMS))
    parser.add_argument("--servers", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="how long one measurement takes")
    parser.add_argument("--minutes", type=float, help="after how many no further round begins")
    parser.add_argument("--results", type=Path, help=f"where to write (default {_FULL_RESULTS}, or {_QUICK_RESULTS})")
    parser.set_defaults(run=_measure)
    commands = parser.add_subparsers()
    serve = commands.add_parser("serve", help="run one server alone")
    serve.add_argument("name", choices=CONTENDERS)
    serve.add_argument("--port", type=int, required=True)
    serve.set_defaults(run=_serve)
    load = commands.add_parser("load", help="load a server that runs")
    load.add_argument("item", choices=ITEMS)
    load.add_argument("--port", type=int, required=True)
    load.add_argument("--name", choices=CONTENDERS, default="waypost-memory", help="which server it is")
    load.add_argument("--pid", type=int, help="the server's process, to tell its CPU time")
    load.add_argument("--seconds", type=float, default=5)
    load.add_argument("--full", action="store_true", help="all cases")
    load.add_argument("--forever", action="store_true", help="again and again until ended")
    load.set_defaults(run=_load)
    documented = commands.add_parser("document", help="draw charts and fill in tables from what was measured")
    documented.add_argument("results", type=Path)
    documented.add_argument("--page", type=Path, default=Path("docs/speed.md"))
    documented.set_defaults(run=_document)
    options = parser.parse_args()
    raise_file_limit()
    pin(0, LOAD_CORE)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
