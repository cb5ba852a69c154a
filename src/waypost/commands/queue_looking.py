"""``waypost queue ls``, ``info``, ``peek`` and ``dead``: the commands that only read a store."""

from __future__ import annotations

import argparse
import fnmatch
import json

from waypost.commands.human import age, instant, size
from waypost.commands.output import print_json, print_table
from waypost.commands.queue_letters import filter_of, pages
from waypost.commands.queue_shown import (
    consumer_columns,
    consumer_json,
    letter_columns,
    letter_json,
    message_columns,
    message_json,
    queue_columns,
    queue_json,
)
from waypost.commands.queue_visit import existing
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, ConsumerRow, DeadLetterRow, MessageRow, QueueRow
from waypost.storage.visiting import Visitor
from waypost.storage.wall_times import (
    consumer_on_wall,
    filter_from_wall,
    letter_on_wall,
    message_on_wall,
    queue_on_wall,
)
from waypost.text import printable

__all__ = ["dead", "info", "ls", "peek"]

_PAGE = 1000
_ID_CHARACTERS = 60
_PAGE_BYTES = 8 << 20


async def ls(visitor: Visitor, options: argparse.Namespace) -> int:
    """List the queues."""
    found: list[QueueRow] = []
    after = ""
    while page := await visitor.queues(after=after, max_queues=_PAGE):
        after = page[-1].name
        found += [
            queue_on_wall(visitor.clock, one)
            for one in page
            if options.match is None or fnmatch.fnmatchcase(one.name, options.match)
        ]
    if options.json:
        print_json([queue_json(one) for one in found])
    else:
        print_table(queue_columns(), found)
    return 0


async def info(visitor: Visitor, options: argparse.Namespace) -> int:
    """Show a queue and its consumers."""
    found = queue_on_wall(visitor.clock, await existing(visitor, options))
    queue = visitor.queue(options.queue)
    configuration = await queue.configuration()
    consumers: list[ConsumerRow] = []
    after = ""
    while page := await queue.consumers(after=after, max_consumers=_PAGE):
        after = page[-1].name
        consumers += [consumer_on_wall(visitor.clock, one) for one in page]
    if options.json:
        listed = [consumer_json(one) for one in consumers]
        print_json({**queue_json(found), "options": _own_options(configuration), "consumers": listed})
        return 0
    print_table(queue_columns(), [found])
    print(f"{found.top:,} in all, {found.expired:,} expired, {found.dropped:,} dropped by its limits")
    if configuration.settings:
        own = _own_options(configuration)
        print(f"own options: {', '.join(f'{name}={value}' for name, value in own.items())}")
    if consumers:
        print()
        print_table(consumer_columns(), consumers)
    return 0


async def peek(visitor: Visitor, options: argparse.Namespace) -> int:
    """Show messages without delivering them."""
    await existing(visitor, options)
    # One message over the limit tells whether there are more.
    found = await _messages(visitor.queue(options.queue), options, options.limit + 1)
    shown = [message_on_wall(visitor.clock, one) for one in found[: options.limit]]
    of_consumer = options.consumer is not None
    if options.json:
        print_json([message_json(one, of_consumer=of_consumer) for one in shown])
        return 0
    print_table(message_columns(shown, of_consumer=of_consumer), shown)
    if len(found) > len(shown):
        print(f"more: --after {shown[-1].position}")
    return 0


async def dead(visitor: Visitor, options: argparse.Namespace) -> int:
    """Show dead letters."""
    await existing(visitor, options)
    found: list[DeadLetterRow] = []
    chosen = filter_from_wall(visitor.clock, filter_of(options))
    letters = pages(visitor.queue(options.queue), chosen, options.event, after=options.after)
    async for page in letters:
        found += page
        if len(found) > options.limit:
            break
    shown = [letter_on_wall(visitor.clock, one) for one in found[: options.limit]]
    if options.json:
        print_json([letter_json(one) for one in shown])
        return 0
    print_table(letter_columns(shown), shown)
    for one in shown if options.history else ():
        id_shown = printable(one.id, _ID_CHARACTERS)
        print(f"\n{one.number}: message {id_shown} of {instant(one.enqueued_at)}, {size(len(one.record))}")
        for item in one.history:
            print(f"  {age(item.at - one.enqueued_at)} later {item.kind}: {printable(item.reason, 200)}")
    if len(found) > len(shown):
        print(f"more: --after {shown[-1].number}")
    return 0


async def _messages(queue: StoredQueue, options: argparse.Namespace, most: int) -> list[MessageRow]:
    found: list[MessageRow] = []
    after = options.after
    while len(found) < most:
        left = most - len(found)
        if options.consumer is None:
            page = await queue.peek(after=after, max_messages=left, max_bytes=_PAGE_BYTES)
        else:
            page = await queue.fetch(options.consumer, after=after, max_messages=left, max_bytes=_PAGE_BYTES)
        if not page:
            break
        found += page
        after = page[-1].position
    return found


def _own_options(configuration: Configuration) -> dict[str, object]:
    own: dict[str, object] = json.loads(configuration.settings or b"{}")
    return own
