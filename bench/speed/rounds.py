"""Who has a turn when: every server once in each round of each piece of work."""

from __future__ import annotations

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
    """

    contenders: Sequence[Contender]
    items: Sequence[str]
    extent: Extent


async def run(plan: Plan, report: Report) -> None:
    """Measure everything; a server that fails at a piece of work is told of in the report, and the others go on."""
    for name in plan.items:
        item = ITEMS[name]
        suited = [contender for contender in plan.contenders if item.suits(contender)]
        samples: list[Sample] = []
        for number in range(min(plan.extent.rounds, item.most_rounds)):
            for contender in suited:
                samples += await _turn(name, contender, number, plan.extent, report)
        report.add(name, samples)


async def _turn(name: str, contender: Contender, number: int, extent: Extent, report: Report) -> list[Sample]:
    samples: list[Sample] = []
    try:
        async with serving(contender, **ITEMS[name].environment(extent)) as server:
            async for case, figures in ITEMS[name].measure(server, extent):
                samples.append(Sample(name, case, contender.name, figures, number))
    except (Unexpected, RuntimeError, OSError, TimeoutError, ExceptionGroup) as error:
        report.fail(name, contender.name, error)
    return samples
