"""The benchmark measures real servers, and does not let them leave anything out."""

from __future__ import annotations

import pytest

from bench.speed.asking import Unexpected
from bench.speed.contenders import CONTENDERS, serving
from bench.speed.items.acks import single
from bench.speed.items.broadcast import Blast, Crowd
from bench.speed.items.common import Extent, asked
from bench.speed.process import cpu_s, memory_bytes
from bench.speed.scripts import ACKS, Script

pytestmark = pytest.mark.long


async def test_a_server_is_measured() -> None:
    async with serving(CONTENDERS["waypost-memory"]) as server:
        found = [found async for found in single(server, Extent(rounds=1, seconds=0.05, is_full=False))]
        assert [case for case, _ in found] == ["100 clients"]
        assert found[0][1]["per_s"] > 0
        assert cpu_s(server.pid) > 0
        assert memory_bytes(server.pid) > 1 << 20
        crowd = await Crowd.gather(server, [["all"], ["all"], ["other"]])
        figures = await crowd.measure(Blast("to two", ["all"], 2, 32), 0.05)
        assert figures["per_s"] > 0
        with pytest.raises(Unexpected, match="1 clients should have"):
            await crowd.measure(Blast("to too many", ["all"], 1, 32), 0.01)
        crowd.close()


async def test_a_wrong_answer_is_no_answer() -> None:
    wrong = Script(ACKS.requests, [*ACKS.answers[1:], ACKS.answers[0]])
    async with serving(CONTENDERS["ceiling"]) as server:
        assert (await asked(server, ACKS, 2, 3, 0.05))["per_s"] > 0
        with pytest.raises(Unexpected, match="expected b'431"):
            await asked(server, wrong, 1, 1, 0.05)
