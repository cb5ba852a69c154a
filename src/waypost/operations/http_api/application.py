"""The ASGI application of the HTTP API: its operations, and what each request must have before one runs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import msgspec

from waypost.operations.http.api_keys import HasKeys, Scope, check_scope, find_key
from waypost.operations.http.requests import Answer, Request
from waypost.operations.http.routing import Handler, Route, Router
from waypost.operations.http_api import answers, batch, bodies, openapi, queues, sockets
from waypost.operations.http_api.calls import Call, Caller, Inside, Service
from waypost.operations.http_api.pace import Pace

__all__ = ["OPERATIONS", "describe_api", "make_api"]

_Run: TypeAlias = Callable[[Call], Awaitable[Answer]]
_Type: TypeAlias = type[msgspec.Struct]


class Operation(NamedTuple):
    """An operation of the API.

    Attributes:
        method: The method.
        path: The path.
        scope: What the key must be for; ``None`` if each key may do it.
        run: The operation.
        answer: The type of its answer; ``None`` for a document.
        body: The type of the request's body; ``None`` without one.
        query: The type of the query; ``None`` without one.
        takes_id: Whether an ``Idempotency-Key`` counts.
    """

    method: str
    path: str
    scope: Scope | None
    run: _Run
    answer: _Type | None
    body: _Type | None = None
    query: _Type | None = None
    takes_id: bool = False


async def description(call: Call) -> Answer:
    """Return the description of this API, as OpenAPI 3.1."""
    return Answer(200, _description(), "application/json")


OPERATIONS: Sequence[Operation] = (
    Operation("POST", "/emit", "emit", sockets.emit, answers.Emitted, bodies.Emit, takes_id=True),
    Operation("POST", "/batch", None, batch.batch, answers.BatchResults, bodies.Batch),
    Operation("POST", "/sockets/disconnect", "sockets:manage", sockets.disconnect, answers.Done, bodies.Disconnect),
    Operation("POST", "/sockets/join", "sockets:manage", sockets.join, answers.Done, bodies.Move),
    Operation("POST", "/sockets/leave", "sockets:manage", sockets.leave, answers.Done, bodies.Move),
    Operation("GET", "/sockets", "sockets:read", sockets.sockets, answers.SocketList, query=bodies.SocketsPage),
    Operation("GET", "/queues", "queues:read", queues.queues, answers.QueueList, query=bodies.Page),
    Operation("GET", "/queues/{queue}", "queues:read", queues.queue, answers.QueueDetails),
    Operation(
        "GET",
        "/queues/{queue}/messages",
        "queues:read",
        queues.messages,
        answers.MessageList,
        query=bodies.NumberedPage,
    ),
    Operation(
        "POST",
        "/queues/{queue}/messages",
        "queues:write",
        queues.publish,
        answers.Published,
        bodies.Publish,
        takes_id=True,
    ),
    Operation(
        "GET",
        "/queues/{queue}/dead-letters",
        "queues:read",
        queues.dead_letters,
        answers.LetterList,
        query=bodies.LettersPage,
    ),
    Operation(
        "DELETE",
        "/queues/{queue}/dead-letters",
        "queues:manage",
        queues.discard,
        answers.Discarded,
        query=bodies.LettersOf,
    ),
    Operation("POST", "/queues/{queue}/redrive", "queues:manage", queues.redrive, answers.Redriven, bodies.Letters),
    Operation("POST", "/queues/{queue}/purge", "queues:manage", queues.purge, answers.Purged, bodies.Purge),
    Operation("POST", "/queues/{queue}/pause", "queues:manage", queues.pause, answers.Done, bodies.Pause),
    Operation("POST", "/queues/{queue}/resume", "queues:manage", queues.resume, answers.Done, bodies.Consumers),
    Operation("POST", "/queues/{queue}/seek", "queues:manage", queues.seek, answers.Done, bodies.Seek),
    Operation("GET", "/state", "state:read", sockets.state, answers.ServerNumbers),
    Operation("GET", "/openapi.json", None, description, None),
)


def describe_api() -> bytes:
    """Return the description of the API, as OpenAPI 3.1 in JSON: the text of docs/openapi.json."""
    described = [
        openapi.Described(
            one.method,
            one.path,
            one.run.__name__,
            (one.run.__doc__ or "").partition("\n")[0].rstrip("."),
            one.scope,
            one.answer,
            one.body,
            one.query,
            one.takes_id,
        )
        for one in OPERATIONS
    ]
    return msgspec.json.format(msgspec.json.encode(openapi.document(described)), indent=1) + b"\n"


_description = cache(describe_api)


def make_api(service: Service, inside: Inside, keys: HasKeys, body_bytes: int) -> Router:
    """Return the ASGI application of the HTTP API.

    Args:
        service: The server.
        inside: Its parts.
        keys: The keys.
        body_bytes: The largest body of a request that is accepted.
    """
    pace = Pace(time.monotonic)

    def guarded(operation: Operation) -> Handler:
        async def handle(request: Request, names: Mapping[str, str]) -> Answer:
            request.query()  # refuses one with a key in it, before anything else
            key = find_key(request, keys.keys())
            pace.count(key)
            if operation.scope is not None:
                check_scope(key, operation.scope)
            caller = Caller(service, inside, key, lambda: pace.count(key))
            return await operation.run(Call(caller, request, names, body_bytes))

        return handle

    return Router([Route(one.method, one.path, guarded(one)) for one in OPERATIONS])
