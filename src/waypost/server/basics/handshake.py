"""What a client said of itself when it came: the first HTTP request and its auth payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Handshake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The request a connection began with, and the auth payload of one namespace.

    Attributes:
        headers: The request's headers, names in lower case.
        query: The request's query parameters, the first value of each.
        auth: The CONNECT packet's payload without what recovery put there; an empty dict if there was none.
        url: The request's path with its query.
        address: The peer's address, or ``""`` where the transport knows none.
        secure: Whether it came over TLS.
        cross_origin: Whether the request had an ``Origin`` header that is not its host.
        time: When it came, in seconds since 1970.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    auth: Any
    url: str
    address: str
    secure: bool
    cross_origin: bool
    time: float
