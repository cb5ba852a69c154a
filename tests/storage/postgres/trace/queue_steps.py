"""The table of steps: statements for queues."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from tests.storage.postgres.trace.engine import FENCED, Engine
from tests.storage.postgres.trace.known import Known
from tests.storage.postgres.trace.queues import Answer, Full, Messages, Queue, Request, Unknown, new_queue
from tests.storage.postgres.trace.recorder import Refused
from waypost.storage.postgres.queues.rows import consumer_row, dead_letter, message_row
from waypost.storage.queue_records import (
    ConsumerRow,
    DeadLetterFilter,
    NewMessageRow,
    QueueLimits,
    QueueRow,
    Retries,
)

__all__ = ["QUEUE_STEPS"]

_NO_CONSUMER: Final = "WP005"


def _limits(defaults: str) -> QueueLimits:
    told = json.loads(defaults)
    return QueueLimits(**told | {name: float(told[name]) for name in ("max_age_s", "keep_settled_s")})


def _writing(
    engine: Engine, name: str, mark: tuple[int, int], limits: QueueLimits | None, *, makes: bool
) -> Queue | None:
    engine.check(*mark)
    queue = engine.queues.get(name)
    if queue is None and makes:
        queue = engine.queues[name] = new_queue(name, limits or QueueLimits())
    engine.touched.add(("queue", name))
    if queue is None:
        return None
    if queue.written.get(mark[0], 0) > mark[1]:
        raise Refused(FENCED)
    queue.written[mark[0]] = mark[1]
    if limits is not None:
        queue.model.limits = limits
    return queue


# -- hot writes ----------------------------------------------------------------------------------------------------


def _requests(arguments: tuple[Any, ...]) -> list[Request]:
    bounds, _, windows, ids, records, keys, ttls, delays, headers, _ = arguments
    if bounds is None:
        return []
    columns = zip(ids, records, keys, ttls, delays or [0.0] * len(ids), headers, strict=True)
    messages = [NewMessageRow(*one) for one in columns]
    return [
        Request(messages[first - 1 : behind - 1], windows[first - 1] if windows else 0.0)
        for first, behind in pairwise(bounds)
    ]


def _write(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, node, incarnation, batch, defaults, outcomes, *messages = arguments
    requests, now = _requests(tuple(messages)), engine.moment.now
    is_new = name not in engine.queues
    queue = _writing(engine, name, (node, incarnation), _limits(defaults), makes=bool(requests))
    states: list[ConsumerRow | Unknown] = []
    for one in json.loads(outcomes):
        consumer = one["consumer"]
        owner, _fence = engine.owners.get((name, consumer), (None, 0))
        states.append(Unknown(consumer) if queue is None else queue.end(consumer, one, owner in (None, node), now))
    answer = Answer(now, states, [] if queue is None else [queue.enqueue(one, now) for one in requests])
    if is_new and queue is not None and not queue.model.top and not queue.model.delayed:
        # It was made for messages that were all refused.
        del engine.queues[name]
    engine.marks[node, incarnation, batch] = answer
    return answer


def _state(told: Any) -> ConsumerRow | Unknown:
    return Unknown(told["unknown"]) if isinstance(told, dict) else consumer_row(told)


def _result(told: Any) -> Messages | Full:
    if "full" in told:
        return Full(*told["full"])
    return Messages(told["positions"], told["duplicates"], told["losers"], told["due"])


def _alike(expected: Any, came: Any) -> bool:
    """Whether states are the same; of a generation that has just begun nobody knows the name."""
    return len(expected) == len(came) and all(map(_is_like, expected, came))


def _is_like(expected: Any, came: Any) -> bool:
    if getattr(expected, "generation", None) == "":
        came = replace(came, generation="") if isinstance(came, ConsumerRow) else came._replace(generation="")
    return bool(expected == came)


def _agree_on_info(expected: Any, came: Any) -> bool:
    return _alike(expected, came) if isinstance(expected, list) and isinstance(came, list) else bool(expected == came)


def _agree_on_write(expected: Answer, came: dict[str, Any]) -> bool:
    if expected.now != came["now"] or not _alike(expected.outcomes, [*map(_state, came["outcomes"])]):
        return False
    if came["first"] is None:
        return expected.results == [*map(_result, came["results"])]
    positions: list[int] = []
    for one in expected.results:
        if isinstance(one, Full) or any(one.duplicates) or one.losers or one.due is not None:
            return False
        positions += one.positions
    return positions == [*range(came["first"], came["first"] + len(positions))]


# -- rare writes ---------------------------------------------------------------------------------------------------


def _changes(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    name, node, incarnation, batch, defaults, changes = arguments
    told = json.loads(changes)
    makes = any(operation == "add_consumer" for operation, _ in told)
    queue = _writing(engine, name, (node, incarnation), _limits(defaults), makes=makes)
    if queue is None:
        # No walk changes a queue before it is there: it looks at a moment before that.
        return []
    results: list[Any] = []
    for number, (operation, values) in enumerate(told):
        result = queue.change(operation, values, engine.moment.now)
        if isinstance(result, ConsumerRow) and came is not None and "result" in came[number]:
            queue.learn(result.name, consumer_row(came[number]["result"]))
            result = queue.consumer(result.name)
        results.append(result)
    engine.marks[node, incarnation, batch] = results
    return results


def _agree_on_change(expected: Any, came: dict[str, Any]) -> bool:
    match expected:
        case Unknown(name):
            return came == {"unknown": name}
        case ConsumerRow():
            return "result" in came and _alike([expected], [consumer_row(came["result"])])
        case (letters, next_due_at):
            return "result" in came and [letters, next_due_at] == [came["result"][0], came["result"][3]]
    return came == {"result": expected}


# -- both ----------------------------------------------------------------------------------------------------------


def _settle(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, node, incarnation, batch, by_incarnation, by_batch = arguments
    _writing(engine, name, (node, by_incarnation), None, makes=False)
    engine.marks[node, by_incarnation, by_batch] = None
    return engine.marks.get((node, incarnation, batch))


def _told(answer: Any) -> Any:
    return None if answer is None else json.loads(answer)


def _agree(expected: Any, came: Any) -> bool:
    if expected is None or came is None:
        return expected is came
    if isinstance(expected, Answer):
        return isinstance(came, dict) and _agree_on_write(expected, came)
    return isinstance(came, list) and len(came) == len(expected) and all(map(_agree_on_change, expected, came))


# -- upkeep, and what is in hand -----------------------------------------------------------------------------------


def _due(engine: Engine, number: int) -> Queue:
    name = engine.queue_names[number]
    engine.touched.add(("queue", name))
    return engine.queues[name]


def _trim(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    number, kind, defaults, _since = arguments
    queue = _due(engine, number)
    queue.model.limits = _limits(defaults)
    return queue.trim(kind, engine.moment.now)


def _hold(engine: Engine, arguments: tuple[Any, ...], _: Any) -> None:
    node, incarnation, numbers, queues, consumers, positions, gone = arguments
    engine.check(node, incarnation)
    for number in gone:
        engine.holding.pop((node, number), None)
    for number, name, consumer, position in zip(numbers, queues, consumers, positions, strict=True):
        queue = engine.queues.get(name)
        if queue is not None and consumer in queue.model.consumers:
            engine.holding[node, number] = name, consumer, queue.epoch[consumer], position


# -- reads ---------------------------------------------------------------------------------------------------------


def _reading(engine: Engine, name: str, consumer: str) -> Queue:
    queue = engine.queues.get(name)
    if queue is None or consumer not in queue.model.consumers:
        raise Refused(_NO_CONSUMER)
    return queue


def _messages(answer: Any) -> Any:
    return [*map(message_row, answer)]


def _fetch(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, consumer, after, most, size = arguments
    return _reading(engine, name, consumer).fetch(consumer, after, most, size, engine.moment.now)


def _fetch_key(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, consumer, key, after, upto, most, size = arguments
    queue = _reading(engine, name, consumer)
    return queue.fetch_key(consumer, key, after, upto, most, size, engine.moment.now)


def _fetch_retries(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, consumer, upto, held, most, size = arguments
    return _reading(engine, name, consumer).fetch_retries(consumer, upto, held, most, size, engine.moment.now)


def _retries(answer: Any) -> Any:
    rows = [*answer]
    messages = tuple(message_row([*row][1:]) for row in rows if row["position"] is not None)
    return Retries(messages, rows[-1][0] if rows else None)


def _peek(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    queue = engine.queues.get(arguments[0])
    return [] if queue is None else queue.peek(*arguments[1:])


def _info(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    queue = engine.queues.get(arguments[0])
    if came is None or isinstance(came, int):
        return None if queue is None else queue.model.top
    return [] if queue is None else [queue.info()]


def _infos(answer: Any) -> Any:
    # One statement asks for the top alone.
    return answer if answer is None or isinstance(answer, int) else [QueueRow(*row) for row in answer]


def _consumers(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, wanted, after, most = arguments
    queue = engine.queues.get(name)
    names = sorted(queue.model.consumers) if queue is not None else []
    chosen = [one for one in names if one > after and wanted in (None, one)]
    return [] if queue is None else [queue.consumer(one) for one in chosen[:most]]


def _letters(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, wanted, after, most = arguments
    assert after == 0, "numbers of dead letters are not played"
    queue = engine.queues.get(name)
    return [] if queue is None else queue.letters(DeadLetterFilter(**json.loads(wanted)), most)


def _arrived(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    name, after, most = arguments
    queue = engine.queues.get(name)
    if queue is None or queue.model.top == after:
        return []
    found = queue.peek(after, most, 1 << 60)
    rows: list[tuple[Any, ...]] = [
        (one.position, one.id, one.record, one.enqueued_at, one.key, one.expires_at) for one in found
    ]
    return [(queue.model.top, *row) for row in rows or [(None,) * 6]]


def _subject(arguments: tuple[Any, ...]) -> Hashable:
    return "queue", arguments[0]


QUEUE_STEPS: Final[dict[str, Known]] = {
    "queue_write_1": Known(_write, _told, agrees=_agree),
    "queue_changes_1": Known(_changes, _told, agrees=_agree),
    "queue_settle_1": Known(_settle, _told, agrees=_agree),
    "queue_release_1": Known(lambda e, a, _: _due(e, a[0]).release(e.moment.now)),
    "queue_trim_1": Known(_trim),
    "holds_note_1": Known(_hold, lambda _: None),
    "dead_letters_trim_1": Known(lambda e, a, _: 0, is_idle=lambda came: came == 0),
    "queue_fetch_1": Known(_fetch, _messages, writes=False, subject=_subject),
    "queue_fetch_key_1": Known(_fetch_key, _messages, writes=False, subject=_subject),
    "queue_fetch_retries_1": Known(_fetch_retries, _retries, writes=False, subject=_subject),
    "queue_peek_1": Known(_peek, _messages, writes=False, subject=_subject),
    "queue_info_1": Known(_info, _infos, writes=False, agrees=_agree_on_info, subject=_subject),
    "consumers_1": Known(
        _consumers,
        agrees=_alike,
        read=lambda rows: [consumer_row(json.loads(row[0])) for row in rows],
        writes=False,
        subject=_subject,
    ),
    "dead_letters_1": Known(
        _letters, lambda rows: [replace(dead_letter(row), number=0) for row in rows], writes=False, subject=_subject
    ),
    "queues_arrived_1": Known(_arrived, writes=False, subject=_subject),
    "queues_due_1": Known(lambda e, a, _: e.queues[a[0]].has_due(e.moment.now), writes=False, subject=_subject),
}
"""The steps, by the name of the statement's function."""
