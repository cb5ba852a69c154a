"""The errors of stores: the server's, and the files that a client keeps."""

from __future__ import annotations

from datetime import UTC, datetime

from waypost.errors.base import WaypostError

__all__ = [
    "OutboxFull",
    "PositionGone",
    "QueueFull",
    "StorageError",
    "StorageUncertain",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreFull",
    "StoreLost",
]


class StorageError(WaypostError):
    """The store could not do what was asked. It kept no part of the request.

    Attributes:
        store: The store, as it was configured.
        problem: The reason, in words.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"store {self.store}: {self.problem}"


class StoreClosed(StorageError):
    """The store is not open: it was not opened yet, or it was closed."""

    def __init__(self, store: str) -> None:
        super().__init__(
            store,
            "it is not open; start its owner first: a server by `await io.start()` or the application's"
            " `lifespan=io.lifespan` (in a test: `with TestClient(app) as client:`), a client by"
            " `await client.connect()`",
        )


class StoreBusy(StorageError):
    """Another process has the store open. One process owns a store at a time.

    Attributes:
        pid: The id of that process, as it has noted it; ``None`` if it did not.
        since: When it opened the store, in seconds since 1970; ``None`` if unknown.
        host: The host or container of that process; ``""`` if it is this one, or unknown.
        waited_s: The seconds for which this process has waited for its end.
    """

    def __init__(
        self,
        store: str,
        *,
        pid: int | None = None,
        since: float | None = None,
        host: str = "",
        waited_s: float = 0.0,
    ) -> None:
        who = "another process" if pid is None else f"process {pid}"
        if host:
            who += f" on {host}"
        held = f"{who} has it open"
        if since is not None:
            held = f"{who} has had it open since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
        remedy = "; stop that process, or use another file"
        if waited_s:
            remedy = (
                f", and did not end within {waited_s:g} s; for several processes on one store use `waypost serve"
                " --workers N`, else stop that process, or use another file"
            )
        super().__init__(store, held + remedy)
        self.pid = pid
        self.since = since
        self.host = host
        self.waited_s = waited_s


class StoreDamaged(StorageError):
    """The file is not a Waypost store, or it is damaged. The file was not changed."""


class StoreFull(StorageError):
    """The disk of the store is full, or emits would use its reserve. The store works again once there is space.

    Attributes:
        room_bytes: The bytes that are left, if emits were refused for the sake of the reserve; ``None`` if no byte is
            left.
        reserve_bytes: The bytes that emits leave free.
    """

    def __init__(self, store: str, *, room_bytes: int | None = None, reserve_bytes: int = 0) -> None:
        problem = "no space left on its disk; free some, and the store works again"
        if room_bytes is not None:
            problem = (
                f"{room_bytes:,} bytes are left on its disk, and emits leave {reserve_bytes:,} free, so that what "
                "waits can be delivered; free some space, or lower disk_reserve_bytes"
            )
        super().__init__(store, problem)
        self.room_bytes = room_bytes
        self.reserve_bytes = reserve_bytes


class StorageUncertain(StorageError):
    """The store may have done what was asked, or not: the process that has it open is gone.

    Either it was done, and then it counts once, as if it had been reported; or nothing of it was done. An event that
    was taken is delivered. To find out, look; a message of a queue may be added again with the same id.

    Attributes:
        operation: What was asked, in words.
        reason: Why it is not known, in words.
        ids: The ids of the messages that were to be added to a queue; empty for anything else.
    """

    def __init__(self, store: str, operation: str, reason: str, *, ids: tuple[str, ...] = ()) -> None:
        again = "; add the messages again with the same ids, and each is added once" if ids else ""
        super().__init__(
            store,
            f"{reason}, and it is not known whether it did this: {operation}. It was done once or not at all{again}",
        )
        self.operation = operation
        self.reason = reason
        self.ids = ids


class StoreLost(StoreClosed):
    """The store of a server or a client is not its own any more. Nothing is stored until it is opened again.

    Attributes:
        is_taken_over: Whether another server has opened the file.
    """

    def __init__(self, store: str, problem: str, *, is_taken_over: bool = False, remedy: str = "") -> None:
        if not remedy:
            remedy = "stop one of the two servers" if is_taken_over else "put the file back, and start again"
        StorageError.__init__(self, store, f"{problem}; {remedy}")
        self.is_taken_over = is_taken_over


class QueueFull(StorageError):
    """A queue has reached its limits. It kept no part of the request.

    Attributes:
        queue: The queue's name.
        messages: The number of messages that the queue keeps.
        bytes: The size of their records together, in bytes.
        max_messages: The limit on ``messages``.
        max_bytes: The limit on ``bytes``.
    """

    def __init__(
        self, store: str, queue: str, messages: int, size_bytes: int, max_messages: int, max_bytes: int
    ) -> None:
        super().__init__(
            store,
            f"queue {queue} is full: it keeps {messages} messages of at most {max_messages}, and {size_bytes} bytes "
            f"of at most {max_bytes}; let its consumers catch up, or raise max_messages or max_bytes of its options",
        )
        self.queue = queue
        self.messages = messages
        self.bytes = size_bytes
        self.max_messages = max_messages
        self.max_bytes = max_bytes


class OutboxFull(StorageError):
    """A client's durable outbox has reached its limits. The event was not kept.

    Attributes:
        event: The event's name.
        events: The number of events that wait in the outbox.
        bytes: Their size together, in bytes.
        max_events: The limit on ``events``.
        max_bytes: The limit on ``bytes``.
    """

    def __init__(self, store: str, event: str, events: int, size_bytes: int, max_events: int, max_bytes: int) -> None:
        super().__init__(
            store,
            f"there is no room for event {event!r}: {events} events wait of at most {max_events}, and {size_bytes} "
            f"bytes of at most {max_bytes}; let the client connect, or raise outbox_max_events or outbox_max_bytes",
        )
        self.event = event
        self.events = events
        self.bytes = size_bytes
        self.max_events = max_events
        self.max_bytes = max_bytes


class PositionGone(StorageError):
    """The journal no longer keeps the entries after a requested position.

    Attributes:
        journal: The journal's name.
        asked: The position after which entries were requested.
        oldest: The oldest position that the journal keeps.
    """

    def __init__(self, store: str, journal: str, asked: int, oldest: int) -> None:
        super().__init__(
            store,
            f"journal {journal} keeps positions from {oldest}, entries after {asked} were requested; "
            f"read after {oldest - 1} or later",
        )
        self.journal = journal
        self.asked = asked
        self.oldest = oldest
