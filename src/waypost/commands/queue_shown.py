"""Queues, consumers, messages and dead letters for the command line: columns of tables, and JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar

import orjson

from waypost.commands.human import age, instant, size
from waypost.commands.output import Column
from waypost.protocol.headers import read_headers
from waypost.protocol.records import read_values
from waypost.server.queues.consumer import messages_behind
from waypost.storage.queue_records import ConsumerRow, DeadLetterRow, MessageRow, QueueRow
from waypost.text import printable

__all__ = [
    "consumer_columns",
    "consumer_json",
    "letter_columns",
    "letter_json",
    "message_columns",
    "message_json",
    "queue_columns",
    "queue_json",
]

_T = TypeVar("_T")
_Kept = TypeVar("_Kept", MessageRow, DeadLetterRow)
_NAME_CHARACTERS = 60
_KEY_CHARACTERS = 24
_REASON_CHARACTERS = 60
_ARGUMENTS_CHARACTERS = 60
_HEADERS_CHARACTERS = 60
_NOTHING = "-"


def queue_columns() -> list[Column[QueueRow]]:
    """Return the columns for a list of queues."""
    return [
        Column("QUEUE", lambda one: printable(one.name, _NAME_CHARACTERS)),
        _number("MESSAGES", lambda one: one.messages),
        _number("DELAYED", lambda one: one.delayed),
        Column("SIZE", lambda one: size(one.bytes), is_number=True),
        Column("OLDEST", lambda one: _since(one.oldest_at), is_number=True),
        _number("CONSUMERS", lambda one: one.consumers),
        _number("DEAD", lambda one: one.dead),
        Column("PAUSED", lambda one: _paused(one.paused_until)),
    ]


def queue_json(one: QueueRow) -> dict[str, Any]:
    """Return a queue's state as a JSON object with the names of `waypost.QueueInfo`."""
    return {
        "name": one.name,
        "messages": one.messages,
        "delayed": one.delayed,
        "bytes": one.bytes,
        "newest_offset": one.top,
        "oldest_at": instant(one.oldest_at),
        "consumers": one.consumers,
        "dead_letters": one.dead,
        "expired": one.expired,
        "dropped": one.dropped,
        "paused_until": instant(_still(one.paused_until)),
    }


def consumer_columns() -> list[Column[ConsumerRow]]:
    """Return the columns for a list of consumers."""
    return [
        Column("CONSUMER", lambda one: printable(one.name, _NAME_CHARACTERS)),
        _number("OFFSET", lambda one: one.cursor),
        _number("WAITING", lambda one: one.waiting),
        _number("BEHIND", messages_behind),
        _number("RETRYING", lambda one: one.retrying),
        _number("DEAD", lambda one: one.dead),
        _number("LOST", lambda one: one.lost.messages if one.lost else 0),
        _number("ACKNOWLEDGED", lambda one: one.settled),
        _number("REDELIVERED", lambda one: one.redelivered),
        Column("USED", lambda one: _since(one.active_at), is_number=True),
        Column("PAUSED", lambda one: _paused(one.paused_until)),
    ]


def consumer_json(one: ConsumerRow) -> dict[str, Any]:
    """Return a consumer's state as a JSON object with the names of `waypost.ConsumerInfo`."""
    return {
        "name": one.name,
        "offset": one.cursor,
        "waiting": one.waiting,
        "behind": messages_behind(one),
        "retrying": one.retrying,
        "acknowledged": one.settled,
        "failed": one.failed,
        "redelivered": one.redelivered,
        "dead_letters": one.dead,
        "lost": one.lost.messages if one.lost else 0,
        "paused_until": instant(_still(one.paused_until)),
        "active_at": instant(one.active_at),
    }


def message_columns(messages: Sequence[MessageRow], *, of_consumer: bool) -> list[Column[MessageRow]]:
    """Return the columns for a list of messages.

    Args:
        messages: The messages; if one has headers, there is a column for them.
        of_consumer: Whether the messages belong to one consumer; adds the columns with its attempts.
    """
    tried: list[Column[MessageRow]] = [
        _number("FAILED", lambda one: one.failures),
        _number("LOST", lambda one: one.losses),
        Column("AGAIN", lambda one: _until(one.retry_at), is_number=True),
    ]
    return [
        Column("OFFSET", lambda one: str(one.position), is_number=True),
        Column("AGE", lambda one: _since(one.enqueued_at), is_number=True),
        *(tried if of_consumer else ()),
        Column("ID", lambda one: printable(one.id, _NAME_CHARACTERS)),
        Column("KEY", lambda one: printable(one.key or _NOTHING, _KEY_CHARACTERS)),
        Column("EVENT", lambda one: _event(one.record)),
        Column("ARGUMENTS", lambda one: _arguments(one.record)),
        *_headers_column(messages),
    ]


def message_json(one: MessageRow, *, of_consumer: bool) -> dict[str, Any]:
    """Return a message as a JSON object with the names of `waypost.QueuedMessage`.

    Args:
        one: The message.
        of_consumer: Whether the message belongs to one consumer; adds its attempts.
    """
    event, *args = read_values(one.record)
    tried = {"failures": one.failures, "lost_deliveries": one.losses, "retry_at": instant(one.retry_at or None)}
    return {
        "offset": one.position,
        "id": one.id,
        "key": one.key,
        "enqueued_at": instant(one.enqueued_at),
        "expires_at": instant(one.expires_at),
        **(tried if of_consumer else {}),
        "event": event,
        "args": args,
        "headers": read_headers(one.headers),
    }


def letter_columns(letters: Sequence[DeadLetterRow]) -> list[Column[DeadLetterRow]]:
    """Return the columns for a list of dead letters; if one has headers, there is a column for them."""
    return [
        Column("NUMBER", lambda one: str(one.number), is_number=True),
        Column("DIED", lambda one: _since(one.died_at), is_number=True),
        Column("CONSUMER", lambda one: printable(one.consumer, _KEY_CHARACTERS)),
        _number("FAILED", lambda one: one.failures),
        _number("LOST", lambda one: one.losses),
        Column("REASON", lambda one: printable(one.reason, _REASON_CHARACTERS)),
        Column("ID", lambda one: printable(one.id, _NAME_CHARACTERS)),
        Column("EVENT", lambda one: _event(one.record)),
        Column("ARGUMENTS", lambda one: _arguments(one.record)),
        *_headers_column(letters),
    ]


def letter_json(one: DeadLetterRow) -> dict[str, Any]:
    """Return a dead letter as a JSON object with the names of `waypost.DeadLetter`."""
    event, *args = read_values(one.record)
    return {
        "number": one.number,
        "consumer": one.consumer,
        "offset": one.position,
        "id": one.id,
        "key": one.key,
        "enqueued_at": instant(one.enqueued_at),
        "died_at": instant(one.died_at),
        "reason": one.reason,
        "exception": one.exception,
        "failures": one.failures,
        "lost_deliveries": one.losses,
        "history": [
            {"at": instant(item.at), "kind": item.kind, "reason": item.reason, "exception": item.exception}
            for item in one.history
        ],
        "event": event,
        "args": args,
        "headers": read_headers(one.headers),
    }


def _headers_column(rows: Sequence[_Kept]) -> list[Column[_Kept]]:
    if all(one.headers is None for one in rows):
        return []
    return [Column("HEADERS", lambda one: _headers(one.headers))]


def _headers(stored: str | None) -> str:
    pairs = [f"{name}={value}" for name, value in read_headers(stored).items()]
    return printable(", ".join(pairs) or _NOTHING, _HEADERS_CHARACTERS)


def _number(title: str, number: Callable[[_T], int]) -> Column[_T]:
    return Column(title, lambda one: f"{number(one):,}", is_number=True)


def _since(at: float | None) -> str:
    return _NOTHING if at is None else age(time.time() - at)


def _until(at: float) -> str:
    left = at - time.time()
    return f"in {age(left)}" if left > 0 else _NOTHING


def _paused(until: float | None) -> str:
    still = _still(until)
    if still is None:
        return _NOTHING
    return "until resumed" if still == inf else f"for {age(still - time.time())}"


def _still(until: float | None) -> float | None:
    return until if until is not None and until > time.time() else None


def _event(record: bytes) -> str:
    return printable(read_values(record)[0], _KEY_CHARACTERS)


def _arguments(record: bytes) -> str:
    shown = [orjson.dumps(one, default=_in_short, option=orjson.OPT_NON_STR_KEYS) for one in read_values(record)[1:]]
    return printable(b", ".join(shown).decode(), _ARGUMENTS_CHARACTERS)


def _in_short(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)
