"""The options of a store: plain data, that other processes can be sent; and its clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from os.path import realpath
from typing import Any, Final

from waypost.storage.answer_base import AnswerLimits
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S, RESERVE_BYTES, Durability
from waypost.storage.journal_records import Retention
from waypost.storage.queue_records import QueueLimits
from waypost.storage.specs import file_of_store, shown_spec

__all__ = ["MACHINE_CLOCKS", "Clocks", "StoreOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """The options of a store: where it is, and what it keeps. Plain data, that other processes can be sent.

    Attributes:
        spec: ``"memory:"``, the path of a SQLite file, with or without ``sqlite:`` before it, or the URL of a
            PostgreSQL database; see `whole_spec`.
        durability: The time at which a write is reported; see `SqliteStore`. A store in memory ignores it.
        retention: The limits of each journal.
        queue_limits: The limits of each queue without its own.
        answer_ttl_s: Seconds for which an answer is kept.
        answer_limits: The limits on the bytes of answers.
        tail_bytes: The bytes of each journal's newest records that a store in a file keeps in memory too.
        orphan_ttl_s: Seconds for which a session is kept that a crash left attached.
        disk_reserve_bytes: The bytes that emits leave free on the file's disk.
        patience_s: Seconds for which a write to a file waits while another program holds its lock.
        copy_before_upgrade: Whether a file is copied before its format is changed.
    """

    spec: str = field(repr=False)
    durability: Durability = "commit"
    retention: Retention = field(default_factory=Retention)
    queue_limits: QueueLimits = field(default_factory=QueueLimits)
    answer_ttl_s: float = ANSWER_TTL_S
    answer_limits: AnswerLimits = field(default_factory=AnswerLimits)
    tail_bytes: int = 64 << 20
    orphan_ttl_s: float = 3600
    disk_reserve_bytes: int = RESERVE_BYTES
    patience_s: float = PATIENCE_S
    copy_before_upgrade: bool = False

    def path(self) -> str | None:
        """Return the whole path of the store's file; ``None`` for a store that is no file.

        Raises:
            ConfigurationError: The text names no store.
        """
        path = file_of_store(self.spec)
        return None if path is None else realpath(path)

    def difference(self, came: StoreOptions) -> str:
        """Return in words in what other options differ from these; "" if they agree."""
        expected, others = _flat(asdict(self)), _flat(asdict(came))
        if expected["spec"] != others["spec"]:
            expected["spec"], others["spec"] = shown_spec(self.spec), shown_spec(came.spec)
        return ", ".join(
            f"{name} {value!r} (came {others[name]!r})" for name, value in expected.items() if value != others[name]
        )


def _flat(options: dict[str, Any]) -> dict[str, object]:
    """Return options with those of groups under the names of both: ``retention.max_bytes``."""
    flat: dict[str, object] = {}
    for name, value in options.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The clocks of a store.

    Attributes:
        wall_time: The wall clock, in seconds since 1970.
        steady_time: The clock for durations; see `StoreClock`.
    """

    wall_time: Callable[[], float] = time.time
    steady_time: Callable[[], float] | None = None


MACHINE_CLOCKS: Final = Clocks()
"""The clocks of the machine."""
