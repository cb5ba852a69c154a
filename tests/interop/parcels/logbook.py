"""What happened to one driver, in order, and whether all of it may happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

What = Literal["got", "done", "refused", "up", "down", "trouble", "killed", "proved"]


@dataclass(frozen=True)
class Entry:
    """A line of the logbook.

    Attributes:
        what: ``got``: a parcel came. ``done``, ``refused``: it is about to be acknowledged, or rejected. ``up``,
            ``down``: a phone of the driver connected, or noticed that it is not. ``trouble``: its line was cut or
            frozen. ``killed``: the server was. ``proved``: all up to an offset is settled on its disk.
        parcel: Which one.
        phone: The driver's client that it is about.
        offset: What was proved.
    """

    what: What
    parcel: str = ""
    phone: str = ""
    offset: int = 0

    def __str__(self) -> str:
        return " ".join(filter(None, (self.what, self.parcel, self.phone, str(self.offset or ""))))


class Logbook:
    """All that concerns one driver; appended to as it happens.

    Attributes:
        driver: The driver's name.
        entries: What happened.
        places: The offset of each parcel in the driver's queue, as the server said when it took it.
    """

    def __init__(self, driver: str) -> None:
        self.driver = driver
        self.entries: list[Entry] = []
        self.places: dict[str, int] = {}

    def note(self, what: What, parcel: str = "", phone: str = "", offset: int = 0) -> None:
        """Append a line."""
        self.entries.append(Entry(what, parcel, phone, offset))

    def place(self, parcel: str, offset: int) -> None:
        """Note the place that the server gave a parcel, which is the same each time it is asked."""
        assert self.places.setdefault(parcel, offset) == offset, f"{parcel} was taken twice into {self.driver}'s van"

    @property
    def handled(self) -> list[str]:
        """The parcels that were acknowledged, each once, in the order in which that first happened."""
        return list(dict.fromkeys(entry.parcel for entry in self.entries if entry.what == "done"))

    @property
    def repeats(self) -> int:
        """How many deliveries were not the first of their parcel."""
        got = [entry.parcel for entry in self.entries if entry.what == "got"]
        return len(got) - len(set(got))

    def check(self) -> None:
        """Fail unless everything was handled, in order, and every repeat has an explanation."""
        in_order = sorted(self.places, key=self.places.__getitem__)
        assert [self.places[parcel] for parcel in in_order] == list(range(1, len(in_order) + 1))
        assert self.handled == in_order, f"{self.driver} handled {self.handled}\nin another order than {in_order}"
        judge = _Judge(self.places)
        for number, entry in enumerate(self.entries):
            problem = judge.look(entry)
            if problem:
                before = "\n".join(map(str, self.entries[max(0, number - 40) : number + 3]))
                raise AssertionError(f"{self.driver}, line {number}, {entry}: {problem}\n{before}")


class _Judge:
    """Reads a logbook from the beginning, and says what is wrong with a line.

    What was sent to two phones may come in another order than it was sent in.
    """

    def __init__(self, places: dict[str, int]) -> None:
        self._places = places
        self._newest = ""
        self._newest_phone = ""
        self._proved = 0
        # Phones that the server may have given up while they do not know it.
        self._doomed: set[str] = set()
        # Phones that have got nothing since they connected: they may be taking over.
        self._fresh: set[str] = set()
        # For each phone: which others have connected, and may have taken over, since it got something.
        self._rivals: dict[str, set[str]] = {}
        # Whether anything has happened since the newest delivery that is a reason for another one of the same parcel.
        self._has_reason = False
        # Each parcel that has come, and whether the server was killed since.
        self._killed_since: dict[str, bool] = {}

    def look(self, entry: Entry) -> str | None:
        """Return what is wrong with the next line, or ``None``."""
        match entry.what:
            case "got":
                return self._take(entry.parcel, entry.phone)
            case "refused":
                self._has_reason |= entry.parcel == self._newest
            case "up":
                self._doomed.discard(entry.phone)
                self._fresh.add(entry.phone)
                self._rivals.setdefault(entry.phone, set())
                for rivals in self._rivals.values():
                    rivals.add(entry.phone)
                self._has_reason = True
            case "down":
                self._doomed.discard(entry.phone)
                self._has_reason = True
            case "trouble":
                self._doomed.add(entry.phone)
            case "killed":
                self._killed_since = dict.fromkeys(self._killed_since, True)
            case "proved":
                self._proved = max(self._proved, entry.offset)
        return None

    def _take(self, parcel: str, phone: str) -> str | None:
        place = self._places[parcel]
        is_late = phone != self._newest_phone and self._newest_phone in self._rivals[phone]
        problem = None
        if self._newest and place > self._places[self._newest] + 1:
            problem = f"it came right after {self._newest}, which is not the one before it"
        elif parcel in self._killed_since:
            if is_late and place <= self._places[self._newest]:
                return None  # sent before another phone took over
            problem = self._judge_repeat(parcel, phone)
        self._newest, self._newest_phone, self._has_reason = parcel, phone, False
        self._killed_since[parcel] = False
        self._fresh.discard(phone)
        self._rivals[phone].clear()
        return problem

    def _judge_repeat(self, parcel: str, phone: str) -> str | None:
        if self._places[parcel] <= self._proved:
            return f"it came again, though its ack was on disk (all up to {self._proved})"
        if self._killed_since[parcel]:
            return None
        if parcel != self._newest:
            return f"it came again without a kill, though its ack had arrived: {self._newest} came after it"
        if not self._has_reason and not self._doomed and phone not in self._fresh:
            return "it came again while its connection was whole, and nobody had refused it"
        return None
