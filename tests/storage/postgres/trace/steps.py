"""The table of steps: which step of the pure engine each statement of the store is.

A statement that is in no table fails the check: whoever adds one says here what it does.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from tests.storage.postgres.trace.engine import Engine
from tests.storage.postgres.trace.known import Known, Step
from tests.storage.postgres.trace.queue_steps import QUEUE_STEPS
from tests.storage.postgres.trace.recorder import Call, Refused, functions_of
from tests.storage.postgres.trace.sessions import without_left

__all__ = ["STEPS", "WRITES", "left_before", "steps_of"]

_LOCKED: Final = "55P03"
_ENDS: Final = "SELECT n, o_tick FROM unnest($1::int[]) AS n, waypost.log_end_1(n)"


# -- what came, in the form in which the pure engine has it --------------------------------------------------------


def _row(answer: Any) -> Any:
    return tuple(answer)


def _nothing(_: Any) -> None:
    return None


def _sorted(value: Any) -> Any:
    """Return a value with sorted lists: in which order the engine finds what goes together, nobody says."""
    if isinstance(value, dict):
        return {name: _sorted(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(one) for one in value), key=repr)
    return value


def _head(kind: int, content: bytes) -> Any:
    if kind in (2, 3, 4, 5, 6, 9):
        return json.loads(content)
    return content.decode()


def _rows(answer: Any) -> Any:
    rows = [tuple(row) for row in answer]
    return [(*row[:7], _head(row[6], row[7]), *row[8:]) for row in rows]


def _same_rows(expected: Any, came: Any) -> bool:
    def ordered(rows: Any) -> Any:
        return [(*row[:7], _sorted(row[7]) if row[6] in (4, 6) else row[7], *row[8:]) for row in rows]

    return bool(ordered(expected) == ordered(came))


def _written(answer: Any) -> Any:
    if answer is None:
        return None
    told = json.loads(answer)
    for one in told.get("results", ()):
        if "d" in one:
            one["d"] = b64decode(one["d"])
    return told


def _same_written(expected: Any, came: Any) -> bool:
    if expected is None or came is None or "results" not in expected or "results" not in came:
        return bool(expected == came)
    return bool(_ordered_results(expected) == _ordered_results(came))


def _ordered_results(told: Any) -> Any:
    results = [{**one, "r": _sorted(one["r"])} if "r" in one else one for one in told["results"]]
    return {**told, "results": results}


def _found(answer: Any) -> Any:
    found = {row["key"]: (_present(json.loads(row["result"])), row["data"]) for row in answer[1:]}
    return answer[0]["tick"], found


def _present(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if value is not None}


def _same_found(expected: Any, came: Any) -> bool:
    return bool(_ordered_found(expected) == _ordered_found(came))


def _ordered_found(found: Any) -> Any:
    return found[0], {key: (_sorted(row), data) for key, (row, data) in found[1].items()}


# -- how each is played --------------------------------------------------------------------------------------------


def _enter(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    assert came is not None, "a node that entered without knowing it"
    engine.enter(arguments[0], *came)
    return came


def _declare(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    # Whether the counter was the newest one, the pure engine does not know.
    node, incarnation, _, ttl_s = arguments
    return False if came is False else engine.declare(node, incarnation, ttl_s)


def _relieve(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    # How long a node's event loop has stood still, the pure engine does not know.
    if came is not False:
        engine.free(arguments[0])
    return came is not False


def _open(engine: Engine, arguments: tuple[Any, ...], came: Any) -> Any:
    name, generation, *mark = arguments
    drawn = engine.drawn.get(name, -1) if came is None else came["journal"]
    if came is not None:
        engine.learn_generations(drawn, came["generations"])
    return engine.open(name, generation, (mark[0], mark[1]), drawn)


def _write(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    number, node, incarnation, batch, kinds, keys, records, _sums, texts = arguments
    operations = [*zip(kinds, keys, records, map(json.loads, texts), strict=True)]
    return engine.write(number, (node, incarnation, batch), operations)


def _find(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    number, keys, most = arguments
    assert keys is not None, f"some {most} sessions are not played"
    return engine.find(number, keys)


def _end(engine: Engine, arguments: tuple[Any, ...], _: Any) -> Any:
    number = arguments[0]
    return engine.journals[number].end.tick if number in engine.journals else 0


def _expire(engine: Engine, _: tuple[Any, ...], came: Any) -> Any:
    if came is None:
        return -1 if engine.has_expired() else None
    return engine.expire(came)


def _keep_answers(engine: Engine, arguments: tuple[Any, ...], _: Any) -> None:
    node, incarnation, batch, *columns, most, account_bytes, total_bytes = arguments
    answers = engine.answering(node, incarnation)
    rows: list[Any] = [*zip(*columns, strict=True)]
    answers.keep(rows, (most, account_bytes, total_bytes), engine.moment.now)
    engine.marks[node, incarnation, batch] = True


def _settle_answers(engine: Engine, arguments: tuple[Any, ...], _: Any) -> bool:
    node, incarnation, batch, by_incarnation, by_batch = arguments
    engine.answering(node, by_incarnation)
    engine.marks[node, by_incarnation, by_batch] = None
    return (node, incarnation, batch) in engine.marks


def _trim_answers(engine: Engine, arguments: tuple[Any, ...], _: Any) -> int:
    engine.touched.add("answers")
    return engine.answers.trim(engine.moment.now - arguments[0])


def _restored(engine: Engine, _: tuple[Any, ...], came: Any) -> Any:
    engine.begin_generation(ends_sessions=True)
    return came


STEPS: Final[dict[str, Known]] = QUEUE_STEPS | {
    "enter_1": Known(_enter, lambda came: (came["o_node"], came["o_incarnation"], came["o_is_cold"])),
    "renew_1": Known(lambda e, a, _: e.renew(*a), _row),
    "leave_1": Known(lambda e, a, _: e.leave(*a), _nothing),
    "declare_1": Known(_declare, is_idle=lambda came: came is False),
    "free_1": Known(lambda e, a, _: e.free(a[0]), _nothing),
    "relieve_1": Known(_relieve, is_idle=lambda came: came is False),
    "claim_consumer_1": Known(lambda e, a, came: e.claim(a[0], a[1], (a[2], a[3]), came), _row),
    "release_consumer_1": Known(lambda e, a, _: e.release(a[0], a[1], (a[2], a[3])), _nothing),
    "keep_answers_1": Known(_keep_answers, _nothing),
    "settle_answers_1": Known(_settle_answers),
    "trim_answers_1": Known(_trim_answers),
    "find_answers_1": Known(
        lambda e, a, _: e.answers.find([*zip(*a, strict=True)]),
        lambda rows: sorted(map(tuple, rows)),
        writes=False,
        subject=lambda _: "answers",
    ),
    "restored_1": Known(_restored),
    "owners_1": Known(lambda e, a, came: e.owner(a, came), writes=False, subject=lambda a: ("consumer", *a)),
    "open_journal_1": Known(_open, json.loads),
    "append_1": Known(lambda e, a, _: e.append(a[0], a[1:4], a[4]), _row),
    "write_1": Known(_write, _written, agrees=_same_written),
    "trim_journal_1": Known(
        lambda e, a, _: e.trim(a[0], a[1:4], a[4]), lambda came: (came["o_events"], came["o_tick"], came["o_more"])
    ),
    "expire_sessions_1": Known(_expire, is_idle=lambda came: came is None),
    "take_expired_1": Known(
        lambda e, a, came: e.take_expired(a[0], came or ()),
        lambda rows: sorted((row["journal"], row["sid"].hex(), row["data"]) for row in rows),
    ),
    "settle_1": Known(lambda e, a, _: e.settle(a[0], a[1:4], a[4], a[5:7]), _written, agrees=_same_written),
    "follow_1": Known(
        lambda e, a, _: e.follow(*a), _rows, writes=False, agrees=_same_rows, subject=lambda a: ("journal", a[1])
    ),
    "log_end_1": Known(_end, writes=False, subject=lambda a: ("journal", a[0])),
    "find_sessions_1": Known(_find, _found, writes=False, agrees=_same_found, subject=lambda a: ("journal", a[0])),
}
"""The steps, by the name of the statement's function."""

WRITES: Final = frozenset(name for name, known in STEPS.items() if known.writes)
"""The functions that may change something."""

_UNPLAYED: Final = frozenset({
    # What they do is no part of the pure engine, and what it has does not depend on them.
    "beat_1", "cut_off_1", "clock_stepped_1", "history_check_1", "goes_on_1", "begin_write_1", "forget_nodes_1",
    # They say where there is something to do; what is done then, is checked.
    "queues_to_trim_1",
    # They remove what nobody reads any more: a walk is shorter than anything that counts is kept.
    "queues_sweep_1", "trim_memberships_1", "trim_proofs_1", "trim_marks_1", "forget_tombstones_1",
    "limit_tombstones_1", "deduplication_trim_1", "trim_outbox_1", "trim_answer_counts_1",
})  # fmt: skip
"""Functions that may be called, and are not checked."""

_PLAIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "COMMIT",
    "ROLLBACK",
    "SELECT current_setting(",
    "SELECT set_config('synchronous_commit', 'off', true), pg_notify(",
    "SELECT to_regclass('waypost.setting')",
    "SELECT key, value FROM waypost.setting ",
    "SELECT value FROM waypost.setting WHERE key = 'mesh_secret'",
    "INSERT INTO waypost.setting VALUES ('mesh_secret', $1) ",
    "SELECT name, address FROM waypost.node ",
    "SELECT reason FROM waypost.era ",
    "SELECT era.reason FROM waypost.era ",
    "SELECT name, options::text AS options FROM waypost.node ",
    "SELECT id, incarnation, counter FROM waypost.node ",
    "SELECT id, name FROM waypost.journal ORDER BY id",
    "SELECT pg_terminate_backend(",
)
"""How the statements begin that call no function, and are not checked."""


def left_before(calls: Iterable[Call]) -> dict[int, int]:
    """Return the position before which it was forgotten in a run which rooms sessions had left, by journal."""
    found: dict[int, int] = {}
    for call in calls:
        if call.function == "trim_memberships_1":
            number, oldest, _ = call.arguments
            found[number] = max(found.get(number, 0), oldest - 1)
    return found


def steps_of(call: Call, left: Mapping[int, int]) -> list[Step]:
    """Return the steps that a call is: none if it is not checked, or a read without an answer.

    Args:
        call: The call.
        left: See `left_before`.

    Raises:
        AssertionError: Nobody has said what the statement does.
    """
    if call.function in _UNPLAYED or (not functions_of(call.statement) and call.statement.startswith(_PLAIN)):
        return []
    assert call.function in STEPS, f"tests/storage/postgres/trace/steps.py does not say what this does: {call}"
    known = STEPS[call.function]
    if isinstance(call.answer, Refused) and call.function == "declare_1" and call.answer.sqlstate == _LOCKED:
        # A write of the node goes on for too long.
        return []
    if isinstance(call.answer, Refused):
        return [Step(call, known, call.answer)]
    if call.is_lost:
        return [Step(call, known)] if known.writes else []
    return _parts(call, known, left)


def _parts(call: Call, known: Known, left: Mapping[int, int]) -> list[Step]:
    """Return the steps of a call that was answered: one for each of the subjects that a read is about."""
    arguments = call.arguments
    match call.function:
        case "log_end_1":
            assert call.statement == _ENDS, call
            return [_part(call, known, (row["n"],), row["o_tick"]) for row in call.answer]
        case "owners_1":
            return [_part(call, known, (tuple(row)[:2]), row[2]) for row in call.answer]
        case "follow_1":
            node, numbers, ticks, sizes, most_rows, most_bytes = arguments
            rows = _rows(call.answer)
            return [
                _part(
                    call,
                    known,
                    (node, number, tick, size, most_rows, most_bytes),
                    [r for r in rows if r[0] == number],
                )
                for number, tick, size in zip(numbers, ticks, sizes, strict=True)
            ]
        case "queues_arrived_1":
            names, after, most = arguments
            rows = [(row[0], row[1], row[2], *row[5:10]) for row in call.answer]
            return [
                _part(call, known, (name, one, most), [row[1:] for row in rows if row[0] == name])
                for name, one in zip(names, after, strict=True)
            ]
        case "queues_due_1":
            return [_part(call, known, (row["name"],), True) for row in call.answer if row["name"] is not None]
        case "find_sessions_1":
            end, found = known.read(call.answer)
            before = left.get(arguments[0], 0)
            came = end, {key: (without_left(row, before), data) for key, (row, data) in found.items()}
            return [Step(call, known, came)]
        case "write_1" | "settle_1":
            told = known.read(call.answer)
            for one in (told or {}).get("results", ()):
                if "r" in one:
                    one["r"] = without_left(one["r"], left.get(arguments[0], 0))
            return [Step(call, known, told)]
    return [Step(call, known, known.read(call.answer))]


def _part(call: Call, known: Known, arguments: tuple[Any, ...], came: Any) -> Step:
    return Step(replace(call, arguments=arguments), known, came)
