"""Emits, rooms and disconnects over HTTP."""

from __future__ import annotations

from msgspec.structs import replace

from waypost.checking.names import as_name
from waypost.operations.http.api_keys import check_name, may_use
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Answer, json_answer
from waypost.operations.http_api.answers import (
    Done,
    Emitted,
    JournalNumbers,
    ListedSocket,
    ServerNumbers,
    SocketList,
)
from waypost.operations.http_api.bodies import Disconnect, Emit, Move, SocketsPage
from waypost.operations.http_api.calls import Addressed, Call, Caller
from waypost.operations.http_api.failures import problems
from waypost.operations.http_api.repeats import Subject
from waypost.storage.outside import EMIT_WINDOW_S

__all__ = [
    "disconnect",
    "disconnect_clients",
    "emit",
    "emit_event",
    "join",
    "join_rooms",
    "leave",
    "leave_rooms",
    "sockets",
    "state",
]


async def emit(call: Call) -> Answer:
    """Emit an event."""
    body = await call.body(Emit)
    return json_answer(await emit_event(call.caller, replace(body, id=call.id_for(body.id))))


async def emit_event(caller: Caller, body: Emit) -> Emitted:
    """Emit an event; see `waypost.Server.emit` and, for one with an id, `waypost.Emitter.emit`."""
    addressed = caller.address(body.namespace, body.rooms, body.except_)
    if body.id is not None:
        return Emitted(duplicate=not await _emit_once(caller, addressed, body, body.id))
    clients = addressed.clients
    with problems():
        await (clients.volatile if body.volatile else clients).emit(body.event, *body.args)
    return Emitted(duplicate=False)


async def _emit_once(caller: Caller, addressed: Addressed, body: Emit, given: str) -> bool:
    feed, target, _ = addressed
    if body.volatile:
        raise _no_ids("a volatile event is stored nowhere")
    with problems(is_repeatable=True):
        write_id = as_name("id", given)
        feed.own_loop.check("emit")
        encoded = feed.codec.encode_event(feed.namespace, body.event, body.args)
        subject, request = Subject("emit", feed.namespace, write_id), replace(body, id=None)
        if await caller.inside.repeats.check(subject, request):
            return False
        is_new = await feed.publish_once(target, encoded, write_id=write_id, window_s=EMIT_WINDOW_S)
        if is_new is None:
            raise _no_ids("with recovery off no event is stored")
        if is_new:
            await caller.inside.repeats.note(subject, request, EMIT_WINDOW_S)
    return is_new


def _no_ids(why: str) -> Problem:
    detail = f"expected no id, and no Idempotency-Key: {why}, so nothing remembers it; leave it out"
    return Problem(422, "idempotency_not_supported", detail)


async def disconnect(call: Call) -> Answer:
    """Disconnect clients."""
    return json_answer(await disconnect_clients(call.caller, await call.body(Disconnect)))


async def disconnect_clients(caller: Caller, body: Disconnect) -> Done:
    """Disconnect clients; see `waypost.Server.disconnect_sockets`."""
    clients = caller.address(body.namespace, body.rooms, body.except_).clients
    with problems(is_repeatable=True):
        await clients.disconnect_sockets(close=body.close)
    return Done()


async def join(call: Call) -> Answer:
    """Let clients join rooms."""
    return json_answer(await join_rooms(call.caller, await call.body(Move)))


async def join_rooms(caller: Caller, body: Move) -> Done:
    """Let clients join rooms; see `waypost.Server.sockets_join`."""
    clients = _moved(caller, body).clients
    with problems(is_repeatable=True):
        await clients.sockets_join(*body.change)
    return Done()


async def leave(call: Call) -> Answer:
    """Let clients leave rooms."""
    return json_answer(await leave_rooms(call.caller, await call.body(Move)))


async def leave_rooms(caller: Caller, body: Move) -> Done:
    """Let clients leave rooms; see `waypost.Server.sockets_leave`."""
    clients = _moved(caller, body).clients
    with problems(is_repeatable=True):
        await clients.sockets_leave(*body.change)
    return Done()


def _moved(caller: Caller, body: Move) -> Addressed:
    addressed = caller.address(body.namespace, body.rooms, body.except_)
    for room in body.change:
        check_name(caller.key, "room", room)
    return addressed


async def sockets(call: Call) -> Answer:
    """List the sockets that are connected, by id, without what the application keeps of them."""
    page, key = call.query(SocketsPage), call.caller.key
    clients = call.caller.address(page.namespace, None if page.room is None else (page.room,), ()).clients
    with problems():
        found = await clients.fetch_sockets()
    chosen = sorted((one for one in found if one.id > page.after), key=lambda one: one.id)[: page.limit]
    listed = [
        ListedSocket(one.id, sorted(room for room in one.rooms if may_use(key, "room", room)), one.server)
        for one in chosen
    ]
    return json_answer(SocketList(listed, found.missing_servers))


async def state(call: Call) -> Answer:
    """Return the server's numbers."""
    state = call.caller.service.state()
    return json_answer(
        ServerNumbers(
            phase=state.readiness.phase,
            is_ready=state.readiness.is_ready,
            troubles=[one.code for one in state.readiness.troubles],
            connections=state.connections,
            sockets=state.sockets,
            journals={name: JournalNumbers(one.events, one.bytes) for name, one in state.journals.items()},
            server=state.server,
        )
    )
