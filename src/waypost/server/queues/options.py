"""A queue's options: limits, leases and retries, with their defaults."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict, Unpack, cast

from waypost.checking.constraints import Count, CountOrZero, Positive, PositiveOrZero, Share
from waypost.checking.options import checked
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.storage.queue_records import QueueLimits

__all__ = ["ORDER", "Order", "QueueOptions", "QueueSettings", "decode_settings", "encode_settings", "with_settings"]

Order = Literal["strict", "key", "none"]
"""The messages that an unacknowledged message blocks: all behind it, those with the same key, or none."""

ORDER = rule_of(Order)
_MEBIBYTE = 1 << 20
_DAY_S = 24 * 3600.0
_DEPRECATED = (
    "max_deliveries={}: the next release of Waypost will not know it; set max_failures for what is rejected, and "
    "max_losses for lost connections"
)


@checked("waypost.QueueOptions", prefix="queues.")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The limits of a queue, and the rules of its deliveries.

    `waypost.Server` takes one value for all queues, as its option ``queues``; `Queue.configure` changes single
    options of one queue.

    Attributes:
        max_age_s: The longest time for which a message waits for its consumers, in seconds above 0.
        max_messages: The largest number of messages in the queue, from 1; ``None`` for no limit.
        max_bytes: The largest size of all messages in the queue together, in bytes.
        overflow: The answer to a message that does not fit. ``"refuse"`` raises `QueueFull`; ``"drop_oldest"`` drops
            the oldest messages, and tells each consumer what it lost.
        deduplication_s: The time for which the queue remembers a message's id, in seconds; it accepts an id once in
            that time.
        order: ``"strict"``: a message goes out after the one before is acknowledged or given up. ``"key"``: only
            messages with the same key wait for each other. ``"none"``: no message waits for another.
        prefetch: The largest number of unacknowledged messages of one socket; with ``"strict"`` it is always one.
        prefetch_bytes: The size of unacknowledged messages, in bytes, from which on a socket gets no more.
        lease_s: The time that a socket has to acknowledge, in seconds. Each heartbeat it answers renews the lease.
        max_lease_s: The time after which heartbeats renew a lease no longer, in seconds. A client that forgets to
            acknowledge then blocks nothing; `Message.extend` and `Socket.extend_lease` allow more time.
        first_backoff_s: The pause before a rejected message is delivered again, in seconds; it doubles with each
            further failure.
        max_backoff_s: The longest of these pauses, in seconds, jitter included.
        backoff_jitter: The share by which chance makes a pause longer or shorter, from 0 to 1.
        max_failures: The number of failures after which a message is a dead letter. A failure is a rejection, or a
            lease that ended while the client was there.
        max_losses: The number of lost connections after which a message is a dead letter; ``None`` for no limit. For
            a function of the server's process, the number of times that the process ended while the function had the
            message; ``None`` for 20.
        max_reason_characters: The most characters of an exception's or a nack's text that logs, histories and dead
            letters keep; 0 for none of it. The exception's type is always kept.
        keep_settled_s: The time for which a message is kept after every consumer has acknowledged it or given it up,
            in seconds: a new consumer can begin with it, and a seek back finds it. A full queue lets such messages
            go first, the oldest before the others. ``max_age_s`` and a message's time to live end it all the same.
        max_deliveries: Deprecated; use ``max_failures`` and ``max_losses``. The number of failures and lost
            connections together after which a message is a dead letter; ``None`` for no limit.
    """

    max_age_s: Positive = 7 * _DAY_S
    max_messages: Count | None = None
    max_bytes: Count = 1 << 30
    overflow: Literal["refuse", "drop_oldest"] = "refuse"
    deduplication_s: PositiveOrZero = 600
    order: Order = "strict"
    prefetch: Count = 32
    prefetch_bytes: Count = _MEBIBYTE
    lease_s: Positive = 30
    max_lease_s: Positive = 900
    first_backoff_s: PositiveOrZero = 1
    max_backoff_s: Positive = 300
    backoff_jitter: Share = 0.2
    max_failures: Count = 20
    max_losses: Count | None = None
    max_reason_characters: CountOrZero = 1_000
    keep_settled_s: PositiveOrZero = 0
    max_deliveries: Count | None = None

    def __post_init__(self) -> None:
        """Warn of an option that the next release will not have."""
        if self.max_deliveries is not None:
            # Above this method: the generated constructor, the one that checks, and who called that.
            warnings.warn(_DEPRECATED.format(self.max_deliveries), DeprecationWarning, stacklevel=4)


class QueueSettings(TypedDict, total=False):
    """The keyword arguments of `Queue.configure`; `QueueOptions` says what each means."""

    max_age_s: float
    max_messages: int | None
    max_bytes: int
    overflow: Literal["refuse", "drop_oldest"]
    deduplication_s: float
    order: Order
    prefetch: int
    prefetch_bytes: int
    lease_s: float
    max_lease_s: float
    first_backoff_s: float
    max_backoff_s: float
    backoff_jitter: float
    max_failures: int
    max_losses: int | None
    max_reason_characters: int
    keep_settled_s: float
    max_deliveries: int | None


def limits_of(options: QueueOptions) -> QueueLimits:
    """Return the limits that the store enforces."""
    kept = QueueLimits(
        max_bytes=options.max_bytes,
        max_age_s=options.max_age_s,
        overflow=options.overflow,
        keep_settled_s=options.keep_settled_s,
    )
    return kept if options.max_messages is None else replace(kept, max_messages=options.max_messages)


def with_settings(options: QueueOptions, **settings: Unpack[QueueSettings]) -> QueueOptions:
    """Return a copy of options with some values changed.

    Raises:
        ConfigurationError: No option has that name, or a value is impossible.
    """
    return replace(options, **settings)


def encode_settings(settings: QueueSettings) -> bytes:
    """Return a queue's own settings as bytes for the store."""
    return json.dumps(settings, sort_keys=True).encode()


def decode_settings(stored: bytes | None) -> QueueSettings:
    """Bring a queue's own settings back, without those that only a newer version knows.

    Raises:
        ConfigurationError: These bytes are no settings.
    """
    known = {field.name for field in fields(QueueOptions)}
    try:
        kept: Any = json.loads(stored) if stored else {}
    except ValueError as error:
        raise ConfigurationError("settings", stored, "a JSON object") from error
    if not isinstance(kept, dict):
        raise ConfigurationError("settings", stored, "a JSON object")
    return cast("QueueSettings", {name: value for name, value in kept.items() if name in known})
