"""Several commands in one request, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from waypost.logs import get_logger
from waypost.operations.http.api_keys import Scope, check_scope
from waypost.operations.http.problems import Problem, internal_problem
from waypost.operations.http.requests import Answer, json_answer
from waypost.operations.http_api.answers import BatchResults, CommandResult, Published
from waypost.operations.http_api.bodies import Batch, Command
from waypost.operations.http_api.calls import Call, Caller
from waypost.operations.http_api.queues import publish_message
from waypost.operations.http_api.sockets import disconnect_clients, emit_event, join_rooms, leave_rooms

__all__ = ["batch"]

logger = get_logger("waypost.operations")

_AT_ONCE = 16


async def batch(call: Call) -> Answer:
    """Do several commands, each whatever becomes of the others."""
    if "idempotency-key" in call.request.headers:
        detail = "expected no Idempotency-Key for a batch: give each command an `id` of its own"
        raise Problem(422, "idempotency_not_supported", detail)
    body = await call.body(Batch)
    for at, command in enumerate(body.commands):
        _check(at, command)
    turns = asyncio.Semaphore(_AT_ONCE if body.parallel else 1)

    async def run(at: int, command: Command) -> CommandResult:
        # A semaphore wakes in the order of the calls.
        async with turns:
            return await _outcome(call.caller, command, is_first=at == 0)

    running = (run(at, command) for at, command in enumerate(body.commands))
    return json_answer(BatchResults(await asyncio.gather(*running)))


async def _outcome(caller: Caller, command: Command, *, is_first: bool) -> CommandResult:
    try:
        if not is_first:
            # The first one was counted with the request.
            caller.count()
        scope, run = _work(caller, command)
        check_scope(caller.key, scope)
        answer = await run()
    except Problem as problem:
        return CommandResult(problem.status, problem=problem.document())
    except Exception:
        # The sentence may have secrets in it: it goes to the log only.
        logger.exception("a command of a batch failed")
        failure = internal_problem()
        return CommandResult(failure.status, problem=failure.document())
    is_made = isinstance(answer, Published) and not answer.duplicate
    return CommandResult(201 if is_made else 200, answer=msgspec.to_builtins(answer))


def _check(at: int, command: Command) -> None:
    names = Command.__struct_fields__
    came = [name for name in names if getattr(command, name) is not msgspec.UNSET]
    if len(came) != 1:
        detail = f"expected one of {', '.join(names)} in commands[{at}], came {' and '.join(came) or 'none'}"
        raise Problem(422, "bad_body", f"{detail}; correct the body")


def _work(caller: Caller, command: Command) -> tuple[Scope, Callable[[], Awaitable[msgspec.Struct]]]:
    """Return the scope that a command needs, and how it is done."""
    if command.emit is not msgspec.UNSET:
        return "emit", partial(emit_event, caller, command.emit)
    if command.publish is not msgspec.UNSET:
        return "queues:write", partial(publish_message, caller, command.publish.queue, command.publish.message)
    if command.join is not msgspec.UNSET:
        return "sockets:manage", partial(join_rooms, caller, command.join)
    if command.leave is not msgspec.UNSET:
        return "sockets:manage", partial(leave_rooms, caller, command.leave)
    if command.disconnect is not msgspec.UNSET:
        return "sockets:manage", partial(disconnect_clients, caller, command.disconnect)
    raise Problem(422, "bad_body", "expected a command; correct the body")
