"""The times of a schedule in cron's notation, in a time zone. Pure.

A time of day is local time, and the clock of a time zone jumps. Two rules follow from that:

- A schedule with certain hours (``0 7 * * *``) has one time for each local time that it names. A local time that does
  not exist, because the clock was put forward, is replaced by the first moment after the gap. Of a local time that
  comes twice the first one counts.
- A schedule of every hour (``*/5 * * * *``) is about the time between, so it follows the time that passes: nothing
  is made up after a gap, and an hour that comes twice has its times twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from math import floor
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from waypost.checking.arguments import TEXT, check, nearest
from waypost.errors import ConfigurationError

__all__ = ["Cron", "time_zone"]

_FIELDS = 5
_FORM = 'five fields (minute, hour, day of the month, month, day of the week), such as "0 7 * * *"'
_START = datetime(2024, 1, 1)
_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_DAY_S = 24 * 3600


def time_zone(name: str) -> tzinfo:
    """Return the time zone with a name.

    Raises:
        ConfigurationError: There is no such time zone, or this machine has no list of time zones.
    """
    check("timezone", name, TEXT)
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        pass
    except KeyError:
        if not available_timezones():
            expected = 'a name that this machine knows; it has no time zones but "UTC": install the package tzdata'
            raise ConfigurationError("timezone", name, expected) from None
    expected = 'the name of a time zone, such as "Europe/Berlin" or "UTC"'
    raise ConfigurationError("timezone", name, expected, suggestion=nearest(name, available_timezones()))


class Cron:
    """A schedule.

    Args:
        expression: Five fields in cron's notation.
        zone: The time zone in which they are meant.

    Raises:
        ConfigurationError: The text is no such expression, or it never comes true.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        check("cron", expression, TEXT)
        fields = expression.split()
        if len(fields) != _FIELDS:
            raise ConfigurationError("cron", expression, _FORM)
        try:
            next(CronSim(expression, _START))
        except CronSimError as problem:
            raise ConfigurationError("cron", expression, f"{_FORM}; {problem}") from problem
        except StopIteration:
            raise ConfigurationError("cron", expression, "an expression that comes true") from None
        self._expression = expression
        self._zone = zone
        self._follows_time = fields[1] == "*"

    def next_after(self, time: float) -> float:
        """Return the first time after one. All times are in seconds since 1970."""
        found = self._next_passing(floor(time) + 1) if self._follows_time else self._next_named(time)
        return float(found)

    def latest(self, time: float) -> float | None:
        """Return the last time that is not after one; ``None`` if there was none within 50 years."""
        try:
            found = self._last_passing(floor(time)) if self._follows_time else self._last_named(floor(time))
        except StopIteration:
            return None
        return float(found)

    # -- one time for each local time -----------------------------------------------------------------------

    def _next_named(self, time: float) -> int:
        # Local times may have passed already, in an hour that comes twice.
        times = CronSim(self._expression, _local(floor(time), self._offset(floor(time))))
        return next(moment for moment in map(self._moment, times) if moment > time)

    def _last_named(self, time: int) -> int:
        local = _local(time, self._offset(time))
        # In the second one of two equal hours, all of the first one has passed.
        first, second = (int(local.replace(tzinfo=self._zone, fold=fold).timestamp()) for fold in (0, 1))
        start = local + timedelta(seconds=max(second - first, 0)) + _SECOND
        times = CronSim(self._expression, start, reverse=True)
        return next(moment for moment in map(self._moment, times) if moment <= time)

    def _moment(self, local: datetime) -> int:
        """Return the moment for a local time, which may not exist, or come twice."""
        moment = int(local.replace(tzinfo=self._zone).timestamp())
        offset = self._offset(moment)
        if _local(moment, offset) == local:
            return moment
        # It does not exist. Python takes the offset before the gap, so the gap's end is not later.
        return self._first_change(_seconds(local) - offset - 1, moment) or moment

    # -- all moments at which local time fits ------------------------------------------------------------------

    def _next_passing(self, start: int) -> int:
        while True:
            offset = self._offset(start)
            found = _seconds(next(CronSim(self._expression, _local(start, offset) - _SECOND))) - offset
            change = self._first_change(start, found)
            if change is None:
                return found
            start = change

    def _last_passing(self, end: int) -> int:
        while True:
            offset = self._offset(end)
            times = CronSim(self._expression, _local(end, offset) + _SECOND, reverse=True)
            found = _seconds(next(times)) - offset
            change = self._last_change(found, end)
            if change is None:
                return found
            end = change - 1

    # -- the time zone -----------------------------------------------------------------------------------------

    def _offset(self, time: int) -> int:
        """Return how many seconds local time is ahead of UTC."""
        offset = datetime.fromtimestamp(time, self._zone).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())

    def _first_change(self, start: int, end: int) -> int | None:
        """Return the first moment after ``start``, up to ``end``, with another offset; ``None`` if there is none."""
        offset = self._offset(start)
        while start < end:
            day = min(start + _DAY_S, end)
            if self._offset(day) != offset:
                return self._change(start, day)
            start = day
        return None

    def _last_change(self, start: int, end: int) -> int | None:
        """Return the last moment after ``start``, up to ``end``, with another offset than the second before it."""
        offset = self._offset(end)
        while start < end:
            day = max(end - _DAY_S, start)
            if self._offset(day) != offset:
                return self._change(day, end)
            end = day
        return None

    def _change(self, before: int, after: int) -> int:
        """Search for the moment of a change between two times with different offsets."""
        offset = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after


def _local(time: int, offset: int) -> datetime:
    return _EPOCH + timedelta(seconds=time + offset)


def _seconds(local: datetime) -> int:
    return (local - _EPOCH) // _SECOND
