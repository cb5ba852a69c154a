"""The differences of older Socket.IO clients, all in one place.

The revision of Engine.IO tells a client's dialect: revision 4 carries Socket.IO's protocol 5 (clients 3 and 4), and
revision 3 carries protocol 4 (client 2). All other packets are the same.
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
    """The way a client connects to namespaces."""

    @property
    def connects_unasked(self) -> bool:
        """Whether the client joins ``"/"`` without a CONNECT packet."""
        ...

    @property
    def can_recover(self) -> bool:
        """Whether the client supports recovery."""
        ...

    @property
    def longest_namespace(self) -> int:
        """The most characters that the client may send as a namespace."""
        ...

    def read_connect(self, packet: Packet) -> Packet:
        """Return a CONNECT packet with the namespace's plain name and the auth payload."""
        ...

    def socket_id(self, namespace: str, connection_sid: str, new_id: Callable[[], str]) -> str:
        """Return the id of a new socket."""
        ...

    def answer(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Return the payload of the answer to a CONNECT packet."""
        ...

    def refusal(self, message: str, data: Any) -> Any:
        """Return the payload of the refusal of a CONNECT packet."""
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
        # The auth is a query after the namespace: /chat?token=abc
        name, _, query = packet.namespace.partition("?")
        if len(name) > _LONGEST_NAMESPACE:
            raise LimitExceeded("characters in a namespace", _LONGEST_NAMESPACE, len(name))
        return packet._replace(namespace=name, data=dict(parse_qsl(query, keep_blank_values=True)))

    def socket_id(self, namespace: str, connection_sid: str, new_id: Callable[[], str]) -> str:
        # The client gets no id from the server; it computes the same id itself.
        return connection_sid if namespace == "/" else f"{namespace}#{connection_sid}"

    def answer(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        return None

    def refusal(self, message: str, data: Any) -> Any:
        return message if data is None else data


_PROTOCOL_5: Dialect = _Protocol5()
_PROTOCOL_4: Dialect = _Protocol4()
_OLD_REVISION = 3


def dialect_of(revision: int) -> Dialect:
    """Return the dialect for a revision of Engine.IO, 3 or 4."""
    return _PROTOCOL_4 if revision == _OLD_REVISION else _PROTOCOL_5
