"""Sizes, ages and times as humans read and write them, and how far something is."""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections.abc import Callable
from math import inf

import pytest

from waypost.commands import human
from waypost.commands.output import Progress, waiting


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 << 20, "3.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_size(size: int, shown: str) -> None:
    assert human.size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0.4, "0s"), (59, "59s"), (61, "1m 1s"), (7200, "2h 0m"), (200_000, "2d 7h"), (1e9, "11574d 1h")],
)
def test_age(seconds: float, shown: str) -> None:
    assert human.age(seconds) == shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800)]
)
def test_duration(text: str, seconds: float) -> None:
    assert human.duration(text) == seconds
    assert human.moment(text) == pytest.approx(time.time() - seconds, abs=5)


@pytest.mark.parametrize("parse", [human.duration, human.moment, human.point, human.rate, human.count])
@pytest.mark.parametrize("text", ["", "h", "-1", "1x", "inf", "nan", "²"])
def test_what_is_none_is_told(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a"):
        parse(text)


def test_times() -> None:
    assert human.point("1970-01-02T01:00:00+01:00") == human.point("1970-01-02T00:00Z") == 86400
    assert human.instant(0) == "1970-01-01T00:00:00+00:00"
    assert (human.instant(inf), human.instant(None)) == ("forever", None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_written_over_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = Terminal()
    with Progress("purging", 2000, stream) as progress:
        progress.advance(500)
        assert stream.getvalue() == "", "it may be over soon"
        now = 0.2
        progress.advance(1000)
    assert stream.getvalue() == f"\rpurging: 1,500 of 2,000 (75 %)\r{' ' * 30}\r"


def test_progress_elsewhere_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    with Progress("redriving", None, stream) as progress:
        for _ in range(4):
            now += 3
            progress.advance(1000)
    assert stream.getvalue() == "redriving: 2,000\nredriving: 4,000\n"


async def test_work_of_unknown_size_says_how_long_it_lasts_and_leaves_nothing_behind() -> None:
    terminal = Terminal()

    async def work() -> int:
        async with asyncio.timeout(30):
            while "\rmoving: for " not in terminal.getvalue():
                await asyncio.sleep(0.01)
        return 7

    assert await waiting("moving", work(), terminal) == 7
    assert terminal.getvalue().split("\r")[-1] == ""


async def test_work_that_fails_or_is_cancelled_ends_as_it_would_alone() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await waiting("moving", fail(), Terminal())
    began, ended = asyncio.Event(), asyncio.Event()

    async def last() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(waiting("moving", last(), Terminal()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        await ended.wait()
