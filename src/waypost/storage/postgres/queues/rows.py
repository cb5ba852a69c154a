"""Messages and states as PostgreSQL keeps them, and the records of the contract that are made of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgspec

from waypost.storage.postgres.driver import Row
from waypost.storage.postgres.queues.texts import from_store, to_store
from waypost.storage.queue_base import AT_ONCE
from waypost.storage.queue_records import (
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    FromPosition,
    FromTime,
    HistoryItem,
    Loss,
    MessageRow,
    Place,
    QueueLimits,
)

__all__ = [
    "attempt_values",
    "configuration_of",
    "configured_values",
    "consumer_row",
    "dead_letter",
    "encoded",
    "filter_values",
    "limits_values",
    "message_row",
    "message_sum",
    "place_values",
    "to_json",
]

_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> str:
    """Return a value as JSON text."""
    return _encoder.encode(value).decode()


def encoded(value: Any) -> msgspec.Raw:
    """Return a value as JSON that is a part of other JSON."""
    return msgspec.Raw(_encoder.encode(value))


def message_sum(message_id: str, key: str | None, headers: str | None, record: bytes) -> int:
    """Return the sum of a message. It does not change when the message is moved, so it is copied with it."""
    value = crc32(message_id.encode())
    if key is not None:
        value = crc32(key.encode(), value)
    if headers is not None:
        value = crc32(headers.encode(), value)
    return crc32(record, value)


def message_row(row: Iterable[Any]) -> MessageRow:
    """Return a message as it was read: its sum, then the fields of a `MessageRow`."""
    kept_sum, position, message_id, record, enqueued_at, key, expires_at, *attempts, headers = row
    content = position, from_store(message_id), record, enqueued_at, _optional(key), expires_at
    message = MessageRow._make([*content, *attempts, _optional(headers), False])
    if kept_sum in (None, -1, message_sum(message.id, message.key, message.headers, message.record)):
        return message
    return message._replace(damaged=True)


def consumer_row(values: Sequence[Any]) -> ConsumerRow:
    """Return a consumer's state as `consumer_row_1` gives it."""
    *counted, lost, paused_until, active_at = values
    loss = None if lost is None else Loss(*lost)
    pause = None if paused_until is None else float(paused_until)
    fields = (*counted, loss, pause, float(active_at))
    return ConsumerRow(*fields)


def attempt_values(attempt: Attempt) -> dict[str, object]:
    """Return an attempt as the outcomes of a queue have it."""
    item = [attempt.at, attempt.kind, to_store(attempt.reason)]
    if attempt.exception is not None:
        item.append(to_store(attempt.exception))
    return {
        "position": attempt.position,
        "failures": attempt.failures,
        "losses": attempt.losses,
        "retry_at": max(attempt.retry_at, AT_ONCE),
        "breaks": attempt.breaks,
        "breaks_since": attempt.breaks_since,
        "deaths": attempt.deaths,
        "item": item,
    }


def dead_letter(row: Row) -> DeadLetterRow:
    """Return a dead letter as it was read; its history is JSON text."""
    message_id, key, headers = from_store(row["id"]), _optional(row["key"]), _optional(row["headers"])
    kept_sum = message_sum(message_id, key, headers, row["record"])
    return DeadLetterRow(
        row["number"],
        row["consumer_name"],
        row["position"],
        message_id,
        row["record"],
        key,
        row["enqueued_at"],
        row["died_at"],
        from_store(row["reason"]),
        row["failures"],
        row["losses"],
        tuple([_item(*item) for item in msgspec.json.decode(row["history"] or "[]")]),
        headers,
        _optional(row["exception"]),
        damaged=row["sum"] not in (None, -1, kept_sum),
    )


def filter_values(matching: DeadLetterFilter) -> dict[str, object]:
    """Return a filter as `dead_letters_1` takes it: what is not there matches all."""
    values = {
        "consumer": matching.consumer,
        "numbers": None if matching.numbers is None else [*matching.numbers],
        "id": matching.id,
        "key": matching.key,
        "reason": matching.reason,
        "died_after": matching.died_after,
        "died_before": matching.died_before,
    }
    return {name: to_store(one) if isinstance(one, str) else one for name, one in values.items() if one is not None}


def place_values(place: Place) -> dict[str, object]:
    """Return a place as `consumer_place_1` takes it."""
    match place:
        case FromPosition(position):
            return {"position": position}
        case FromTime(time):
            return {"time": str(time)}
        case at:
            return {"at": at}


def limits_values(limits: QueueLimits) -> dict[str, object]:
    """Return limits as `queue_limits_1` takes them."""
    return {
        "max_messages": limits.max_messages,
        "max_bytes": limits.max_bytes,
        # As text: JSON has no infinity.
        "max_age_s": str(limits.max_age_s),
        "overflow": limits.overflow,
        "keep_settled_s": str(limits.keep_settled_s),
    }


def configured_values(limits: QueueLimits | None, settings: bytes) -> dict[str, object]:
    """Return a configuration as `queue_configure_1` takes it."""
    values = {} if limits is None else limits_values(limits)
    return {**values, "settings": base64.b64encode(settings).decode()}


def configuration_of(row: Row) -> Configuration:
    """Return a queue's configuration as its row has it."""
    limits = None
    if row["max_messages"] is not None:
        limits = QueueLimits(
            max_messages=row["max_messages"],
            max_bytes=row["max_bytes"],
            max_age_s=row["max_age_s"],
            overflow=row["overflow"],
            keep_settled_s=row["keep_settled_s"],
        )
    return Configuration(row["name"], limits, row["settings"])


def _item(at: float, kind: str, reason: str, exception: str | None = None) -> HistoryItem:
    return HistoryItem(float(at), kind, from_store(reason), _optional(exception))


def _optional(kept: str | None) -> str | None:
    return None if kept is None else from_store(kept)
