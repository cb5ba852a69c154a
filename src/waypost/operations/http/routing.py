"""Finds the handler of a request by its method and path, and answers with what it returns or raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from waypost.errors import shorten
from waypost.logs import by_client, fields, get_logger
from waypost.operations.http.problems import Problem, internal_problem
from waypost.operations.http.requests import Answer, Request
from waypost.transports.http_answer import Receive, Scope, Send, respond

__all__ = ["Handler", "Route", "Router"]

logger = get_logger("waypost.operations")

_OPERATORS = frozenset((401, 403, 413, 429))

Handler: TypeAlias = Callable[[Request, Mapping[str, str]], Awaitable[Answer]]
"""Gets a request and the names in its path; may raise `Problem`."""


class Route(NamedTuple):
    """A path, a method, and the handler of both.

    Attributes:
        method: The method; ``GET`` answers ``HEAD`` too.
        path: The path below the application's root; ``{queue}`` stands for a part that is not empty.
        handler: The handler.
    """

    method: str
    path: str
    handler: Handler


class Router:
    """An ASGI application of routes. It can be mounted: paths are relative to its root.

    Args:
        routes: The routes.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(route, route.path.split("/")[1:]) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["method"] == "HEAD"
        request: Request | None = None
        try:
            request = Request(scope, receive)
            handler, names = self._find(request)
            status, body, content_type = await handler(request, names)
        except Problem as problem:
            _tell_operator(scope, problem)
            headers = problem.headers
            if (request is None or request.has_unread_body) and ("Connection", "close") not in headers:
                # Otherwise the rest of the body is read, however long it is.
                headers.append(("Connection", "close"))
            await respond(send, problem.status, problem.body(), headers, is_head=is_head)
            return
        except Exception:
            # The sentence may have secrets in it: it goes to the log only.
            logger.exception("%s %s failed", scope["method"], scope["path"])
            failure = internal_problem()
            await respond(send, failure.status, failure.body(), failure.headers, is_head=is_head)
            return
        headers = [("Content-Type", content_type), ("Cache-Control", "no-store")]
        await respond(send, status, body, headers, is_head=is_head)

    def _find(self, request: Request) -> tuple[Handler, dict[str, str]]:
        allowed: list[str] = []
        for route, template in self._routes:
            names = _match(template, request.segments)
            if names is None:
                continue
            if route.method == request.method:
                return route.handler, names
            allowed.append(route.method)
        if allowed:
            detail = f"expected {' or '.join(allowed)}"
            raise Problem(405, "method_not_allowed", detail, headers=[("Allow", ", ".join(allowed))])
        raise Problem(404, "not_found", "there is no such path")


def _match(template: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    names: dict[str, str] = {}
    for wanted, given in zip(template, segments, strict=True):
        if wanted[:1] == "{" and given:
            names[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return names


def _tell_operator(scope: Scope, problem: Problem) -> None:
    """Log a refusal that another key, or another option, would have let pass."""
    if problem.status in _OPERATORS:
        address = (scope.get("client") or ("",))[0]
        logger.info(
            "refused %s %s from %s: %s",
            scope["method"],
            shorten(scope["path"]),
            address or "an unknown address",
            problem,
            extra=by_client(fields(address=address or None, code=problem.code)),
        )


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
