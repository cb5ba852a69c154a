"""The addresses beside the service on which probes, metrics and the HTTP API are answered."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from waypost.serving.options import Address, ServeOptions, parse_address

__all__ = ["Part", "Side", "part_of", "sides_of", "urls_of"]

Part: TypeAlias = Literal["health", "metrics", "api"]
"""What is answered on a side address: ``/livez`` and ``/readyz``, ``/metrics``, or all below ``/api``."""


@dataclass(frozen=True, slots=True)
class Side:
    """An address beside the service.

    Attributes:
        address: The host and the port.
        parts: What is answered there.
    """

    address: Address
    parts: tuple[Part, ...]


def sides_of(serve: ServeOptions) -> list[Side]:
    """Return the side addresses of options. Parts with one address share it.

    Args:
        serve: The options.
    """
    texts: dict[Part, str | None] = {"health": serve.health, "metrics": serve.metrics, "api": serve.api}
    found: dict[Address, tuple[Part, ...]] = {}
    for part, text in texts.items():
        address = None if text is None else parse_address(text)
        if address is not None:
            found[address] = (*found.get(address, ()), part)
    return [Side(address, parts) for address, parts in found.items()]


def urls_of(bound: Mapping[tuple[Part, ...], Sequence[socket.socket]]) -> dict[str, str]:
    """Return the URL of each part, from the sockets that are bound for it.

    Args:
        bound: The sockets by the parts that are answered there.
    """
    urls: dict[str, str] = {}
    for parts, listeners in bound.items():
        host, port = listeners[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        urls.update(dict.fromkeys(parts, f"http://{shown}:{port}"))
    return urls


def part_of(path: str) -> Part | None:
    """Return the part that a request's path is for; ``None`` for a path that has none."""
    if path in ("/livez", "/readyz"):
        return "health"
    if path == "/metrics":
        return "metrics"
    return "api" if path == "/api" or path.startswith("/api/") else None
