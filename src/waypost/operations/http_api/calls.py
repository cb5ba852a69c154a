"""A request whose key is known: its body and query as typed values, and checks of the names in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from waypost.checking.names import as_names
from waypost.operations.http.api_keys import ApiKey, check_name
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Request
from waypost.operations.http_api.bodies import MOST_ID_CHARACTERS
from waypost.operations.http_api.failures import problems
from waypost.operations.http_api.repeats import Repeats
from waypost.server.basics.targets import Target
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.operator import Broadcasting
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.queues.queue import Queue
from waypost.server.queues.queue_info import QueueInfo
from waypost.server.watching.counters import ServerState

__all__ = ["Addressed", "Call", "Caller", "Inside", "Service"]

T = TypeVar("T")

_MOST_NAME_BYTES = 1024


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
class Inside:
    """The parts of a server that no public method reaches.

    Attributes:
        find_namespace: Returns a namespace that exists, by its name; ``None`` if it does not.
        repeats: The requests with ids that were done.
    """

    find_namespace: Callable[[str], NamespaceCore | None]
    repeats: Repeats


class Addressed(NamedTuple):
    """The clients of a request.

    Attributes:
        feed: The events of their namespace.
        target: The rooms.
        clients: The operator for them.
    """

    feed: Feed
    target: Target
    clients: Broadcasting


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, and the server that it is for.

    Attributes:
        service: The server.
        inside: Its parts.
        key: The key.
        count: Counts a further request of the key.
    """

    service: Service
    inside: Inside
    key: ApiKey
    count: Callable[[], None]

    def queue(self, name: str) -> Queue:
        """Return a queue.

        Raises:
            Problem: The key may not use it, or it is no name.
        """
        check_name(self.key, "queue", name)
        if len(name.encode("utf-8", "surrogatepass")) > _MOST_NAME_BYTES:
            detail = f"expected a queue's name of at most {_MOST_NAME_BYTES} bytes; take a shorter one"
            raise Problem(422, "bad_value", detail, argument="queue", expected=f"at most {_MOST_NAME_BYTES} bytes")
        with problems():
            return self.service.queue(name)

    def address(self, namespace: str, rooms: Sequence[str] | None, except_: Sequence[str]) -> Addressed:
        """Return clients.

        Args:
            namespace: The namespace.
            rooms: Clients in any of these rooms; ``None`` for all.
            except_: Clients in any of these rooms are left out.

        Raises:
            Problem: The key may not address them, the namespace does not exist, or an argument is no name.
        """
        check_name(self.key, "namespace", namespace)
        found = self.inside.find_namespace(namespace)
        if found is None:
            detail = "expected a namespace that the application has, or that a client has entered; none has that name"
            raise Problem(404, "unknown_namespace", detail)
        for room in (None,) if rooms is None else rooms:
            check_name(self.key, "room", room)
        with problems():
            wanted = None if rooms is None else frozenset(as_names("room", rooms))
            target = Target(wanted, frozenset(as_names("room", except_)))
            clients: Broadcasting = found.public
            if rooms is not None:
                clients = clients.to(*rooms)
            return Addressed(found.feed, target, clients.except_(*except_) if except_ else clients)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is known.

    Attributes:
        caller: The key.
        request: The request.
        names: The names in its path.
        body_bytes: The largest body that is accepted.
    """

    caller: Caller
    request: Request
    names: Mapping[str, str]
    body_bytes: int

    async def body(self, kind: type[T]) -> T:
        """Read the body. May be cancelled.

        Args:
            kind: The type of its JSON object. An empty body stands for ``{}``.

        Raises:
            Problem: The body is no JSON, or does not fit.
        """
        if self.request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "unsupported_media_type", "expected a body without Content-Encoding; send it as it is")
        body = await self.request.body(self.body_bytes)
        content_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and content_type != "application/json":
            raise Problem(415, "unsupported_media_type", "expected `Content-Type: application/json`; add it")
        try:
            return msgspec.json.decode(body or b"{}", type=kind)
        except msgspec.ValidationError as error:
            raise Problem(422, "bad_body", f"{error}; correct the body") from error
        except RecursionError as error:
            detail = "expected fewer lists and objects within each other, at most some hundred; correct the body"
            raise Problem(422, "bad_body", detail) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
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

    def id_for(self, written: str | None) -> str | None:
        """Return the request's id: its ``Idempotency-Key``, or the one in its body; ``None`` without one.

        Args:
            written: The id in the body.

        Raises:
            Problem: There are two, or the header is none.
        """
        if "idempotency-key" in self.request.repeated:
            raise Problem(422, "two_ids", "expected one Idempotency-Key, came several; leave all but one out")
        given = self.request.headers.get("idempotency-key")
        if given is None or given == written:
            return written
        if not (0 < len(given) <= MOST_ID_CHARACTERS and given.isascii() and given.isprintable()):
            detail = f"expected an Idempotency-Key of 1 to {MOST_ID_CHARACTERS} printable ASCII characters"
            raise Problem(422, "bad_value", detail, argument="id", expected="printable ASCII characters")
        if written is not None:
            detail = "expected one id: the Idempotency-Key is the id, and the body has another; leave one out"
            raise Problem(422, "two_ids", detail)
        return given

    def queue(self) -> Queue:
        """Return the queue that the path names.

        Raises:
            Problem: The key may not use it, or it is no name.
        """
        return self.caller.queue(self.names["queue"])
