"""The client's request for a connection: the first HTTP request and the auth payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Handshake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The HTTP request that opened a connection, and the auth payload of one namespace.

    Attributes:
        headers: The request's headers, with lower-case names.
        query: The request's query parameters; of a repeated name, the first value.
        auth: The payload of the CONNECT packet without the recovery fields; an empty dict for none.
        url: The request's path and query.
        address: The client's address; ``""`` if the transport knows none.
        secure: Whether the request came over TLS.
        cross_origin: Whether the request had an ``Origin`` header of another host.
        time: The time of the request, in seconds since 1970.
        counted_for: The address that limits count it for, if that is not ``address``; else ``""``.
        from_middleware: The entries that ASGI middleware before this server added to the request's scope, such as
            ``session`` and ``user``; ``None`` for none. They stay in the process that took the request.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    auth: Any
    url: str
    address: str
    secure: bool
    cross_origin: bool
    time: float
    counted_for: str = ""
    from_middleware: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def cookies(self) -> dict[str, str]:
        """The request's cookies, as they were sent; of a repeated name, the first value, whose path fits best.

        Source: RFC 6265, sections 4.2.1 and 5.4.
        """
        cookies: dict[str, str] = {}
        for part in self.headers.get("cookie", "").split(";"):
            name, found, value = part.partition("=")
            if found:
                cookies.setdefault(name.strip(), _unquoted(value.strip()))
        return cookies

    @property
    def scope(self) -> dict[str, Any]:
        """The request as an ASGI scope, with what middleware before this server added: ``scope["session"]``.

        Each access makes a new dict. Starlette's ``HTTPConnection(scope)`` and ``Request(scope)`` take it. If the
        handshake comes from a store or another process, middleware's entries are missing.
        """
        path, _, query = self.url.partition("?")
        return {
            "type": "http",
            "method": "GET",
            "scheme": "https" if self.secure else "http",
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()],
            "client": (self.address, 0) if self.address else None,
            **(self.from_middleware or {}),
        }

    def storable(self) -> dict[str, Any]:
        """Return the attributes by name, without those that only this process can hold."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "from_middleware"}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
