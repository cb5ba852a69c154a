"""Queues over HTTP: messages in, looks, and administration."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from waypost.errors import StorageError
from waypost.operations.http.api_keys import check_name
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Answer, json_answer
from waypost.operations.http_api.bodies import (
    Consumers,
    Letters,
    NumberedPage,
    Page,
    Pause,
    Publish,
    Purge,
    Seek,
)
from waypost.operations.http_api.calls import Call
from waypost.operations.http_api.failures import problems
from waypost.server.queues.consumer import Consumer
from waypost.server.queues.message import Start
from waypost.server.queues.queue import Queue
from waypost.server.queues.queue_info import QueueInfo
from waypost.storage.queue_records import DeadLetterFilter

__all__ = [
    "dead_letters",
    "discard",
    "messages",
    "pause",
    "publish",
    "purge",
    "queue",
    "queues",
    "redrive",
    "resume",
    "seek",
]


async def publish(call: Call) -> Answer:
    """Put a message into a queue; see `waypost.Queue.emit`."""
    queue = call.queue()
    body = await call.body(Publish)
    given = call.request.headers.get("idempotency-key")
    if given is not None and body.id is not None and given != body.id:
        detail = "expected one id: the Idempotency-Key is the message's id, and the body has another; leave one out"
        raise Problem(422, "two_ids", detail)
    message_id = given if given is not None else body.id
    with problems(is_repeatable=message_id is not None):
        receipt = await queue.emit(
            body.event,
            *body.args,
            id=message_id,
            key=body.key,
            ttl_s=body.ttl_s,
            delay_s=body.delay_s,
            headers=body.headers,
        )
    return json_answer(receipt._asdict(), 200 if receipt.duplicate else 201)


async def queues(call: Call) -> Answer:
    """List queues by name."""
    page = call.query(Page)
    # Otherwise a page could have nothing in it for this key, and yet not be the last one.
    check_name(call.key, "queue", None)
    with problems():
        found = await call.service.queue_infos(after=page.after, limit=page.limit)
    return json_answer({"queues": [_queue(one) for one in found]})


async def queue(call: Call) -> Answer:
    """Return a queue's numbers, and those of its first 100 consumers."""
    queue = call.queue()
    with problems():
        info = await queue.info()
        consumers = await queue.consumers()
    return json_answer({**_queue(info), "consumers": [_fields(one) for one in consumers]})


async def messages(call: Call) -> Answer:
    """List messages that a queue keeps, by offset."""
    queue = call.queue()
    page = call.query(NumberedPage)
    with problems():
        found = await queue.peek(after=page.after, limit=page.limit)
    return json_answer({"messages": [_fields(one) for one in found]})


async def dead_letters(call: Call) -> Answer:
    """List dead letters, the oldest first."""
    queue = call.queue()
    page = call.query(NumberedPage)
    with problems():
        chosen = DeadLetterFilter(consumer=page.consumer)
        found = await queue.dead_letters(chosen, after=page.after, limit=page.limit)
    return json_answer({"dead_letters": [_fields(one) for one in found]})


async def discard(call: Call) -> Answer:
    """Delete dead letters."""
    queue = call.queue()
    consumer = call.query(NumberedPage).consumer
    with problems(is_repeatable=True):
        count = await queue.discard_dead_letters(DeadLetterFilter(consumer=consumer))
    return json_answer({"discarded": count})


async def redrive(call: Call) -> Answer:
    """Turn dead letters into messages again."""
    queue = call.queue()
    body = await call.body(Letters)
    with problems():
        chosen = DeadLetterFilter(consumer=body.consumer, numbers=body.numbers)
        count = await queue.redrive(chosen, rate_per_s=body.rate_per_s)
    return json_answer({"redriven": count})


async def purge(call: Call) -> Answer:
    """Remove messages."""
    queue = call.queue()
    body = await call.body(Purge)
    with problems(is_repeatable=True):
        count = await queue.purge(upto=body.upto)
    return json_answer({"purged": count})


async def pause(call: Call) -> Answer:
    """Stop deliveries to all consumers of a queue, or to one."""
    queue = call.queue()
    body = await call.body(Pause)
    with problems(is_repeatable=True):
        await (await _part(queue, body.consumer)).pause(until=body.until)
    return json_answer({})


async def resume(call: Call) -> Answer:
    """End a pause."""
    queue = call.queue()
    body = await call.body(Consumers)
    with problems(is_repeatable=True):
        await (await _part(queue, body.consumer)).resume()
    return json_answer({})


async def seek(call: Call) -> Answer:
    """Move a consumer to another place in its queue."""
    queue = call.queue()
    body = await call.body(Seek)
    with problems(is_repeatable=True):
        await (await _consumer(queue, body.consumer)).seek(_place(body.to))
    return json_answer({})


async def _part(queue: Queue, consumer: str | None) -> Queue | Consumer:
    return queue if consumer is None else await _consumer(queue, consumer)


async def _consumer(queue: Queue, name: str) -> Consumer:
    consumer = queue.get_consumer(name)
    try:
        await consumer.info()
    except StorageError:
        await queue.info()  # raises if it was the store that failed
        detail = "expected a consumer of this queue, and it has none of that name; GET /queues/NAME lists them"
        raise Problem(404, "unknown_consumer", detail) from None
    return consumer


def _place(to: str | int) -> Start:
    if to == "oldest" or to == "new" or isinstance(to, int):
        return to  # type: ignore[return-value]  # mypy does not narrow a str by its comparison
    try:
        return msgspec.convert(to, datetime)
    except msgspec.ValidationError as error:
        detail = 'expected "oldest", "new", an offset, or a time with its zone as in RFC 3339; correct `to`'
        raise Problem(422, "bad_value", detail, argument="to") from error


def _queue(info: QueueInfo) -> dict[str, Any]:
    return info._asdict()


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}
