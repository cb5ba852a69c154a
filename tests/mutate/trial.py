"""One mutant, tried: is there a test that fails with it, and passes without it?"""

from __future__ import annotations

import difflib
import json
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tests.mutate import limiter
from tests.mutate.mutants import Mutant, mutated
from tests.mutate.record import Record, Test
from tests.mutate.trees import Tree

__all__ = ["Fate", "Verdict", "try_mutant"]

# How long the tests for one mutant may take without it: a few at first, which notice most, and then the rest.
_FIRST_S = 4.0
_ALL_S = 60.0
# How much longer than without a mutant a test may take: much, as other programs may run beside it.
_TIMES = 5.0
_MORE_S = 15.0
_START_S = 30.0
# A test that took so much longer has perhaps failed for no other reason: it must pass now, without the mutant.
_SUSPICIOUS_TIMES = 3.0
_SUSPICIOUS_S = 5.0


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class _Failure:
    """How a run of tests failed.

    Attributes:
        test: The test that failed first; `None` if pytest did not end, or failed before any test did.
        tests: That one, or all that were to run.
    """

    test: Test | None
    tests: list[Test]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        fate: Whether it survived.
        by: The test that killed it, or how many did not.
        diff: What it changes.
    """

    fate: Fate
    by: str
    diff: str

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written down."""
        return asdict(self)


def try_mutant(mutant: Mutant, tree: Tree, record: Record) -> Verdict:
    """Run the tests that execute a mutant's line until one fails, or all have passed."""
    source = (tree.root / mutant.path).read_text()
    text = mutated(source, mutant)
    diff = "\n".join(difflib.unified_diff(source.splitlines(), text.splitlines(), lineterm="", n=2))
    tests = record.tests_of(mutant.path, mutant.line if mutant.in_function else None, _ALL_S)
    unreliable: set[Test] = set()
    for batch in _batches(tests):
        left = batch
        while left:
            with tree.changed(mutant.path, text):
                failure = _run(tree, left)
            if failure is None:
                break
            if _is_reliable(tree, mutant, text, failure):
                return Verdict(Fate.KILLED, failure.test.name if failure.test else "an import, or a hang", diff)
            unreliable.update(failure.tests)
            left = [test for test in left if test not in unreliable]
    return Verdict(Fate.SURVIVED, f"{len(tests) - len(unreliable)} tests", diff)


def _batches(tests: list[Test]) -> list[list[Test]]:
    seconds = 0.0
    for number, test in enumerate(tests):
        seconds += test.seconds
        if seconds > _FIRST_S:
            return [tests[: number + 1], tests[number + 1 :]]
    return [tests]


def _is_reliable(tree: Tree, mutant: Mutant, text: str, failure: _Failure) -> bool:
    """Whether tests fail again, and for the mutant: neither a busy machine nor a broken tool is a killer."""
    with tree.changed(mutant.path, text):
        began = time.monotonic()
        if _run(tree, failure.tests) is None:
            return False
        took = time.monotonic() - began
    if failure.test is not None and took < failure.test.seconds * _SUSPICIOUS_TIMES + _SUSPICIOUS_S:
        return True
    return _run(tree, failure.tests) is None


def _run(tree: Tree, tests: list[Test]) -> _Failure | None:
    """Run tests until one fails; returns `None` if all have passed."""
    folder = tree.root.parent / f"{tree.root.name}-limits"
    folder.mkdir(exist_ok=True)
    limits = {test.name: test.seconds * _TIMES + _MORE_S for test in tests}
    (folder / limiter.LIMITS).write_text(json.dumps(limits))
    failed = folder / limiter.FAILED
    failed.unlink(missing_ok=True)
    (folder / "tests").write_text("\n".join(limits))
    words = ["-x", limiter.OPTION, str(folder), "-p", limiter.__name__, f"@{folder / 'tests'}"]
    code = tree.pytest(words, limit_s=_START_S + _TIMES * sum(test.seconds for test in tests))
    if code == 0:
        return None
    name = failed.read_text() if failed.exists() else ""
    first = next((test for test in tests if test.name == name), None)
    return _Failure(first, tests if first is None else [first])
