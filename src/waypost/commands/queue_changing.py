"""``waypost queue redrive``, ``purge``, ``cancel``, ``seek``, ``pause`` and ``resume``: they change a store."""

from __future__ import annotations

import argparse
import sys
import time
from math import inf

from waypost.commands.asking import ask
from waypost.commands.human import age, instant
from waypost.commands.output import Progress, tell, waiting
from waypost.commands.queue_letters import filter_of, has_filter, only, pages
from waypost.commands.queue_visit import existing
from waypost.storage.queue_records import QueueRow
from waypost.storage.visiting import Visitor
from waypost.storage.wall_times import filter_from_wall, place_from_wall

__all__ = ["cancel", "pause", "purge", "redrive", "resume", "seek"]


async def redrive(visitor: Visitor, options: argparse.Namespace) -> int:
    """Turn dead letters into messages again."""
    found = await existing(visitor, options)
    queue = visitor.queue(options.queue)
    spacing_s = 0.0 if options.rate is None else 1 / options.rate
    first_at = visitor.clock.now()
    redriven = 0
    with Progress("redriving", None if has_filter(options) else found.dead) as progress:
        chosen = filter_from_wall(visitor.clock, filter_of(options))
        async for letters in pages(queue, chosen, options.event):
            done = await queue.redrive(
                only(letters),
                after=0,
                max_letters=len(letters),
                spacing_s=spacing_s,
                first_at=first_at + redriven * spacing_s,
            )
            redriven += done.letters
            progress.advance(done.letters)
    last_at = first_at + max(0, redriven - 1) * spacing_s
    told = f"{redriven:,} dead letters of queue {options.queue} are messages again"
    if spacing_s and redriven:
        told += f"; the last one is due in {age(last_at - visitor.clock.now())}"
    tell(
        options,
        told,
        {"queue": options.queue, "redriven": redriven, "last_due_at": instant(visitor.clock.to_wall(last_at))},
    )
    return 0


async def purge(visitor: Visitor, options: argparse.Namespace) -> int:
    """Remove messages or dead letters."""
    found = await existing(visitor, options)
    queue = visitor.queue(options.queue)
    if not options.dead and has_filter(options):
        return _refuse("messages are purged up to an offset; filters are for dead letters: add --dead")
    if options.dead and options.upto is not None:
        return _refuse("dead letters have no offset to be purged up to: leave --upto or --dead out")
    if options.dead:
        which = "the dead letters that match" if has_filter(options) else f"all {found.dead:,} dead letters"
    elif options.upto is None:
        which = f"all {found.messages + found.delayed:,} messages"
    else:
        which = f"the messages up to offset {options.upto}"
    if code := ask(f"remove {which} of queue {options.queue}", yes=options.yes):
        return code
    removed = await (
        _purge_dead(visitor, found, options)
        if options.dead
        else waiting("removing messages", queue.purge(upto=options.upto))
    )
    what = "dead letters" if options.dead else "messages"
    told = f"{removed:,} {what} of queue {options.queue} are gone"
    tell(options, told, {"queue": options.queue, "removed": removed, "what": what})
    return 0


async def cancel(visitor: Visitor, options: argparse.Namespace) -> int:
    """Remove a message that is not due yet."""
    await existing(visitor, options)
    removed = await visitor.queue(options.queue).cancel(options.id)
    if not removed:
        return _refuse(f"no message {options.id} of queue {options.queue} waits for its time")
    told = f"message {options.id} of queue {options.queue} is gone"
    tell(options, told, {"queue": options.queue, "id": options.id, "removed": removed})
    return 0


async def seek(visitor: Visitor, options: argparse.Namespace) -> int:
    """Move a consumer to another place in its queue."""
    await existing(visitor, options)
    queue = visitor.queue(options.queue)
    before = await queue.consumer(options.consumer)
    question = f"move consumer {options.consumer} of queue {options.queue}, where {before.waiting:,} messages wait"
    if code := ask(question, yes=options.yes):
        return code
    place = place_from_wall(visitor.clock, options.place)
    after = await waiting("moving the consumer", queue.seek(options.consumer, place))
    told = (
        f"consumer {options.consumer} of queue {options.queue} stands at offset {after.cursor} now; "
        f"{after.waiting:,} messages wait for it"
    )
    moved = {"offset": after.cursor, "waiting": after.waiting}
    tell(options, told, {"queue": options.queue, "consumer": options.consumer, **moved})
    return 0


async def pause(visitor: Visitor, options: argparse.Namespace) -> int:
    """Pause a queue or a consumer."""
    until = inf
    if options.duration is not None:
        until = time.time() + options.duration
    elif options.until is not None:
        until = options.until
    lasting = "until it is resumed" if until == inf else f"for {age(until - time.time())}"
    return await _pause(visitor, options, until, f"paused {lasting}")


async def resume(visitor: Visitor, options: argparse.Namespace) -> int:
    """End the pause of a queue or a consumer."""
    return await _pause(visitor, options, time.time(), "not paused any more")


async def _pause(visitor: Visitor, options: argparse.Namespace, until: float, state: str) -> int:
    found = await existing(visitor, options)
    queue = visitor.queue(options.queue)
    await queue.pause(options.consumer, until=until)
    told = f"queue {options.queue} is {state}"
    if options.consumer is not None:
        told = f"consumer {options.consumer} of {told}"
    elif found.paused_until is None and until <= time.time():
        told = f"queue {options.queue} was not paused"
    paused_until = instant(until) if until > time.time() else None
    tell(options, told, {"queue": options.queue, "consumer": options.consumer, "paused_until": paused_until})
    return 0


async def _purge_dead(visitor: Visitor, found: QueueRow, options: argparse.Namespace) -> int:
    removed = 0
    queue, chosen = visitor.queue(options.queue), filter_from_wall(visitor.clock, filter_of(options))
    with Progress("removing", None if has_filter(options) else found.dead) as progress:
        async for letters in pages(queue, chosen, options.event):
            part = await queue.discard_dead(only(letters), max_letters=len(letters))
            removed += part
            progress.advance(part)
    return removed


def _refuse(why: str) -> int:
    print(f"waypost: {why}", file=sys.stderr)
    return 2
