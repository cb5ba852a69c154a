"""How late the event loop is."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.server.model_client import until
from waypost.server.watching import loop_lag
from waypost.server.watching.loop_lag import LoopLag


async def test_a_loop_that_is_kept_busy_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(loop_lag, "_WINDOW_S", 3600.0)
    lag = LoopLag()
    assert lag.longest_s == 0
    lag.start()
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  # on purpose
    await until(lambda: lag.longest_s >= 0.25)
    lag.stop()


async def test_a_lag_is_forgotten_after_two_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(loop_lag, "_WINDOW_S", 0.0)
    lag = LoopLag()
    lag.start()
    time.sleep(0.3)  # noqa: ASYNC251  # on purpose
    await until(lambda: lag.longest_s >= 0.25)
    await until(lambda: lag.longest_s < 0.25)
    lag.stop()
