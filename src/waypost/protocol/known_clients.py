"""The clients of Socket.IO that differ from the JavaScript client in recovery, and how each is recognised.

A client that knows nothing of recovery takes an offset for an argument of the event. So a client gets offsets only if
it can recover. All that a server sees of a client before the first event is the request that opens the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["KNOWN_CLIENTS", "OFFSETS_PARAMETER", "KnownClient", "find_client", "gets_offsets", "is_python_client"]

OFFSETS_PARAMETER = "waypost-offsets"
"""The query parameter by which a client itself says whether it gets offsets: ``yes`` or ``no``."""

_Texts: TypeAlias = Mapping[str, str]

_TUNGSTENITE_HEADERS = ("host", "connection", "upgrade", "sec-websocket-version", "sec-websocket-key")


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client that is told apart from the JavaScript client.

    Attributes:
        name: The client's name.
        takes_offsets: Whether its handlers ignore an offset behind an event's arguments.
        recovers: Whether it sends its private id and offset when it comes back.
        sends: Returns whether it sends a request with this query and these headers.
        queue_caveat: What is wrong with its acknowledgements of a queue's messages, after "it"; ``""`` if nothing is.
    """

    name: str
    takes_offsets: bool
    recovers: bool
    sends: Callable[[_Texts, _Texts], bool]
    queue_caveat: str = ""


def is_python_client(query: _Texts) -> bool:
    """Return whether a request comes from the client of python-socketio.

    Its parameter ``t`` is a time as a decimal number; the JavaScript client sends letters there.

    Args:
        query: The query's parameters.
    """
    seconds, point, fraction = query.get("t", "").partition(".")
    return bool(point) and seconds.isdigit() and fraction.isdigit()


def _is_dart(query: _Texts, headers: _Texts) -> bool:
    agent = headers.get("user-agent", "")
    return agent.startswith("Dart/") and "dart:io" in agent


def _is_java(query: _Texts, headers: _Texts) -> bool:
    # React Native on Android sends the same user agent, and is the JavaScript client. Its polls have a "t", and its
    # WebSocket has an origin.
    return headers.get("user-agent", "").startswith("okhttp/") and "t" not in query and "origin" not in headers


def _is_cpp(query: _Texts, headers: _Texts) -> bool:
    return headers.get("user-agent", "").startswith("WebSocket++/")


def _is_rust(query: _Texts, headers: _Texts) -> bool:
    if "user-agent" in headers or "origin" in headers:
        return False
    if query.get("transport") == "polling":
        return query.get("t", "").isdecimal()
    # The .NET client has the same headers, and can't recover either; its handlers would not mind an offset.
    # Node's WebSocket has no user agent either, but offers compression, and has its headers in another order.
    return "sec-websocket-extensions" not in headers and tuple(headers)[:5] == _TUNGSTENITE_HEADERS


_ANSWERS_UNHEARD = "acknowledges messages that it has no handler for, and these are lost; register handlers first"
_NEVER_ANSWERS = (
    "can't acknowledge events if it is rust_socketio, and then each message comes until it is a dead letter"
)

KNOWN_CLIENTS: tuple[KnownClient, ...] = (
    KnownClient("python-socketio", False, False, lambda query, headers: is_python_client(query), _ANSWERS_UNHEARD),
    KnownClient("Dart", False, False, _is_dart),
    KnownClient("Java", True, False, _is_java),
    KnownClient("C++", True, False, _is_cpp, _ANSWERS_UNHEARD),
    KnownClient("rust_socketio, .NET over WebSocket", False, False, _is_rust, _NEVER_ANSWERS),
)
"""All clients that are told apart. A client that is none of these is treated as the JavaScript client."""


def find_client(query: _Texts, headers: _Texts) -> KnownClient | None:
    """Return the known client that sends such a request; ``None`` for the JavaScript client and unknown ones.

    Args:
        query: The parameters of the query, by name.
        headers: The headers, by lower-case name, in the order in which they came.
    """
    for client in KNOWN_CLIENTS:
        if client.sends(query, headers):
            return client
    return None


def gets_offsets(query: _Texts, headers: _Texts) -> bool:
    """Return whether a client gets offsets, and so can recover.

    Args:
        query: As for `find_client`.
        headers: As for `find_client`.
    """
    said = query.get(OFFSETS_PARAMETER)
    if said in ("yes", "no"):
        return said == "yes"
    client = find_client(query, headers)
    return client is None or (client.takes_offsets and client.recovers)
