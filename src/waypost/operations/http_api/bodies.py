"""The JSON objects of the HTTP API's requests. An unknown member is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

__all__ = [
    "MOST_ID_CHARACTERS",
    "Batch",
    "Command",
    "Consumers",
    "Disconnect",
    "Emit",
    "Letters",
    "LettersOf",
    "LettersPage",
    "Move",
    "NumberedPage",
    "Page",
    "Pause",
    "Publish",
    "PublishTo",
    "Purge",
    "Seek",
    "SocketsPage",
]

MOST_ID_CHARACTERS = 255
"""The most characters of an id."""

_Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_ID_CHARACTERS)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(le=3_200_000_000)]
"""At most some hundred years."""
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
        id: An id of what the event is about, or the request's ``Idempotency-Key``: the namespace takes an id once
            within ten minutes.
    """

    event: str
    args: Sequence[Any] = ()
    namespace: str = "/"
    rooms: Sequence[str] | None = None
    except_: Sequence[str] = msgspec.field(default=(), name="except")
    volatile: bool = False
    id: _Id | None = None


class Disconnect(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
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
    id: _Id | None = None
    key: str | None = None
    ttl_s: _Seconds | None = None
    delay_s: _Seconds | None = None
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
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


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
        after: Only queues whose names come after this one.
        prefix: Only queues whose names begin with this text.
        limit: The most to return.
    """

    after: str = ""
    prefix: str = ""
    limit: _Limit = 100


class LettersOf(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Dead letters that are to be deleted.

    Attributes:
        consumer: Only those of this consumer; ``None`` for all.
    """

    consumer: str | None = None


class NumberedPage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of a list by number.

    Attributes:
        after: Only what comes after this number.
        limit: The most to return.
    """

    after: _Offset = 0
    limit: _Limit = 100


class LettersPage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of dead letters.

    Attributes:
        after: Only dead letters whose numbers come after this one.
        limit: The most to return.
        consumer: Only those of this consumer; ``None`` for all.
    """

    after: _Offset = 0
    limit: _Limit = 100
    consumer: str | None = None


class PublishTo(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A message, and the queue that it is for.

    Attributes:
        queue: The queue's name.
        message: The message.
    """

    queue: str
    message: Publish


class Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A command of a batch: an object with one member.

    Attributes:
        emit: An event, as for ``/emit``.
        publish: A message, as for ``/queues/{queue}/messages``.
        join: As for ``/sockets/join``.
        leave: As for ``/sockets/leave``.
        disconnect: As for ``/sockets/disconnect``.
    """

    emit: Emit | msgspec.UnsetType = msgspec.UNSET
    publish: PublishTo | msgspec.UnsetType = msgspec.UNSET
    join: Move | msgspec.UnsetType = msgspec.UNSET
    leave: Move | msgspec.UnsetType = msgspec.UNSET
    disconnect: Disconnect | msgspec.UnsetType = msgspec.UNSET


_Command: TypeAlias = Annotated[Command, msgspec.Meta(extra_json_schema={"minProperties": 1, "maxProperties": 1})]


class Batch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Several commands.

    Attributes:
        commands: The commands. Each is done whatever becomes of the others.
        parallel: Whether they may be done at the same time; otherwise one after the other, in this order.
    """

    commands: Annotated[Sequence[_Command], msgspec.Meta(min_length=1, max_length=1000)]
    parallel: bool = False
