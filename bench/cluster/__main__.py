"""Measures several servers as one service: ``python -m bench.cluster [--nodes 3] [--only NAME …]``.

All runs on this machine, engines and clients too, so only figures of one run are comparable. The engines' data is in
temporary folders: PostgreSQL with its defaults (fsync on), Redis with `appendonly yes`, which flushes once a second.
"""

from __future__ import annotations

import argparse
import asyncio

from bench.cluster.contenders import CONTENDERS, missing, started
from bench.cluster.measuring import IN_FLIGHT, Extent, Found, bare_sql, measure


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3, help="how many servers (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure (default: %(default)s)")
    parser.add_argument("--per-s", type=int, default=200, help="events a second from node to node")
    parser.add_argument("--kills", type=int, default=2, help="how often a node is killed; 0 to leave it out")
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS], metavar="NAME")
    given = parser.parse_args()
    asyncio.run(_main(given.only, Extent(given.nodes, given.seconds, given.per_s, given.kills)))


async def _main(names: list[str], extent: Extent) -> None:
    found: dict[str, Found] = {}
    for name in names:
        problem = missing(CONTENDERS[name])
        if problem is not None:
            print(f"{name} is left out: {problem}")
            continue
        print(f"{name} …", flush=True)
        found[name] = await measure(CONTENDERS[name], extent)
    with started(CONTENDERS["waypost-postgres"], 0) as service:
        bare = await bare_sql(service.url, IN_FLIGHT, extent.seconds)
    _print(found, bare, extent)


def _print(found: dict[str, Found], bare: dict[int, float], extent: Extent) -> None:
    print(f"\n{extent.nodes} nodes, {extent.per_s} events a second from one node to a client of another")
    print(f"{'':24}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs':>9}")
    for name, one in found.items():
        print(f"{name:24}{one.p50_ms:8.1f}{one.p99_ms:8.1f}{one.cpu_us:9.0f}")
    print("\nawaited emits a second, by how many are in flight")
    print(f"{'':24}" + "".join(f"{number:>10,}" for number in IN_FLIGHT))
    for name, one in found.items():
        cells = "".join(f"{one.emits_per_s[number]:10,.0f}" for number in IN_FLIGHT if number in one.emits_per_s)
        print(f"{name:24}{cells or '  an emit can not be awaited'}")
    print(f"{'(bare SQL)':24}" + "".join(f"{bare[number]:10,.0f}" for number in IN_FLIGHT))
    if not extent.kills:
        return
    print(f"\n{extent.kills} nodes killed in turn, while another one emits")
    print(f"{'':24}{'expected':>10}{'missing':>9}{'doubled':>9}{'disorder':>9}{'recovered':>12}")
    for name, one in found.items():
        numbers = f"{one.expected:10,}{one.missing:9,}{one.doubled:9,}{one.fell:9,}"
        print(f"{name:24}{numbers}{one.recovered:7,} of {one.reconnections:,}")


if __name__ == "__main__":
    main()
