"""``python -m tests.mutate``: draws mutants by a seed, and tells which of them no test notices."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutate.mutants import Mutant, draw, mutants_of
from tests.mutate.record import Record, make_record, read_record
from tests.mutate.trees import Tree, digest_of, files_of
from tests.mutate.trial import Fate, Verdict, try_mutant

_ROOT = Path(__file__).parents[2]
_SERVER = ("recovery", "queues", "emitting", "namespaces", "events")
_MUTATED = ("src/waypost/protocol/", *(f"src/waypost/server/{room}/" for room in _SERVER))


def main() -> int:
    """Run what the command line asks for; returns 1 if too many mutants survive, 2 if the time was too short."""
    arguments = _parser().parse_args()
    ends_at = time.monotonic() + arguments.minutes * 60
    names = files_of(_ROOT)
    work = Path(arguments.work) / digest_of(_ROOT, [name for name in names if _counts(name)])
    trees = _fill(work, names, arguments.processes)
    files = [name for name in names if name.startswith(_MUTATED) and name.endswith(".py")]
    record = read_record(work / "record", files)
    mutants = (mutant for name in files for mutant in mutants_of(_ROOT, name, record.lines_of(name)))
    drawn = draw(mutants, arguments.seed, arguments.count)
    verdicts = _try_all(drawn, trees, record, work / f"seed-{arguments.seed}.jsonl", ends_at)
    return _tell(drawn, verdicts, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description="Finds what no test would notice.")
    parser.add_argument("--seed", type=int, default=1, help="draws the mutants (default: 1)")
    parser.add_argument("--count", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="tried at a time")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="stop after so many; the next run goes on from there"
    )
    parser.add_argument("--at-least", type=int, default=90, help="fail if fewer are killed, in percent (default: 90)")
    parser.add_argument(
        "--work",
        default=str(Path(tempfile.gettempdir()) / "waypost-mutate"),
        help="where copies and results are kept",
    )
    return parser


def _counts(name: str) -> bool:
    """Whether results may change with a file."""
    return name.startswith(("src/", "tests/", "pyproject")) and not name.startswith("tests/mutate/")


def _fill(work: Path, names: list[str], processes: int) -> list[Tree]:
    """Make a copy for each process, and the record, unless an earlier run has."""
    first = Tree(work / "tree-0")
    first.fill(_ROOT, names)
    done = work / "recorded"
    if not done.exists():
        _say("running the tests once, to see what they execute")
        make_record(first, work / "record", processes)
        done.touch()
    others = [first.copy_to(work / f"tree-{number}") for number in range(1, processes)]
    for tree in others:
        tree.fill(_ROOT, names)
    return [first, *others]


def _try_all(
    drawn: list[Mutant], trees: list[Tree], record: Record, results: Path, ends_at: float
) -> dict[str, Verdict]:
    known = _read(results)
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def work(mutant: Mutant) -> None:
        if mutant.name in known or time.monotonic() > ends_at:
            return
        tree = free.get()
        began = time.monotonic()
        try:
            verdict = try_mutant(mutant, tree, record)
        finally:
            free.put(tree)
        known[mutant.name] = verdict
        with results.open("a") as file:
            file.write(json.dumps({"name": mutant.name, "verdict": verdict.as_json()}) + "\n")
        _say(f"{len(known):3} {verdict.fate} {mutant.name} by {verdict.by} in {time.monotonic() - began:.1f} s")

    with ThreadPoolExecutor(len(trees)) as workers:
        for future in [workers.submit(work, mutant) for mutant in drawn]:
            future.result()
    return known


def _read(results: Path) -> dict[str, Verdict]:
    if not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return {row["name"]: Verdict(**{**row["verdict"], "fate": Fate(row["verdict"]["fate"])}) for row in rows}


def _tell(drawn: list[Mutant], verdicts: dict[str, Verdict], arguments: argparse.Namespace) -> int:
    tried = [mutant for mutant in drawn if mutant.name in verdicts]
    survivors = [mutant for mutant in tried if verdicts[mutant.name].fate is Fate.SURVIVED]
    for mutant in survivors:
        _say(f"\nsurvived {verdicts[mutant.name].by}: {mutant.name}\n{verdicts[mutant.name].diff}")
    killed = len(tried) - len(survivors)
    _say(f"\nseed {arguments.seed}: {killed} of {len(tried)} mutants killed, {len(drawn) - len(tried)} not tried yet")
    if len(tried) < len(drawn):
        return 2
    return 1 if killed * 100 < arguments.at_least * len(drawn) else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
