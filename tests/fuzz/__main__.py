"""``python -m tests.fuzz``: fuzzes a server, with one seed or with many."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import run


def main() -> int:
    """Run what the command line asks for; returns 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes a Waypost server.")
    parser.add_argument("--seed", type=int, help="the seed to run; without it one after another, until one fails")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to run each seed")
    arguments = parser.parse_args()
    seed = random.randrange(10**9) if arguments.seed is None else arguments.seed
    try:
        while True:
            with tempfile.TemporaryDirectory() as folder:
                report = asyncio.run(run(seed, arguments.seconds, Path(folder) / "server.log"))
            print(report, flush=True)  # noqa: T201
            if report.problems or arguments.seed is not None:
                return 1 if report.problems else 0
            seed += 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
