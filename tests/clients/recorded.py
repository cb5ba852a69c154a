"""Clients that can't run here, by what their sources write and read: Swift, C++, Dart and .NET.

Each `Writing` is what a client puts on the wire: the form of its packets, the way its JSON library escapes, its ack
ids, its goodbye. The headers that an HTTP library adds by itself (CFNetwork, dart:io) were written by hand, not
captured. Each ``read_…`` function takes a packet apart by the client's own rules, which are not the specification's:
C++ and .NET look for the next bracket or comma.

Sources: socket.io-client-swift 16 with Starscream 4, socket.io-client-cpp 3 with websocketpp 0.8,
socket_io_client 2 for Dart with dart:io, SocketIOClient for .NET 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CLIENTS", "CONTENT", "TEXT", "Packet", "Writing"]

TEXT = "naïve ☃ a/b +"
CONTENT = b"\x00\x10\xff"
_INT32 = 1 << 31


@dataclass(frozen=True)
class Packet:
    """A Socket.IO packet as a client understands it.

    Attributes:
        type: The packet type, 0 to 6.
        namespace: The namespace; ``"/"`` for the main one.
        ack_id: The ack id, or ``None``.
        data: The JSON text, or ``""``.
    """

    type: int
    namespace: str
    ack_id: int | None
    data: str


def _int32(text: str) -> int:
    number = int(text)
    assert -_INT32 <= number < _INT32, f"{text} does not fit into 32 bits, which is all that this client reads"
    return number


def _first_of(text: str, characters: str, start: int) -> int:
    """Return where one of the characters comes first, or -1."""
    return min((at for one in characters if (at := text.find(one, start)) >= 0), default=-1)


def read_as_cpp(text: str) -> Packet:
    """Read a message as C++ does: by the next bracket, quote or slash; ack ids have 32 bits."""
    kind, start = int(text[1]), 2
    if kind in (5, 6):
        start = text.index("-") + 1
    json, namespace = _first_of(text, '{["/', start), "/"
    if json < 0:
        return Packet(kind, namespace, None, "")
    if text[json] == "/":
        comma = text.find(",")
        if comma < 0:
            return Packet(kind, text[json:], None, "")
        namespace, start = text[json:comma], comma + 1
        json = _first_of(text, '"[{', start)
        if json < 0:
            return Packet(kind, namespace, None, "")
    return Packet(kind, namespace, _int32(text[start:json]) if start < json else None, text[json:])


def read_as_dotnet(text: str) -> Packet:
    """Read a message as .NET does: by the last comma before the first bracket; ack ids have 32 bits."""
    kind, rest = int(text[1]), text[2:]
    if kind in (5, 6):
        rest = rest[rest.index("-") + 1 :]
    bracket = rest.find("{" if kind in (0, 4) else "[")
    if bracket < 0:
        return Packet(kind, rest.rstrip(",") or "/", None, "")
    comma = rest.rfind(",", 0, bracket)
    digits = rest[comma + 1 : bracket]
    return Packet(kind, rest[:comma] if comma >= 0 else "/", _int32(digits) if digits else None, rest[bracket:])


def read_in_order(text: str) -> Packet:
    """Read a message as Swift and Dart do: attachments, a namespace that begins with a slash, digits, JSON."""
    kind, rest, namespace = int(text[1]), text[2:], "/"
    if kind in (5, 6):
        rest = rest.partition("-")[2]
    if rest.startswith("/"):
        namespace, _, rest = rest.partition(",")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return Packet(kind, namespace, int(digits) if digits else None, rest[len(digits) :])


@dataclass(frozen=True)
class Writing:
    """What a client writes, and how it reads.

    Attributes:
        name: The client.
        read: Takes a packet apart by the client's rules.
        websocket: Its WebSocket handshake; ``{host}`` is the server's address.
        connect: Its CONNECT for the main namespace with the auth ``{"rooms": ["r"], "token": "a/b"}``.
        connect_other: Its CONNECT for ``/other`` without auth.
        echo: Its event ``echo`` with `TEXT`, 7, ``{"a": [1]}`` and `CONTENT`, with an ack id.
        ack_id: That ack id.
        acknowledge: Its ack with ``["answer", CONTENT]`` of ``{id}``.
        leave_other: How it leaves ``/other``.
        polling: Its polling handshake, if it polls.
        post: The head of its POST, with ``{sid}`` and ``{length}``.
        batches: Whether its POST holds all that waits; else each text and each packet's attachments have their own.
        fragment_bytes: How long the parts are into which it cuts a WebSocket message; ``None`` for whole ones.
    """

    name: str
    read: Callable[[str], Packet]
    websocket: str
    connect: str
    connect_other: str
    echo: str
    ack_id: int
    acknowledge: str
    leave_other: str
    polling: str = ""
    post: str = ""
    batches: bool = True
    fragment_bytes: int | None = None


SWIFT = Writing(
    name="Swift",
    read=read_in_order,
    # Starscream names the URL itself as the origin, with the scheme of a WebSocket.
    websocket=(
        "GET /socket.io/?transport=websocket&EIO=4{sid} HTTP/1.1\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Origin: ws://{host}\r\n"
        "Host: {host}\r\n\r\n"
    ),
    connect='40/,{"rooms":["r"],"token":"a\\/b"}',
    connect_other="40/other,",
    echo='451-0["echo","naïve ☃ a\\/b +",7,{"a":[1]},{"num":0,"_placeholder":true}]',
    ack_id=0,
    acknowledge='461-{id}["answer",{"_placeholder":true,"num":0}]',
    leave_other="41/other,",
    polling=(
        "GET /socket.io/?transport=polling&b64=1&EIO=4{sid} HTTP/1.1\r\n"
        "Host: {host}\r\n"
        "Accept: */*\r\n"
        "Connection: keep-alive\r\n"
        "User-Agent: Shop/1 CFNetwork/1410.0.3 Darwin/22.6.0\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\n"
        "Accept-Encoding: gzip, deflate\r\n\r\n"
    ),
    post=(
        "POST /socket.io/?transport=polling&b64=1&EIO=4{sid} HTTP/1.1\r\n"
        "Host: {host}\r\n"
        "Content-Type: text/plain; charset=UTF-8\r\n"
        "Connection: keep-alive\r\n"
        "Accept: */*\r\n"
        "User-Agent: Shop/1 CFNetwork/1410.0.3 Darwin/22.6.0\r\n"
        "Content-Length: {length}\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\n"
        "Accept-Encoding: gzip, deflate\r\n\r\n"
    ),
)

CPP = Writing(
    name="C++",
    read=read_as_cpp,
    websocket=(
        "GET /socket.io/?EIO=4&transport=websocket&t=1700000000 HTTP/1.1\r\n"
        "Connection: Upgrade\r\n"
        "Host: {host}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Upgrade: websocket\r\n"
        "User-Agent: WebSocket++/0.8.2\r\n\r\n"
    ),
    connect='40{"rooms":["r"],"token":"a/b"}',
    connect_other="40/other",
    echo='451-1["echo","naïve ☃ a/b +",7,{"a":[1]},{"_placeholder":true,"num":0}]',
    ack_id=1,
    acknowledge='461-{id}["answer",{"_placeholder":true,"num":0}]',
    leave_other="41/other",
)

DART = Writing(
    name="Dart",
    read=read_in_order,
    websocket=(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        "user-agent: Dart/3.5 (dart:io)\r\n"
        "connection: Upgrade\r\n"
        "cache-control: no-cache\r\n"
        "accept-encoding: gzip\r\n"
        "content-length: 0\r\n"
        "sec-websocket-version: 13\r\n"
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "host: {host}\r\n"
        "upgrade: websocket\r\n\r\n"
    ),
    connect='40{"rooms":["r"],"token":"a/b"}',
    connect_other="40/other,",
    echo='451-0["echo","naïve ☃ a/b +",7,{"a":[1]},{"_placeholder":true,"num":0}]',
    ack_id=0,
    acknowledge='461-{id}["answer",{"_placeholder":true,"num":0}]',
    leave_other="41/other,",
)

DOTNET = Writing(
    name=".NET",
    read=read_as_dotnet,
    websocket=(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        "Host: {host}\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
    connect='40{"rooms":["r"],"token":"a/b"}',
    connect_other="40/other,",
    echo='451-1["echo","na\\u00EFve \\u2603 a/b \\u002B",7,{"a":[1]},{"_placeholder":true,"num":0}]',
    ack_id=1,
    acknowledge='461-{id}["answer",{"_placeholder":true,"num":0}]',
    leave_other="41/other,",
    polling="GET /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    post=(
        "POST /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\n"
        "Host: {host}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: {length}\r\n\r\n"
    ),
    batches=False,
    fragment_bytes=16,
)

CLIENTS = (SWIFT, CPP, DART, DOTNET)
