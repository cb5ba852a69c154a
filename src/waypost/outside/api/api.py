"""Emits, rooms, queues and looks at a service by its HTTP API, from any machine."""

from __future__ import annotations

from ssl import SSLContext
from types import TracebackType
from typing import Annotated, Any, Final, Protocol, Self
from urllib.parse import urlsplit

from waypost.checking.arguments import COUNT_OR_ZERO, NAMESPACE, POSITIVE, check
from waypost.checking.constraints import Matching, Secret
from waypost.checking.names import Name, Names, as_name, as_names
from waypost.checking.rules import rule_of
from waypost.errors import ApiRefused
from waypost.outside.api.answers import member, read_list, read_object
from waypost.outside.api.line import Line
from waypost.outside.api.queues import ApiQueue
from waypost.outside.api.requests import ApiRequest, encoded_arguments, get
from waypost.outside.api.service import ApiService
from waypost.outside.api.states import ApiSocketsPage, ApiState
from waypost.outside.reach import Reach
from waypost.protocol.codec import check_json_default, codec_for
from waypost.protocol.rich_json import JsonDefault
from waypost.server.basics.environment import new_id
from waypost.server.basics.targets import EVERYONE, Target
from waypost.server.queues.queue_info import QueueInfo

__all__ = ["NOTHING", "Api", "ApiTarget"]


def _is_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not ("@" in parts.netloc or parts.query)


def _is_key(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


_URL: Final = rule_of(
    Annotated[str, Matching("the URL of an HTTP API, such as https://example.org/api", _is_address)]
)
_KEY: Final = rule_of(Annotated[str, Secret(), Matching("a key, as `waypost api-key new` prints it", _is_key)])
_SSL: Final = rule_of(SSLContext | None)
NOTHING: Final = object()
"""Stands for an argument that was not given."""


class _Addressing(Protocol):
    """The methods that an API and its targets share: whom they reach, and with what."""

    __slots__ = ()

    _service: ApiService
    _namespace: str
    _target: Target
    _is_volatile: bool

    def to(self, *rooms: Names) -> ApiTarget:
        """Address the members of rooms, in addition to the rooms named before.

        A client in several of the rooms gets an event once.

        Args:
            rooms: Names of rooms, or lists of names. A name is text; an int stands for its decimal text. A socket's
                id is a room too. Without rooms, no client is addressed.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target((self._target.rooms or frozenset()).union(as_names("room", rooms)), self._target.except_)
        return ApiTarget(self._service, self._namespace, target, self._is_volatile)

    def in_(self, *rooms: Names) -> ApiTarget:
        """Do the same as `to`; Socket.IO has this name for it too.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        return self.to(*rooms)

    def except_(self, *rooms: Names) -> ApiTarget:
        """Leave out the members of rooms. Without `to` before it, all other clients are addressed.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target(self._target.rooms, self._target.except_.union(as_names("room", rooms)))
        return ApiTarget(self._service, self._namespace, target, self._is_volatile)

    @property
    def volatile(self) -> ApiTarget:
        """The same clients; an event is dropped for each of them that can't take it at once."""
        return ApiTarget(self._service, self._namespace, self._target, is_volatile=True)

    async def sockets_join(self, *rooms: Names) -> None:
        """Let the addressed clients join rooms, clients that are away and may come back included.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now. No client joined.
            StorageUncertain: The clients may have joined, or not.

        If this is cancelled, they may still join.
        """
        await self._change("join", change=[*as_names("room", rooms)])

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms, clients that are away and may come back included.

        Args:
            rooms: As for `to`. A client does not leave the room of its own id.

        Raises:
            ConfigurationError: An argument is no name of a room.
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now. No client left.
            StorageUncertain: The clients may have left, or not.

        If this is cancelled, they may still leave.
        """
        await self._change("leave", change=[*as_names("room", rooms)])

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the addressed clients from the namespace. They do not reconnect by themselves.

        The sessions of those that are away end: they start anew when they come back. If this is cancelled, the
        clients may still be disconnected.

        Args:
            close: Whether to close their whole connections too, with all their namespaces.

        Raises:
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now. No client was disconnected.
            StorageUncertain: The clients may have been disconnected, or not.
        """
        await self._change("disconnect", close=close)

    async def _change(self, kind: str, **body: Any) -> None:
        rooms, except_ = self._target
        body |= {"namespace": self._namespace, "rooms": None if rooms is None else sorted(rooms)}
        body["except"] = sorted(except_)
        request = ApiRequest(f"{kind} sockets", "POST", f"/sockets/{kind}", body)
        await self._service.ask(kind, request)


class ApiTarget(_Addressing):
    """The clients that an API addresses. It never changes: keep and share it. Made by `Api`."""

    __slots__ = ("_is_volatile", "_namespace", "_service", "_target")

    def __init__(self, service: ApiService, namespace: str, target: Target, is_volatile: bool = False) -> None:
        self._service = service
        self._namespace = namespace
        self._target = target
        self._is_volatile = is_volatile

    async def emit(self, event: str, *args: Any, id: Name | None = None) -> None:
        """Emit an event to the addressed clients; see `Api.emit`."""
        rooms, except_ = self._target
        body: dict[str, Any] = {
            "event": event,
            "args": encoded_arguments(self._service.codec, self._namespace, event, args),
            "namespace": self._namespace,
            "rooms": None if rooms is None else sorted(rooms),
            "except": sorted(except_),
            "volatile": self._is_volatile,
        }
        request = ApiRequest(f"emit event {event!r}", "POST", "/emit", body, is_repeatable=False)
        if id is not None:
            await self._service.ask("emit", request.with_id(as_name("id", id)))
        elif self._is_volatile or self._namespace in self._service.without_ids:
            await self._service.ask("emit", request)
        else:
            await self._emit_with_own_id(request)

    async def _emit_with_own_id(self, request: ApiRequest) -> None:
        try:
            await self._service.ask("emit", request.with_id(new_id()))
        except ApiRefused as refused:
            if refused.code != "idempotency_not_supported":
                raise
            # Nothing was done: the namespace has no journal, which would remember ids.
            self._service.without_ids.add(self._namespace)
            await self._service.ask("emit", request)


class Api(_Addressing):
    """Emits to the clients of a service from any machine, fills its queues and looks at them, by its HTTP API.

    ::

        async with waypost.Api("https://shop.example.org/api", key) as api:
            await api.to("order 7").emit("paid", 7, id="order 7 paid")
            await api.queue("mails").emit("receipt", "ann@example.org")

    Its methods are those of `waypost.Server`, for the namespace ``/``; `of` is for others. `waypost.sync.Api` is the
    same for programs without asyncio. It connects at the first use, and again after a loss; one that was made before
    a fork works in each process. Calls that wait at the same time have no order among each other.

    A request that the service can't take now, or whose answer is lost, is sent again, unless that could do it twice.
    Each emit has an id for that, also one that the caller gave none; but not a volatile one, nor one to a namespace
    without recovery. Then a call raises:

    - `ApiRefused`: the service refused the request: the key, its scope, a name. Nothing was done.
    - `ApiUnavailable`: the service can't be reached, or takes no request now. Nothing was done.
    - `StorageUncertain`: it may have been done, or not. Call again with the same id.

    Args:
        url: The API's URL, with the path of its mount.
        key: A key of the API, as ``waypost api-key new`` prints it.
        timeout_s: Seconds for a call, with all its tries.
        retries: How often a request is sent again.
        ssl: The TLS context for ``https``; ``None`` for the system's defaults, which verify the service.
        json_default: As the server's option of that name, for arguments of other types.

    Raises:
        ConfigurationError: An argument has an impossible value.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        ssl: SSLContext | None = None,
        json_default: JsonDefault | None = None,
    ) -> None:
        check("url", url, _URL)
        check("key", key, _KEY)
        check("timeout_s", timeout_s, POSITIVE)
        check("retries", retries, COUNT_OR_ZERO)
        check("ssl", ssl, _SSL)
        check_json_default(json_default, "json")
        base = url.rstrip("/")

        def make_line() -> Line:
            return Line(base, key, timeout_s=timeout_s, retries=retries, ssl=ssl)

        self._service = ApiService(Reach(make_line, "api"), codec_for("json", json_default=json_default))
        self._namespace = "/"
        self._target = EVERYONE
        self._is_volatile = False

    async def __aenter__(self) -> Self:
        """Return the API; it connects at the first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the API."""
        await self.close()

    async def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        to: Names | None = None,
        room: Names | None = None,
        except_: Names = (),
        skip_sid: Names | None = None,
        namespace: str | None = None,
        data: Any = NOTHING,
    ) -> None:
        """Emit an event to all clients of a namespace, or to the members of rooms.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: values that JSON can carry.
            id: An id of what the event is about. The namespace takes an id once within ten minutes: call again with
                the same id when you do not know whether the first call succeeded, and the clients get one event.
            to: The members of a room, or of any of several; ``None`` for all clients.
            room: The same; python-socketio has this name for it too.
            except_: Members of these rooms are left out.
            skip_sid: The same, as python-socketio says it.
            namespace: The namespace's name; ``None`` for ``/``.
            data: The event's only argument, as python-socketio names it.

        Raises:
            EncodingFailed: JSON can't carry an argument, or the name is reserved.
            ConfigurationError: An argument has an impossible value.
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now. No client gets the event.
            StorageUncertain: The service may have taken the event, or not.
            WrongEventLoop: The API is in use on another event loop.

        Delivery: as for an emit of the server's, which has taken the event when this returns: once to each client
        that is connected or comes back in time, in the order of the calls, if each is awaited before the next. If
        this is cancelled, the event may be delivered all the same.
        """
        target = self.of("/" if namespace is None else namespace)
        if to is not None or room is not None:
            target = target.to(() if to is None else to, () if room is None else room)
        target = target.except_(except_, () if skip_sid is None else skip_sid)
        await target.emit(event, *args, *(() if data is NOTHING else (data,)), id=id)

    def of(self, namespace: str) -> ApiTarget:
        """Address all clients of a namespace.

        Args:
            namespace: The namespace's name, with its leading slash.

        Raises:
            ConfigurationError: It is no name of a namespace.
        """
        check("namespace", namespace, NAMESPACE)
        return ApiTarget(self._service, namespace, EVERYONE)

    def queue(self, name: Name) -> ApiQueue:
        """Return a handle on a queue, which need not exist.

        Args:
            name: The queue's name.

        Raises:
            ConfigurationError: It is no name that a queue can have.
        """
        return ApiQueue(self._service, as_name("queue", name))

    async def queue_infos(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[QueueInfo]:
        """Return the numbers of queues, by name.

        Args:
            prefix: Only queues whose names begin so.
            after: Only queues whose names come after this one.
            limit: The most to return, from 1 to 1,000.

        Raises:
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now.
        """
        answer = await self._service.ask(
            "queue_infos", get("list queues", "/queues", prefix=prefix or None, after=after, limit=limit)
        )
        return read_list(QueueInfo, member(answer, "queues"))

    async def sockets(
        self, *, room: Name | None = None, namespace: str = "/", after: str = "", limit: int = 100
    ) -> ApiSocketsPage:
        """Return the sockets that are connected, by id.

        Args:
            room: Only the members of this room; ``None`` for all.
            namespace: The namespace's name.
            after: Only sockets whose ids come after this one.
            limit: The most to return, from 1 to 1,000.

        Raises:
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now.
        """
        room = None if room is None else as_name("room", room)
        request = get("list sockets", "/sockets", namespace=namespace, room=room, after=after, limit=limit)
        return read_object(ApiSocketsPage, await self._service.ask("sockets", request))

    async def state(self) -> ApiState:
        """Return the service in numbers.

        Raises:
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now.
        """
        return read_object(ApiState, await self._service.ask("state", get("look at the state", "/state")))

    async def close(self) -> None:
        """Close the connections. A second call does nothing; a later call of a method connects again."""
        await self._service.close()
