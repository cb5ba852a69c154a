"""``python -m tests.sim``: runs histories, from one seed or from many."""

from __future__ import annotations

import argparse
import gc
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.sim.history import History, make_history
from tests.sim.queue_history import make_queue_history
from tests.sim.restores import run_restores
from tests.sim.servers.simulation import run_servers
from tests.sim.simulation import run_seed

_COLLECT_EVERY = 50


@dataclass(frozen=True, slots=True)
class _Ran:
    problems: list[str]
    report: Callable[[], str]


def _simulate(make: Callable[[int], History], seed: int) -> _Ran:
    result = run_seed(seed, make)
    return _Ran(result.problems, result.report)


def _run_servers(seed: int) -> _Ran:
    result = run_servers(seed)
    return _Ran(result.problems, result.report)


def _restore(seed: int) -> _Ran:
    with tempfile.TemporaryDirectory() as folder:
        problems = run_restores(seed, Path(folder))
    return _Ran(problems[-1:], lambda: "\n".join(problems))


_KINDS: dict[str, Callable[[int], _Ran]] = {
    "events": lambda seed: _simulate(make_history, seed),
    "queues": lambda seed: _simulate(make_queue_history, seed),
    "restores": _restore,
    "servers": _run_servers,
}


def main() -> int:
    """Run what the command line asks for; returns 1 if something was wrong."""
    arguments = _parser().parse_args()
    run = _KINDS[arguments.of]
    if arguments.of == "restores":
        # An older copy is an error in the log; the histories are full of them.
        logging.getLogger("waypost").setLevel(logging.CRITICAL)
    if arguments.seed is not None and not arguments.seeds:
        ran = run(arguments.seed)
        print(ran.report())  # noqa: T201
        return 1 if ran.problems else 0
    first = random.randrange(10**9) if arguments.seed is None else arguments.seed
    return _run_many(run, first, arguments.seeds, arguments.seconds, forever=arguments.forever)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulates histories of Waypost.")
    parser.add_argument("--of", choices=sorted(_KINDS), default="events", help="what they are about")
    parser.add_argument("--seed", type=int, help="the seed to run, or the first of many")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--seconds", type=float, help="run for so long")
    parser.add_argument("--forever", action="store_true", help="go on after a failure, until stopped")
    return parser


def _run_many(
    run: Callable[[int], _Ran], first: int, count: int | None, seconds: float | None, *, forever: bool
) -> int:
    began = time.monotonic()
    if count is None and seconds is None and not forever:
        seconds = 10.0
    failed: list[int] = []
    done = 0
    try:
        while (count is None or done < count) and (seconds is None or time.monotonic() - began < seconds):
            seed = first + done
            ran = run(seed)
            done += 1
            if ran.problems:
                failed.append(seed)
                _say(f"seed {seed}: {ran.problems[0]}" if forever else ran.report())
                if not forever:
                    break
            if done % _COLLECT_EVERY == 0:
                gc.collect()
    except KeyboardInterrupt:
        pass
    took = time.monotonic() - began
    _say(f"{done} histories from seed {first} in {took:.1f} s, {done / took * 60:.0f} a minute, {len(failed)} failed")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
