"""The Engine.IO handshake: an HTTP request goes in, a decision comes out.

`decide` classifies each request to Waypost's path: a new session, a poll, a POST, an upgrade, a preflight, or a
request to refuse. Refusals have the codes and texts of Node's Engine.IO. Unlike Node's server, Waypost checks the
``Origin`` of every request, of WebSockets too: a page of a foreign site is refused unless it is allowed.

Source: Engine.IO protocol, revision 4 ("Transports", "Handshake").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qsl

import orjson

from waypost.protocol.allowed_origins import Allowed, AllowedOrigins
from waypost.protocol.jsonp import callback_number
from waypost.protocol.known_clients import is_python_client
from waypost.protocol.origins import is_same_origin
from waypost.protocol.revision import Revision, Revision3, Revision4

__all__ = [
    "MAX_HEADERS",
    "MAX_HEADER_CHARACTERS",
    "MAX_PARAMETERS",
    "MAX_QUERY_CHARACTERS",
    "Decision",
    "HandshakeRules",
    "Open",
    "Poll",
    "Post",
    "Preflight",
    "Refuse",
    "Request",
    "SessionView",
    "Upgrade",
    "cors_headers",
    "decide",
    "matches_path",
    "refusal_body",
]

_REVISION_4 = "4"
_REVISION_3 = "3"
_PYTHON_MAX_PACKETS = 16
"""python-engineio drops the connection if a response has more packets."""

MAX_QUERY_CHARACTERS = 16_384
MAX_PARAMETERS = 256
MAX_HEADERS = 128
MAX_HEADER_CHARACTERS = 32_768
"""The limits of a handshake, which a connection keeps as long as it lives. Few proxies pass on larger headers."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The parts of an HTTP request that the handshake reads.

    Attributes:
        method: The method, in upper case.
        query: The raw query string, without the question mark.
        headers: Values by lower-case name; several values of one name are joined by ``", "``, of cookies by ``"; "``.
        secure: Whether the request came over TLS, as far as this server knows.
        websocket: Whether the request asks for a WebSocket.
        parameters: The decoded parameters of the query; of a repeated name, the first value. A query that is too
            large has none.
    """

    method: str
    query: str
    headers: Mapping[str, str]
    secure: bool
    websocket: bool
    parameters: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", {} if _is_too_long(self.query) else _read_query(self.query))


def _is_too_long(query: str) -> bool:
    return len(query) > MAX_QUERY_CHARACTERS or query.count("&") >= MAX_PARAMETERS


def _read_query(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    if "%" in query or "+" in query:
        for name, value in parse_qsl(query, keep_blank_values=True):
            values.setdefault(name, value)
        return values
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if part and name not in values:
            values[name] = value
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeRules:
    """The rules by which a server accepts requests.

    Attributes:
        transports: The enabled transports: ``"polling"``, ``"websocket"`` or both.
        cors_allowed_origins: The foreign origins whose pages may connect: ``None`` for none, ``"*"`` for all (without
            cookies), or rules (with cookies). Pages of the server's own origin may always connect.
        allow_upgrades: Whether a polling session may move to a WebSocket.
        allow_eio3: Whether clients of Engine.IO 3 may connect.
        allow_jsonp: Whether a client may poll with JSONP.
        cors_credentials: Whether pages of listed origins may send cookies.
        cors_max_age_s: Seconds for which a browser may cache the response to a preflight.
        foreign: Decides on foreign origins.
    """

    transports: tuple[str, ...]
    cors_allowed_origins: Allowed
    allow_upgrades: bool = True
    allow_eio3: bool = False
    allow_jsonp: bool = False
    cors_credentials: bool = True
    cors_max_age_s: int = 600
    foreign: AllowedOrigins = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "foreign", AllowedOrigins(self.cors_allowed_origins))


@dataclass(frozen=True, slots=True)
class SessionView:
    """The facts about an existing session that the handshake needs.

    Attributes:
        transport: The session's transport; ``"polling"`` until an upgrade is complete.
        revision: The number of the session's Engine.IO revision: 3 or 4.
    """

    transport: str
    revision: int = 4


@dataclass(frozen=True, slots=True)
class Open:
    """Open a new session.

    Attributes:
        transport: The transport that the session opens on; with ``"websocket"`` the request becomes a WebSocket.
        revision: The revision of Engine.IO that the client speaks.
        jsonp: The number of the JSONP callback for the first response, or ``None`` without JSONP.
    """

    transport: str
    revision: Revision
    jsonp: str | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """Respond with the session's frames as soon as it has some.

    Attributes:
        sid: The id of an existing session.
        jsonp: The number of the JSONP callback for the response, or ``None`` without JSONP.
    """

    sid: str
    jsonp: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """Hand the request's body to the session.

    Attributes:
        sid: The id of an existing session.
        jsonp: The number of the JSONP callback if the body is a JSONP form, else ``None``.
    """

    sid: str
    jsonp: str | None = None


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Accept the WebSocket and offer it to the session as its new transport.

    A session that is already upgraded declines. The WebSocket is then accepted and closed, not refused: official
    clients and the conformance suite expect that.

    Attributes:
        sid: The id of an existing session.
    """

    sid: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """Respond to a browser's CORS preflight: status 204, no body, the headers from `cors_headers`."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the request; `refusal_body` returns the JSON body.

    Attributes:
        status: The HTTP status.
        code: Engine.IO's error code, 0 to 5.
        message: Engine.IO's text for that code.
        context: The reason, for logs and hooks; the client does not get it.
        ends_session: The id of a session that this request closes, or ``None``.
    """

    status: int
    code: int
    message: str
    context: str
    ends_session: str | None = None


Decision: TypeAlias = Open | Poll | Post | Upgrade | Preflight | Refuse


def _unknown_transport() -> Refuse:
    return Refuse(400, 0, "Transport unknown", "UNKNOWN_TRANSPORT")


def _bad_request(context: str, ends_session: str | None = None) -> Refuse:
    return Refuse(400, 3, "Bad request", context, ends_session)


def decide(
    request: Request,
    rules: HandshakeRules,
    find: Callable[[str], SessionView | None],
) -> Decision:
    """Classify a request to Waypost's path.

    Args:
        request: The request, before its body was read.
        rules: The rules of this server.
        find: Returns an existing session by its id, or ``None``. The id is untrusted and may be any text.

    Returns:
        The decision; the caller carries it out.
    """
    if request.method == "OPTIONS":
        return Preflight() if _origin_is_allowed(request, rules) else _bad_request("INVALID_ORIGIN")
    if _is_too_long(request.query):
        return Refuse(414, 3, "Bad request", "QUERY_TOO_LARGE")
    parameters = request.parameters
    transport = parameters.get("transport", "")
    if transport not in rules.transports:
        return _unknown_transport()
    if not _origin_is_allowed(request, rules):
        return _bad_request("INVALID_ORIGIN")
    jsonp: str | None = None
    if "j" in parameters and not request.websocket:
        jsonp = callback_number(parameters["j"])
        if jsonp is None or not rules.allow_jsonp:
            return _bad_request("JSONP")
    sid = parameters.get("sid", "")
    if not sid:
        return _open(request, rules, transport, jsonp)
    decision = _resume(request, transport, sid, find(sid), jsonp)
    if isinstance(decision, Upgrade) and not rules.allow_upgrades:
        return _bad_request("UPGRADES_DISABLED")
    return decision


def _open(request: Request, rules: HandshakeRules, transport: str, jsonp: str | None) -> Decision:
    if request.method != "GET":
        return Refuse(400, 2, "Bad handshake method", "BAD_HANDSHAKE_METHOD")
    if request.websocket != (transport == "websocket"):
        return _bad_request("TRANSPORT_HANDSHAKE_ERROR")
    size = sum(len(name) + len(value) for name, value in request.headers.items())
    if len(request.headers) > MAX_HEADERS or size > MAX_HEADER_CHARACTERS:
        return Refuse(431, 3, "Bad request", "HEADERS_TOO_LARGE")
    parameters = request.parameters
    eio = parameters.get("EIO", "")
    if eio == _REVISION_4 and is_python_client(parameters):
        return Open(transport, Revision4(_PYTHON_MAX_PACKETS), jsonp)
    if eio == _REVISION_4:
        return Open(transport, Revision4(), jsonp)
    if eio == _REVISION_3 and rules.allow_eio3:
        return Open(transport, Revision3(text_only=bool(parameters.get("b64")) or jsonp is not None), jsonp)
    return Refuse(400, 5, "Unsupported protocol version", "UNSUPPORTED_PROTOCOL_VERSION")


def _resume(request: Request, transport: str, sid: str, session: SessionView | None, jsonp: str | None) -> Decision:
    if session is None:
        return Refuse(400, 1, "Session ID unknown", "UNKNOWN_SID")
    if request.websocket != (transport == "websocket"):
        return _bad_request("TRANSPORT_HANDSHAKE_ERROR")
    if not request.websocket and session.transport != transport:
        return _bad_request("TRANSPORT_MISMATCH")
    if request.parameters.get("EIO", "") != str(session.revision):
        return _bad_request("PROTOCOL_MISMATCH")
    if request.websocket:
        return Upgrade(sid)
    if request.method == "GET":
        return Poll(sid, jsonp)
    if request.method != "POST":
        return _bad_request("METHOD")
    # A compressed body may be a decompression bomb, and no Engine.IO client compresses.
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return _bad_request("ENCODED_BODY", ends_session=sid)
    if _content_type(request) == "application/octet-stream" and str(session.revision) == _REVISION_4:
        return _bad_request("BINARY_BODY", ends_session=sid)
    return Post(sid, jsonp)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


# ------------------------------------------------------------------------------------------------ origins


def _origin_is_allowed(request: Request, rules: HandshakeRules) -> bool:
    text = request.headers.get("origin")
    if text is None or is_same_origin(text, request.headers.get("host", ""), secure=request.secure):
        return True
    return rules.foreign.admits(text)


def cors_headers(request: Request, rules: HandshakeRules) -> list[tuple[str, str]]:
    """Return the headers that let a foreign page read the response to its request.

    Args:
        request: The request; any decision about it.
        rules: The rules of this server.

    Returns:
        Names and values of headers to add to the response. The list allows nothing if the page has the server's own
        origin, if its origin is not allowed, or if no page sent the request.
    """
    origin = request.headers.get("origin")
    if rules.foreign.is_none:
        return []
    headers = [("Vary", "Origin")]
    if origin is None or not rules.foreign.admits(origin):
        return headers
    if rules.foreign.is_any:
        headers = [("Access-Control-Allow-Origin", "*")]
    else:
        headers.append(("Access-Control-Allow-Origin", origin))
        if rules.cors_credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
    if request.method == "OPTIONS":
        headers.append(("Access-Control-Allow-Methods", "GET, POST"))
        headers.append(("Access-Control-Max-Age", str(rules.cors_max_age_s)))
        names = request.headers.get("access-control-request-headers", "")
        if _HEADER_NAMES.fullmatch(names):
            headers.append(("Access-Control-Allow-Headers", names))
    return headers


def refusal_body(refuse: Refuse) -> bytes:
    """Return the body of a refusal: JSON with ``code`` and ``message``, of type ``application/json``."""
    return orjson.dumps({"code": refuse.code, "message": refuse.message})


# --------------------------------------------------------------------------------------------------- path


def matches_path(path: str, root_path: str, wanted: str) -> bool:
    """Return whether a request is for Waypost, wherever the application is mounted.

    This works for a plain ASGI application, for an application mounted at a prefix, and for one mounted at the wanted
    path itself (``Mount("/socket.io", io)``), whether ``path`` includes the prefix or not.

    Args:
        path: The request's path, from the ASGI scope.
        root_path: The prefix at which the application is mounted, from the ASGI scope.
        wanted: Waypost's path, with or without a slash at its end.

    Returns:
        Whether the request has that path, with or without a slash at its end.
    """
    root = root_path.rstrip("/")
    wanted = wanted.rstrip("/")
    holds_root = path == root or path.startswith(f"{root}/")
    rest = path[len(root) :] if holds_root else path
    return rest.removesuffix("/") == wanted or (rest in ("", "/") and root.endswith(wanted))
