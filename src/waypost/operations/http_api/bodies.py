"""The JSON objects of the HTTP API's requests. An unknown member is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

__all__ = [
    "Consumers",
    "Emit",
    "Letters",
    "Move",
    "NumberedPage",
    "Page",
    "Pause",
    "Publish",
    "Purge",
    "Seek",
    "Sockets",
    "SocketsPage",
]

_Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Emit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An event for clients.

    Attributes:
        event: The event's name.
        args: Its arguments.
        namespace: The namespace.
        rooms: Clients in any of these rooms; ``None`` for all.
        except_: Clients in any of these rooms are left out.
        volatile: Whether the event is dropped for each client that can't take it at once.
    """

    event: str
    args: Sequence[Any] = ()
    namespace: str = "/"
    rooms: Sequence[str] | None = None
    except_: Sequence[str] = msgspec.field(default=(), name="except")
    volatile: bool = False


class Sockets(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Clients that are to be disconnected.

    Attributes:
        rooms: Clients in any of these rooms; ``None``, which must be written, for all.
        except_: Clients in any of these rooms are left out.
        namespace: The namespace.
        close: Whether to close their whole connections too.
    """

    rooms: Sequence[str] | None
    except_: Sequence[str] = msgspec.field(default=(), name="except")
    namespace: str = "/"
    close: bool = False


class Move(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Clients that are to join or leave rooms.

    Attributes:
        rooms: Clients in any of these rooms; ``None``, which must be written, for all.
        change: The rooms that they join or leave.
        except_: Clients in any of these rooms are left out.
        namespace: The namespace.
    """

    rooms: Sequence[str] | None
    change: Sequence[str]
    except_: Sequence[str] = msgspec.field(default=(), name="except")
    namespace: str = "/"


class Publish(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A message for a queue; see `waypost.Queue.emit`.

    Attributes:
        event: The name of the event that consumers receive.
        args: Its arguments.
        id: The message's id; or the request's ``Idempotency-Key``.
        key: The ordering key.
        ttl_s: The time to live, in seconds.
        delay_s: Seconds until the message is due.
        headers: What receivers get beside the arguments.
    """

    event: str
    args: Sequence[Any] = ()
    id: str | None = None
    key: str | None = None
    ttl_s: float | None = None
    delay_s: float | None = None
    headers: Mapping[str, str] | None = None


class Consumers(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Whose pause ends.

    Attributes:
        consumer: The consumer's name; ``None`` for the whole queue.
    """

    consumer: str | None = None


class Pause(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A pause of deliveries.

    Attributes:
        consumer: The consumer's name; ``None`` for the whole queue.
        until: The time at which it ends by itself, with a time zone; ``None`` for never.
    """

    consumer: str | None = None
    until: datetime | None = None


class Purge(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Messages that are to be removed.

    Attributes:
        upto: The last offset to remove; ``None``, which must be written, for all messages.
    """

    upto: _Offset | None


class Letters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Dead letters that are to be redriven.

    Attributes:
        consumer: Only those of this consumer; ``None`` for all.
        numbers: Only those with these numbers; ``None`` for all.
        rate_per_s: The number of messages that become due per second; ``None`` for all at once.
    """

    consumer: str | None = None
    numbers: Annotated[Sequence[_Offset], msgspec.Meta(max_length=1000)] | None = None
    rate_per_s: float | None = None


class Seek(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A move of a consumer.

    Attributes:
        to: ``"oldest"``, ``"new"``, an offset, or a time with its zone.
        consumer: The consumer's name.
    """

    to: str | _Offset
    consumer: str = "default"


class SocketsPage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of sockets.

    Attributes:
        namespace: The namespace.
        room: Only the sockets in this room; ``None`` for all.
        after: Only sockets whose ids come after this one.
        limit: The most to return.
    """

    namespace: str = "/"
    room: str | None = None
    after: str = ""
    limit: _Limit = 100


class Page(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of queues.

    Attributes:
        after: Only what comes after this name.
        limit: The most to return.
    """

    after: str = ""
    limit: _Limit = 100


class NumberedPage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of a list by number.

    Attributes:
        after: Only what comes after this number.
        limit: The most to return.
        consumer: Of dead letters, only those of this consumer.
    """

    after: _Offset = 0
    limit: _Limit = 100
    consumer: str | None = None
