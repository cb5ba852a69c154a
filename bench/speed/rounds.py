"""Who has a turn when: every server once in each round of each piece of work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.speed.asking import Unexpected
from bench.speed.contenders import Contender, serving
from bench.speed.items import ITEMS
from bench.speed.items.common import Extent
from bench.speed.report import Report
from bench.speed.sample import Sample

__all__ = ["Plan", "run"]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        contenders: The servers, in the order of their turns.
        items: The pieces of work.
        extent: How much of it.
        budget_s: After how long no further round begins, and no further piece of work.
    """

    contenders: Sequence[Contender]
    items: Sequence[str]
    extent: Extent
    budget_s: float


async def run(plan: Plan, report: Report) -> None:
    """Measure everything; a server that fails at a piece of work is told of in the report, and the others go on."""
    began, weight = time.monotonic(), 0
    total = sum(ITEMS[name].weight for name in plan.items)
    for name in plan.items:
        weight += ITEMS[name].weight
        if time.monotonic() > began + plan.budget_s:
            report.leave_out(f"{name}: {plan.budget_s:.0f} s were over")
        else:
            report.add(name, await _item(name, plan, began + plan.budget_s * weight / total, report))


async def _item(name: str, plan: Plan, until: float, report: Report) -> list[Sample]:
    item = ITEMS[name]
    samples: list[Sample] = []
    for number in range(min(plan.extent.rounds, item.most_rounds)):
        began = time.monotonic()
        for contender in plan.contenders:
            if item.suits(contender):
                samples += await _turn(name, contender, number, plan.extent, report)
        if 2 * time.monotonic() - began > until:
            break
    return samples


async def _turn(name: str, contender: Contender, number: int, extent: Extent, report: Report) -> list[Sample]:
    samples: list[Sample] = []
    try:
        async with serving(contender, **ITEMS[name].environment(extent)) as server:
            async for case, figures in ITEMS[name].measure(server, extent):
                samples.append(Sample(name, case, contender.name, figures, number))
    except (Unexpected, RuntimeError, OSError, TimeoutError, ExceptionGroup) as error:
        report.fail(name, contender.name, error)
    return samples
