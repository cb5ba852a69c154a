"""What a queue can be told: its limits, leases and retries, with their defaults."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict, Unpack, cast

from waypost.checking.constraints import Count, Positive, PositiveOrZero, Share
from waypost.checking.options import checked
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.storage.queue_records import QueueLimits

__all__ = ["ORDER", "Order", "QueueOptions", "QueueSettings", "decode_settings", "encode_settings", "with_settings"]

Order = Literal["strict", "key", "none"]
"""How much a message that is not acknowledged blocks: all behind it, those with the same key, or nothing."""

ORDER = rule_of(Order)
_MEBIBYTE = 1 << 20
_DAY_S = 24 * 3600.0


@checked("waypost.QueueOptions", prefix="queues.")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """What a queue keeps, and how its messages are delivered.

    `waypost.Server` takes one for all queues, as its option ``queues``; `Queue.configure` changes single values for
    one queue.

    Attributes:
        max_age_s: Seconds for which a message is kept for consumers that have not acknowledged it.
        max_messages: How many messages the queue keeps; ``None`` for no limit.
        max_bytes: How many bytes of messages the queue keeps.
        overflow: What a full queue does with one message more: ``"refuse"`` raises `QueueFull`, ``"drop_oldest"``
            drops the oldest and tells each consumer what it lost.
        deduplication_s: Seconds for which a message id is remembered; the same id is accepted once in that time.
        order: ``"strict"``: a message goes out when the one before is acknowledged or given up. ``"key"``: only
            messages with the same key wait for each other. ``"none"``: no message waits for another.
        prefetch: How many unacknowledged messages one socket may have in hand (with ``"strict"``, one in any case).
        prefetch_bytes: How many bytes of them; the message that reaches it is the last one.
        lease_s: Seconds a socket has to acknowledge. A heartbeat that it answers begins the lease anew.
        max_lease_s: Seconds after which heartbeats renew no lease any more: whoever needs longer says so
            (`Message.extend`, `Socket.extend_lease`). Else a client that forgot to acknowledge would block for ever.
        first_backoff_s: Seconds until a rejected message is delivered again; doubled with each further failure.
        max_backoff_s: The longest of these pauses, in seconds.
        backoff_jitter: By how much of itself each pause is made longer or shorter, by chance, from 0 to 1.
        max_failures: After so many failures (rejected, or not acknowledged in time by a client that is there) a
            message is a dead letter.
        max_deliveries: After so many failures and lost connections together a message is a dead letter.
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
    max_failures: Count = 5
    max_deliveries: Count = 20


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
    max_deliveries: int


def limits_of(options: QueueOptions) -> QueueLimits:
    """Return the limits that the store keeps to."""
    kept = QueueLimits(max_bytes=options.max_bytes, max_age_s=options.max_age_s, overflow=options.overflow)
    return kept if options.max_messages is None else replace(kept, max_messages=options.max_messages)


def with_settings(options: QueueOptions, **settings: Unpack[QueueSettings]) -> QueueOptions:
    """Return options with some of them changed.

    Raises:
        ConfigurationError: There is no option of that name, or one can't be what it is.
    """
    return replace(options, **settings)


def encode_settings(settings: QueueSettings) -> bytes:
    """Give a queue's own settings as bytes for the store."""
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
