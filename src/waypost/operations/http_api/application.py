"""The ASGI application of the HTTP API: its paths, and what each request must have before its handler runs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from waypost.operations.http.api_keys import HasKeys, Scope, check_scope, find_key
from waypost.operations.http.requests import Answer, Request
from waypost.operations.http.routing import Handler, Route, Router
from waypost.operations.http_api import queues, sockets
from waypost.operations.http_api.calls import Call, Service
from waypost.operations.http_api.pace import Pace
from waypost.server.namespaces.namespace import Namespace

__all__ = ["OPERATIONS", "make_api"]

_Operation: TypeAlias = Callable[[Call], Awaitable[Answer]]

OPERATIONS: tuple[tuple[str, str, Scope, _Operation], ...] = (
    ("POST", "/emit", "emit", sockets.emit),
    ("POST", "/sockets/disconnect", "sockets:manage", sockets.disconnect),
    ("POST", "/sockets/join", "sockets:manage", sockets.join),
    ("POST", "/sockets/leave", "sockets:manage", sockets.leave),
    ("GET", "/sockets", "sockets:read", sockets.sockets),
    ("GET", "/queues", "queues:read", queues.queues),
    ("GET", "/queues/{queue}", "queues:read", queues.queue),
    ("GET", "/queues/{queue}/messages", "queues:read", queues.messages),
    ("POST", "/queues/{queue}/messages", "queues:write", queues.publish),
    ("GET", "/queues/{queue}/dead-letters", "queues:read", queues.dead_letters),
    ("DELETE", "/queues/{queue}/dead-letters", "queues:manage", queues.discard),
    ("POST", "/queues/{queue}/redrive", "queues:manage", queues.redrive),
    ("POST", "/queues/{queue}/purge", "queues:manage", queues.purge),
    ("POST", "/queues/{queue}/pause", "queues:manage", queues.pause),
    ("POST", "/queues/{queue}/resume", "queues:manage", queues.resume),
    ("POST", "/queues/{queue}/seek", "queues:manage", queues.seek),
    ("GET", "/state", "state:read", sockets.state),
)


def make_api(
    service: Service, find_namespace: Callable[[str], Namespace | None], keys: HasKeys, body_bytes: int
) -> Router:
    """Return the ASGI application of the HTTP API.

    Args:
        service: The server.
        find_namespace: Returns a namespace that exists, by its name; ``None`` if it does not.
        keys: The keys.
        body_bytes: The largest body of a request that is accepted.
    """
    pace = Pace(time.monotonic)

    def guarded(scope: Scope, operation: _Operation) -> Handler:
        async def handle(request: Request, names: Mapping[str, str]) -> Answer:
            request.query()  # refuses one with a key in it, before anything else
            key = find_key(request, keys.keys())
            pace.count(key)
            check_scope(key, scope)
            return await operation(Call(service, find_namespace, request, key, names, body_bytes))

        return handle

    return Router([Route(method, path, guarded(scope, run)) for method, path, scope, run in OPERATIONS])
