"""Queues over HTTP: messages in, looks, and administration."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from waypost.errors import StorageError
from waypost.operations.http.api_keys import check_name, check_prefix
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Answer, json_answer
from waypost.operations.http_api.answers import (
    Discarded,
    Done,
    LetterList,
    MessageList,
    Published,
    Purged,
    QueueDetails,
    QueueList,
    QueueNumbers,
    Redriven,
)
from waypost.operations.http_api.bodies import (
    Consumers,
    Letters,
    LettersOf,
    LettersPage,
    NumberedPage,
    Page,
    Pause,
    Publish,
    Purge,
    Seek,
)
from waypost.operations.http_api.calls import Call, Caller
from waypost.operations.http_api.failures import problems
from waypost.operations.http_api.repeats import Subject
from waypost.server.queues.consumer import Consumer
from waypost.server.queues.message import Receipt, Start
from waypost.server.queues.queue import Queue
from waypost.storage.queue_records import DeadLetterFilter

__all__ = [
    "dead_letters",
    "discard",
    "messages",
    "pause",
    "publish",
    "publish_message",
    "purge",
    "queue",
    "queues",
    "redrive",
    "resume",
    "seek",
]


_SURROGATES: Final = (0xD800, 0xDFFF)


async def publish(call: Call) -> Answer:
    """Put a message into a queue."""
    queue = call.names["queue"]
    check_name(call.caller.key, "queue", queue)
    body = await call.body(Publish)
    published = await publish_message(call.caller, queue, replace(body, id=call.id_for(body.id)))
    return json_answer(published, 200 if published.duplicate else 201)


async def publish_message(caller: Caller, queue_name: str, body: Publish) -> Published:
    """Put a message into a queue; see `waypost.Queue.emit`."""
    queue = caller.queue(queue_name)
    with problems(is_repeatable=body.id is not None):
        receipt = await queue.emit(
            body.event,
            *body.args,
            id=body.id,
            key=body.key,
            ttl_s=body.ttl_s,
            delay_s=body.delay_s,
            headers=body.headers,
        )
        if body.id is not None:
            await _compare(caller, queue, receipt, replace(body, id=None))
    return Published(*receipt)


async def _compare(caller: Caller, queue: Queue, receipt: Receipt, body: Publish) -> None:
    """Refuse a repeat that has another body than the message of its id."""
    subject = Subject("publish", queue.name, receipt.id)
    if receipt.duplicate:
        await caller.inside.repeats.check(subject, body)
    else:
        await caller.inside.repeats.note(subject, body, queue.options.deduplication_s)


async def queues(call: Call) -> Answer:
    """List queues by name."""
    page, key = call.query(Page), call.caller.key
    # Otherwise a page could have nothing in it for this key, and yet not be the last one.
    if page.prefix:
        check_prefix(key, page.prefix)
    else:
        check_name(key, "queue", None)
    after = max(page.after, _before(page.prefix), key=lambda name: name.encode("utf-8", "surrogatepass"))
    with problems():
        found = await call.caller.service.queue_infos(after=after, limit=page.limit)
    listed = [QueueNumbers.of(one) for one in found if one.name.startswith(page.prefix)]
    return json_answer(QueueList(listed))


async def queue(call: Call) -> Answer:
    """Return a queue's numbers, and those of its first 100 consumers."""
    queue = call.queue()
    with problems():
        info = await queue.info()
        consumers = await queue.consumers()
    return json_answer(QueueDetails(QueueNumbers.of(info), consumers))


async def messages(call: Call) -> Answer:
    """List messages that a queue keeps, by offset."""
    queue = call.queue()
    page = call.query(NumberedPage)
    with problems():
        found = await queue.peek(after=page.after, limit=page.limit)
    return json_answer(MessageList(found))


async def dead_letters(call: Call) -> Answer:
    """List dead letters, the oldest first."""
    queue = call.queue()
    page = call.query(LettersPage)
    with problems():
        chosen = DeadLetterFilter(consumer=page.consumer)
        found = await queue.dead_letters(chosen, after=page.after, limit=page.limit)
    return json_answer(LetterList(found))


async def discard(call: Call) -> Answer:
    """Delete dead letters."""
    queue = call.queue()
    consumer = call.query(LettersOf).consumer
    with problems(is_repeatable=True):
        count = await queue.discard_dead_letters(DeadLetterFilter(consumer=consumer))
    return json_answer(Discarded(count))


async def redrive(call: Call) -> Answer:
    """Turn dead letters into messages again."""
    queue = call.queue()
    body = await call.body(Letters)
    with problems():
        chosen = DeadLetterFilter(consumer=body.consumer, numbers=body.numbers)
        count = await queue.redrive(chosen, rate_per_s=body.rate_per_s)
    return json_answer(Redriven(count))


async def purge(call: Call) -> Answer:
    """Remove messages."""
    queue = call.queue()
    body = await call.body(Purge)
    with problems(is_repeatable=True):
        count = await queue.purge(upto=body.upto)
    return json_answer(Purged(count))


async def pause(call: Call) -> Answer:
    """Stop deliveries to all consumers of a queue, or to one."""
    queue = call.queue()
    body = await call.body(Pause)
    with problems(is_repeatable=True):
        await (await _part(queue, body.consumer)).pause(until=body.until)
    return json_answer(Done())


async def resume(call: Call) -> Answer:
    """End a pause."""
    queue = call.queue()
    body = await call.body(Consumers)
    with problems(is_repeatable=True):
        await (await _part(queue, body.consumer)).resume()
    return json_answer(Done())


async def seek(call: Call) -> Answer:
    """Move a consumer to another place in its queue."""
    queue = call.queue()
    body = await call.body(Seek)
    with problems(is_repeatable=True):
        await (await _consumer(queue, body.consumer)).seek(_place(body.to))
    return json_answer(Done())


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
        expected = '"oldest", "new", an offset, or a time with its zone'
        raise Problem(422, "bad_value", detail, argument="to", expected=expected) from error


def _before(prefix: str) -> str:
    """Return a name that comes before all names with a prefix, and after nearly all others that do."""
    if not prefix or prefix[-1] == "\0":
        return prefix[:-1]
    last = ord(prefix[-1]) - 1
    if _SURROGATES[0] <= last <= _SURROGATES[1]:
        last = _SURROGATES[0] - 1
    return f"{prefix[:-1]}{chr(last)}\U0010ffff"
