"""The times of a schedule, also where the clock of a time zone jumps, against a search minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

import waypost
from waypost.server.queues.cron import Cron, time_zone

# Days on which the clock jumps: by an hour, by half an hour, by two hours, at midnight, by a whole day.
JUMPS = [
    ("Europe/Berlin", datetime(2026, 3, 29)),
    ("Europe/Berlin", datetime(2026, 10, 25)),
    ("America/New_York", datetime(2026, 3, 8)),
    ("America/New_York", datetime(2026, 11, 1)),
    ("Australia/Lord_Howe", datetime(2026, 4, 5)),
    ("Australia/Lord_Howe", datetime(2026, 10, 4)),
    ("Antarctica/Troll", datetime(2026, 3, 29)),
    ("Antarctica/Troll", datetime(2026, 10, 25)),
    ("America/Sao_Paulo", datetime(2018, 2, 18)),
    ("America/Sao_Paulo", datetime(2018, 11, 4)),
    ("Pacific/Apia", datetime(2011, 12, 30)),
    ("Asia/Kolkata", datetime(2026, 3, 29)),
]
DAY_S = 24 * 3600


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def days(expression: str, zone: str, start: str, count: int) -> list[str]:
    """Return the first times from a day on, as local time with the offset."""
    cron, time, found = Cron(expression, ZoneInfo(zone)), at(start), []
    for _ in range(count):
        time = cron.next_after(time)
        found.append(datetime.fromtimestamp(time, ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


def test_an_hour_that_does_not_exist_fires_once_after_it() -> None:
    assert days("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00+01:00", 3) == [
        "2026-03-28T02:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
    ]
    # Several in the gap, and one at its end, are one.
    assert days("*/15 2,3 29 3 *", "Europe/Berlin", "2026-03-29T00:00+01:00", 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:15+02:00",
    ]


def test_an_hour_that_comes_twice_fires_once() -> None:
    assert days("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00+02:00", 3) == [
        "2026-10-24T02:30+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]


def test_a_schedule_of_every_hour_follows_the_time_that_passes() -> None:
    assert days("0 * * * *", "Europe/Berlin", "2026-10-25T01:30+02:00", 3) == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T03:00+01:00",
    ]
    assert days("0 * * * *", "Europe/Berlin", "2026-03-29T00:30+01:00", 3) == [
        "2026-03-29T01:00+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T04:00+02:00",
    ]


def fits(times: CronSim, local: datetime) -> bool:
    minute_fits = local.minute in times.minutes and local.hour in times.hours
    return minute_fits and local.month in times.months and times.match_day(local.date())


def expected(expression: str, zone: tzinfo, start: int, end: int) -> list[int]:
    """Search the times between two moments: minute by minute, with the clock on the wall in sight."""
    wall = {time: datetime.fromtimestamp(time, zone).replace(tzinfo=None) for time in range(start, end, 60)}
    times = CronSim(expression, datetime(2026, 1, 1))
    if expression.split()[1] == "*":
        return [time for time, local in wall.items() if fits(times, local)]
    found: set[int] = set()
    furthest = wall[start] - timedelta(minutes=1)
    for time, local in wall.items():
        # What the clock reaches for the first time, and what it has skipped before.
        while furthest < local:
            furthest += timedelta(minutes=1)
            if fits(times, furthest):
                found.add(time)
    return sorted(found)


def numbers(most: int) -> st.SearchStrategy[str]:
    return st.lists(st.integers(0, most), min_size=1, max_size=3).map(lambda some: ",".join(map(str, some)))


minutes = st.one_of(numbers(59), st.sampled_from(["*", "*/5", "*/45", "10-20/3"]))
hours = st.one_of(numbers(4), numbers(23), st.sampled_from(["*", "*/2", "0-3", "23"]))
weekdays = st.sampled_from(["*", "*", "*", "0", "6", "1-5"])
expressions = st.tuples(minutes, hours, weekdays).map(lambda parts: f"{parts[0]} {parts[1]} * * {parts[2]}")


@given(expressions, st.sampled_from(JUMPS))
@example("30 2 * * *", JUMPS[0])
@example("*/5 * * * *", JUMPS[1])
@example("0,30 0 * * *", JUMPS[9])
@example("0 12 * * *", JUMPS[10])
def test_forwards_and_backwards_are_what_a_search_finds(expression: str, jump: tuple[str, datetime]) -> None:
    name, day = jump
    zone = ZoneInfo(name)
    start = int((day - timedelta(days=2)).replace(tzinfo=UTC).timestamp())
    end = start + 5 * DAY_S
    cron = Cron(expression, zone)
    forwards: list[int] = []
    time = float(start - 1)
    while (time := cron.next_after(time)) < end:
        assert len(forwards) < 5 * DAY_S
        forwards.append(int(time))
    backwards: list[int] = []
    last = cron.latest(end - 1)
    while last is not None and last >= start:
        assert len(backwards) < 5 * DAY_S
        backwards.append(int(last))
        last = cron.latest(last - 1)
    assert forwards == expected(expression, zone, start, end)
    assert backwards == forwards[::-1]


@given(expressions, st.sampled_from(JUMPS), st.integers(-2 * DAY_S, 2 * DAY_S))
def test_the_next_is_after_and_the_latest_is_not_and_nothing_is_between(
    expression: str, jump: tuple[str, datetime], seconds: int
) -> None:
    name, day = jump
    cron = Cron(expression, ZoneInfo(name))
    now = day.replace(tzinfo=UTC).timestamp() + seconds + 0.5
    following, latest = cron.next_after(now), cron.latest(now)
    assert latest is not None
    assert latest <= now < following
    assert cron.latest(following) == following
    assert cron.next_after(latest) == following
    assert cron.next_after(latest - 1) == latest


def test_in_the_second_of_two_equal_hours_all_of_the_first_has_passed() -> None:
    cron = Cron("30 2 * * *", ZoneInfo("Europe/Berlin"))
    assert cron.latest(at("2026-10-25T02:10+01:00")) == at("2026-10-25T02:30+02:00")
    assert cron.latest(at("2026-10-25T02:10+02:00")) == at("2026-10-24T02:30+02:00")


def test_the_latest_time_is_looked_for_from_no_later_than_an_hour_away() -> None:
    # Years later there is no calendar any more.
    cron = Cron("0 7 * * *", ZoneInfo("Europe/Berlin"))
    assert cron.latest(at("9998-12-31T12:00+01:00")) == at("9998-12-31T07:00+01:00")


def test_rare_days_are_found() -> None:
    cron = Cron("0 0 29 2 *", UTC)
    assert cron.next_after(at("2026-11-29T00:00+00:00")) == at("2028-02-29T00:00+00:00")
    assert cron.latest(at("2026-11-29T00:00+00:00")) == at("2024-02-29T00:00+00:00")


@pytest.mark.parametrize("wrong", ["", "daily", "0 7 * *", "0 0 7 * * *", "60 7 * * *", "0 0 30 2 *", "0 7 * * FOO"])
def test_what_is_no_schedule_is_refused(wrong: str) -> None:
    with pytest.raises(waypost.ConfigurationError, match="cron"):
        Cron(wrong, UTC)


def test_time_zones_are_checked_with_a_suggestion() -> None:
    assert time_zone("UTC") is UTC
    assert time_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    with pytest.raises(waypost.ConfigurationError, match="did you mean Europe/Berlin"):
        time_zone("Europe/Berlim")
    for wrong in ("", "../etc/passwd", "Europe", "x\0y"):
        with pytest.raises(waypost.ConfigurationError, match="timezone"):
            time_zone(wrong)
