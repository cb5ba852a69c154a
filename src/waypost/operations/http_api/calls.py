"""A request whose key is known: its body and query as typed values, and checks of the names in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from waypost.operations.http.api_keys import ApiKey, check_name
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Request
from waypost.operations.http_api.failures import problems
from waypost.server.emitting.operator import Broadcasting
from waypost.server.namespaces.namespace import Namespace
from waypost.server.queues.queue import Queue
from waypost.server.queues.queue_info import QueueInfo
from waypost.server.watching.counters import ServerState

__all__ = ["Call", "Service"]

T = TypeVar("T")


class Service(Protocol):
    """The part of a `waypost.Server` that the API uses."""

    def queue(self, name: str) -> Queue:
        """Return a handle on a queue."""
        ...

    async def queue_infos(self, *, after: str, limit: int) -> list[QueueInfo]:
        """Return the numbers of many queues."""
        ...

    def state(self) -> ServerState:
        """Return the current numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is known.

    Attributes:
        service: The server.
        find_namespace: Returns a namespace that exists, by its name; ``None`` if it does not.
        request: The request.
        key: Its key.
        names: The names in its path.
        body_bytes: The largest body that is accepted.
    """

    service: Service
    find_namespace: Callable[[str], Namespace | None]
    request: Request
    key: ApiKey
    names: Mapping[str, str]
    body_bytes: int

    async def body(self, kind: type[T]) -> T:
        """Read the body. May be cancelled.

        Args:
            kind: The type of its JSON object. An empty body stands for ``{}``.

        Raises:
            Problem: The body is no JSON, or does not fit.
        """
        body = await self.request.body(self.body_bytes)
        content_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and content_type != "application/json":
            raise Problem(415, "unsupported_media_type", "expected `Content-Type: application/json`; add it")
        try:
            return msgspec.json.decode(body or b"{}", type=kind)
        except msgspec.ValidationError as error:
            raise Problem(422, "bad_body", f"{error}; correct the body") from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Problem(400, "bad_json", f"expected a JSON object: {error}; correct the body") from error

    def query(self, kind: type[T]) -> T:
        """Return the query as a typed value.

        Raises:
            Problem: It does not fit.
        """
        try:
            return msgspec.convert(self.request.query(), kind, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(422, "bad_query", f"{error}; correct the query") from error

    def queue(self) -> Queue:
        """Return the queue that the path names.

        Raises:
            Problem: The key may not use it, or it is no name.
        """
        check_name(self.key, "queue", self.names["queue"])
        with problems():
            return self.service.queue(self.names["queue"])

    def namespace(self, name: str) -> Namespace:
        """Return a namespace.

        Raises:
            Problem: The key may not use it, or it does not exist.
        """
        check_name(self.key, "namespace", name)
        namespace = self.find_namespace(name)
        if namespace is None:
            detail = "expected a namespace that the application has, or that a client has entered; none has that name"
            raise Problem(404, "unknown_namespace", detail)
        return namespace

    def target(self, namespace: str, rooms: Sequence[str] | None, except_: Sequence[str]) -> Broadcasting:
        """Return the operator for clients.

        Args:
            namespace: The namespace.
            rooms: Clients in any of these rooms; ``None`` for all.
            except_: Clients in any of these rooms are left out.

        Raises:
            Problem: The key may not address them, or an argument is no name.
        """
        target: Broadcasting = self.namespace(namespace)
        for room in (None,) if rooms is None else rooms:
            check_name(self.key, "room", room)
        with problems():
            if rooms is not None:
                target = target.to(*rooms)
            return target.except_(*except_) if except_ else target
