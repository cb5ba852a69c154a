"""The consequences of a refused request: a line in the log with the remedy, the hooks, and the end of its session."""

from __future__ import annotations

import logging

from waypost.logs import by_client, fields, get_logger
from waypost.protocol.handshake import (
    MAX_HEADER_CHARACTERS,
    MAX_HEADERS,
    MAX_PARAMETERS,
    MAX_QUERY_CHARACTERS,
    Refuse,
)
from waypost.protocol.origins import explain_refusal
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.engine import Engine
from waypost.server.watching.counters import Counters, count
from waypost.server.watching.hooks import Hooks, RequestRefused
from waypost.text import printable
from waypost.transports.succession import Succession

__all__ = ["Refusals"]

logger = get_logger("waypost.asgi")

_MOST_WARNED = 100
"""The most origins whose refusal is logged as a warning. Clients choose what they send as their origin."""
_KEPT_CHARACTERS = 100
_SHOWN_CHARACTERS = 100

_REMEDIES = {
    "UNKNOWN_SID": (
        "the session has ended, or is another process's: a client connects again by itself; if it goes on, all "
        "requests of a client must reach one process (docs/serving.md, workers)"
    ),
    "BAD_HANDSHAKE_METHOD": "a session begins with GET: the client is no Socket.IO client",
    "TRANSPORT_HANDSHAKE_ERROR": "the transport of the query and the request differ: a proxy must pass on Upgrade",
    "TRANSPORT_MISMATCH": "the session has moved to another transport: a late request, or a client at fault",
    "PROTOCOL_MISMATCH": "the session speaks another revision of the protocol: the client is at fault",
    "METHOD": "a session takes GET and POST: the client is at fault",
    "ENCODED_BODY": "no compressed body is taken, as it may be huge: turn compression off in the client or proxy",
    "BINARY_BODY": "Socket.IO 3 and later send text over polling: the client is at fault",
    "CLOSING": "the server is being stopped, and the client connects again by itself",
    "FORBIDDEN": "the application's allow_request refused it",
    "ALLOW_REQUEST_FAILED": "the application's allow_request raised or took too long; the log has the error",
    "UNKNOWN_TRANSPORT": "the option transports says which are served",
    "UNSUPPORTED_PROTOCOL_VERSION": "clients of Socket.IO 2 need allow_eio3=True",
    "QUERY_TOO_LARGE": (
        f"a query: expected at most {MAX_QUERY_CHARACTERS} characters and {MAX_PARAMETERS} parameters; fixed"
    ),
    "HEADERS_TOO_LARGE": (
        f"headers: expected at most {MAX_HEADERS}, of {MAX_HEADER_CHARACTERS} characters in all; fixed"
    ),
    "JSONP": "JSONP needs allow_jsonp=True",
    "UPGRADES_DISABLED": "upgrades need allow_upgrades=True",
    "ADDRESS_LIMIT": (
        "the options max_connections_per_address and max_handshakes_per_address; "
        "if all clients come through a proxy, name it in trusted_proxies"
    ),
}
"""The remedies for the operator, by the context of the refusal."""


class Refusals:
    """Handles refused requests.

    Args:
        hooks: The observers of refused requests.
        counters: The server's counters.
        engine: The open connections.
        succession: The processes beside this one.
    """

    def __init__(self, hooks: Hooks, counters: Counters, engine: Engine, succession: Succession) -> None:
        self._hooks = hooks
        self._counters = counters
        self._succession = succession
        self._engine = engine
        self._warned: set[str] = set()

    def note(self, refuse: Refuse, handshake: Handshake) -> None:
        """Log a refusal, notify the observers, and close the session that the request broke."""
        self._log(refuse, handshake)
        count(self._counters.requests_refused, str(refuse.code))
        if refuse.context == "UNKNOWN_SID":
            self._succession.note_unknown_sid()
        hook = self._hooks.request_refused
        if hook.observers:
            hook.tell(RequestRefused(refuse.code, refuse.message, refuse.context, handshake))
        if refuse.ends_session is not None:
            connection = self._engine.get(refuse.ends_session)
            if connection is not None:
                connection.abort("transport error")

    def _log(self, refuse: Refuse, handshake: Handshake) -> None:
        level = logging.INFO
        reason = refuse.context
        if refuse.context == "INVALID_ORIGIN":
            reason = explain_refusal(handshake.headers, secure=handshake.secure)
            if self._is_new(handshake.headers.get("origin", "")):
                level = logging.WARNING
        elif refuse.context in _REMEDIES:
            reason = f"{refuse.context}: {_REMEDIES[refuse.context]}"
        address = printable(handshake.address, _SHOWN_CHARACTERS)
        logger.log(
            level,
            "refused a request from %s: %s (%s)",
            address,
            refuse.message,
            reason,
            extra=by_client(fields(address=address, code=refuse.context)),
        )

    def _is_new(self, origin: str) -> bool:
        begun = origin[:_KEPT_CHARACTERS]
        if begun in self._warned or len(self._warned) >= _MOST_WARNED:
            return False
        self._warned.add(begun)
        return True
