"""``make soak``: an hour of honest clients beside attackers; ``--minutes`` and ``--seed`` change it."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"soak of {options.minutes:g} minutes, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            soak(options.minutes * 60, options.seed, Path(folder), tell=lambda line: print(line, flush=True))
        )
    problems = found.problems()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("1 failed" if problems else "all was well")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(_main())
