"""Queues measured beside what a user would pick instead: ``python -m bench.queue [--quick] [--only PART …]``.

The parts: ``emit`` (awaited durable emits a second), ``deliver`` (messages taken and acknowledged a second, end to
end), ``backlog`` (what a message costs with few and with many waiting; all of them to one socket, while another
client makes calls), ``idle`` (memory and disk of queues nobody uses, and the cost of asking for their numbers).

Everything is on the loopback. Who publishes or consumes is a process of its own on core 0; in ``emit`` that is all of
Waypost. The other contenders' servers have core 1. In ``deliver`` and ``backlog`` Waypost's server is on core 1 and
its WebSocket clients are on core 0. Rounds are interleaved: each contender once in each round, medians are shown.

A consumer of Waypost has 32 messages in hand, its default, once also 256; one of the others up to 256, which suits
them. Waypost, RabbitMQ and NATS get an ack for each message, Redis one for all of a read: at most 256. Waypost's time
ends when the last ack is on disk, that of the others when it is sent or, with Redis, answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bench.queue.measuring import PARTS, Bench, Extent
from bench.queue.servers import CONTENDERS, Missing, postgres, require, start
from bench.queue.table import Table

_REPOSITORY = Path(__file__).parent.parent.parent
_RESULTS = _REPOSITORY / "bench" / "results" / "queue.json"
_FULL = Extent(rounds=5, seconds=2.0, messages=10_000, backlogs=(10, 10_000, 1_000_000), idle=100_000)
_QUICK = Extent(rounds=1, seconds=0.5, messages=1000, backlogs=(10, 10_000), idle=2000)


async def start_all(bench: Bench, stack: AsyncExitStack) -> None:
    """Start the servers of all contenders that are installed; say which are left out."""
    for contender in CONTENDERS:
        try:
            require(contender)
            if contender.service == "postgres":
                bench.postgres = stack.enter_context(postgres())
            elif contender.service and contender.service not in bench.addresses:
                directory = bench.directory / contender.service.replace(" ", "-")
                directory.mkdir(exist_ok=True)
                service = await start(contender.service, directory, core=1)
                stack.callback(service.stop)
                bench.addresses[contender.service] = str(service.port)
        except Missing as reason:
            print(f"left out: {contender.name}: {reason}", flush=True)
        else:
            bench.contenders.append(contender)


async def main(options: argparse.Namespace) -> None:
    """Measure all parts that are wanted, and write the results down."""
    table = Table()
    extent = _QUICK if options.quick else _FULL
    extent = extent if options.rounds is None else replace(extent, rounds=options.rounds)
    began = time.perf_counter()
    print((__doc__ or "").partition("\n\n")[2])
    print(f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M')}")
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="waypost-bench-", dir=options.directory))
        bench = Bench(Path(directory), extent, table)
        if {"emit", "deliver"} & set(options.only):
            await start_all(bench, stack)
        for contender in bench.contenders:
            print(f"{contender.name:<17} {contender.durability}")
        for part in PARTS:
            if part in options.only:
                await bench.measure(part)
    print(f"all of it took {time.perf_counter() - began:.0f} s")
    write(table, options)


def write(table: Table, options: argparse.Namespace) -> None:
    """Write the results down, beside those of other parts."""
    path: Path = options.results
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update(table.as_json())
    known["machine"] = {
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "quick": options.quick,
        "rounds": options.rounds,
    }
    known["durability"] = {one.name: one.durability for one in CONTENDERS}
    path.write_text(json.dumps(known, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench.queue", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--rounds", type=int, help="how often everything is measured; 5, or 1 with --quick")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--directory", help="where data is kept while measuring; the disk that is measured")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the JSON file to write")
    asyncio.run(main(parser.parse_args()))
