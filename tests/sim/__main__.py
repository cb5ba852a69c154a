"""``python -m tests.sim``: runs histories, from one seed or from many."""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable

from tests.sim.history import History, make_history
from tests.sim.queue_history import make_queue_history
from tests.sim.simulation import Result, run_seed

_COLLECT_EVERY = 50
_KINDS: dict[str, Callable[[int], History]] = {"events": make_history, "queues": make_queue_history}


def main() -> int:
    """Run what the command line asks for; returns 1 if something was wrong."""
    arguments = _parser().parse_args()
    make = _KINDS[arguments.of]
    if arguments.seed is not None and not arguments.seeds:
        result = run_seed(arguments.seed, make)
        print(result.report())  # noqa: T201
        return 1 if result.problems else 0
    first = random.randrange(10**9) if arguments.seed is None else arguments.seed
    return _run_many(make, first, arguments.seeds, arguments.seconds, forever=arguments.forever)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulates histories of Waypost.")
    parser.add_argument("--of", choices=sorted(_KINDS), default="events", help="what they are about")
    parser.add_argument("--seed", type=int, help="the seed to run, or the first of many")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--seconds", type=float, help="run for so long")
    parser.add_argument("--forever", action="store_true", help="go on after a failure, until stopped")
    return parser


def _run_many(
    make: Callable[[int], History], first: int, count: int | None, seconds: float | None, *, forever: bool
) -> int:
    began = time.monotonic()
    if count is None and seconds is None and not forever:
        seconds = 10.0
    failed: list[int] = []
    done = 0
    try:
        while (count is None or done < count) and (seconds is None or time.monotonic() - began < seconds):
            result = run_seed(first + done, make)
            done += 1
            if result.problems:
                failed.append(result.history.seed)
                _tell(result, whole=not forever)
                if not forever:
                    break
            if done % _COLLECT_EVERY == 0:
                gc.collect()
    except KeyboardInterrupt:
        pass
    took = time.monotonic() - began
    _say(f"{done} histories from seed {first} in {took:.1f} s, {done / took * 60:.0f} a minute, {len(failed)} failed")
    return 1 if failed else 0


def _tell(result: Result, *, whole: bool) -> None:
    _say(result.report() if whole else f"seed {result.history.seed}: {result.problems[0]}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
