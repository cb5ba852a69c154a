"""The client's request for a connection: the first HTTP request and the auth payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
