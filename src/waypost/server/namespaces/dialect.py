"""What clients of older Socket.IO say and want to hear differently, all in one place.

Which dialect a client speaks follows from its revision of Engine.IO: 4 carries Socket.IO's protocol 5, of clients 3
and 4; revision 3 carries protocol 4, of client 2. Packets in between are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl

from waypost.errors import LimitExceeded
from waypost.protocol.packet import Packet

__all__ = ["Dialect", "dialect_of"]

_LONGEST_NAMESPACE = 255
_LONGEST_QUERY = 4_096


class Dialect(Protocol):
    """How a client is let into namespaces."""

    @property
    def connects_unasked(self) -> bool:
        """Whether the client is connected to ``"/"`` without asking for it."""
        ...

    @property
    def can_recover(self) -> bool:
        """Whether the client knows of recovery."""
        ...

    @property
    def longest_namespace(self) -> int:
        """How many characters the client may write for a namespace."""
        ...

    def read_connect(self, packet: Packet) -> Packet:
        """Read a CONNECT packet; gives it with the namespace's bare name and with the auth payload."""
        ...

    def socket_id(self, namespace: str, connection_sid: str, new_id: Callable[[], str]) -> str:
        """Make the id of a new socket."""
        ...

    def answer(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Give what the answer to a CONNECT packet carries."""
        ...

    def refusal(self, message: str, data: Any) -> Any:
        """Give what the refusal of a CONNECT packet carries."""
        ...


class _Protocol5:
    connects_unasked = False
    can_recover = True
    longest_namespace = _LONGEST_NAMESPACE

    def read_connect(self, packet: Packet) -> Packet:
        return packet

    def socket_id(self, namespace: str, connection_sid: str, new_id: Callable[[], str]) -> str:
        return new_id()

    def answer(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        return payload

    def refusal(self, message: str, data: Any) -> Any:
        return {"message": message} if data is None else {"message": message, "data": data}


class _Protocol4:
    connects_unasked = True
    can_recover = False
    longest_namespace = _LONGEST_NAMESPACE + _LONGEST_QUERY

    def read_connect(self, packet: Packet) -> Packet:
        # Its auth is a query behind the namespace: /chat?token=abc
        name, _, query = packet.namespace.partition("?")
        if len(name) > _LONGEST_NAMESPACE:
            raise LimitExceeded("characters in a namespace", _LONGEST_NAMESPACE, len(name))
        return packet._replace(namespace=name, data=dict(parse_qsl(query, keep_blank_values=True)))

    def socket_id(self, namespace: str, connection_sid: str, new_id: Callable[[], str]) -> str:
        # The client is not told the id of its socket; it makes the same one by itself.
        return connection_sid if namespace == "/" else f"{namespace}#{connection_sid}"

    def answer(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        return None

    def refusal(self, message: str, data: Any) -> Any:
        return message if data is None else data


_PROTOCOL_5: Dialect = _Protocol5()
_PROTOCOL_4: Dialect = _Protocol4()
_OLD_REVISION = 3


def dialect_of(revision: int) -> Dialect:
    """Return the dialect of clients that speak a revision of Engine.IO, 3 or 4."""
    return _PROTOCOL_4 if revision == _OLD_REVISION else _PROTOCOL_5
