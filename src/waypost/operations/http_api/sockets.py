"""Emits, rooms and disconnects over HTTP."""

from __future__ import annotations

from waypost.operations.http.api_keys import check_name
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Answer, json_answer
from waypost.operations.http_api.bodies import Emit, Move, Sockets, SocketsPage
from waypost.operations.http_api.calls import Call
from waypost.operations.http_api.failures import problems

__all__ = ["disconnect", "emit", "join", "leave", "sockets", "state"]


async def emit(call: Call) -> Answer:
    """Emit an event; see `waypost.Server.emit`."""
    if "idempotency-key" in call.request.headers:
        detail = (
            "expected no Idempotency-Key here: an event has no id; leave it out, or put a message into a queue, which"
            " takes an id once"
        )
        raise Problem(422, "idempotency_not_supported", detail)
    body = await call.body(Emit)
    target = call.target(body.namespace, body.rooms, body.except_)
    with problems():
        await (target.volatile if body.volatile else target).emit(body.event, *body.args)
    return json_answer({})


async def disconnect(call: Call) -> Answer:
    """Disconnect clients; see `waypost.Server.disconnect_sockets`."""
    body = await call.body(Sockets)
    target = call.target(body.namespace, body.rooms, body.except_)
    with problems(is_repeatable=True):
        await target.disconnect_sockets(close=body.close)
    return json_answer({})


async def join(call: Call) -> Answer:
    """Let clients join rooms; see `waypost.Server.sockets_join`."""
    return await _move(call, "sockets_join")


async def leave(call: Call) -> Answer:
    """Let clients leave rooms; see `waypost.Server.sockets_leave`."""
    return await _move(call, "sockets_leave")


async def _move(call: Call, method: str) -> Answer:
    body = await call.body(Move)
    target = call.target(body.namespace, body.rooms, body.except_)
    for room in body.change:
        check_name(call.key, "room", room)
    with problems(is_repeatable=True):
        await (target.sockets_join if method == "sockets_join" else target.sockets_leave)(*body.change)
    return json_answer({})


async def sockets(call: Call) -> Answer:
    """List the sockets that are connected, by id, without what the application keeps of them."""
    page = call.query(SocketsPage)
    target = call.target(page.namespace, None if page.room is None else (page.room,), ())
    with problems():
        found = await target.fetch_sockets()
    chosen = sorted((one for one in found if one.id > page.after), key=lambda one: one.id)[: page.limit]
    listed = [{"id": one.id, "rooms": sorted(one.rooms), "server": one.server} for one in chosen]
    return json_answer({"sockets": listed, "missing_servers": found.missing_servers})


async def state(call: Call) -> Answer:
    """Return the server's numbers; see `waypost.Server.state`."""
    state = call.service.state()
    return json_answer(
        {
            "phase": state.readiness.phase,
            "is_ready": state.readiness.is_ready,
            "troubles": [one.code for one in state.readiness.troubles],
            "connections": state.connections,
            "sockets": state.sockets,
            "journals": {name: {"events": one.events, "bytes": one.bytes} for name, one in state.journals.items()},
            "server": state.server,
        }
    )
