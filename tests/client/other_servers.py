"""The same application on Waypost and on python-socketio, for our client to meet; Node's is interop/js/server.js.

``uvicorn tests.client.other_servers:ours`` and ``uvicorn tests.client.other_servers:theirs`` run them.
"""

from __future__ import annotations

from typing import Any

import socketio  # type: ignore[import-untyped]

import waypost
from waypost.checking.constraints import Transport

PATHS = ("/socket.io/", "/msgpack/", "/polling/", "/websocket/")
"""Where a server is with its defaults, with msgpack, with polling only, and with WebSocket only."""


def _ours(path: str) -> waypost.Server:
    only: dict[str, list[Transport]] = {"/polling/": ["polling"], "/websocket/": ["websocket"]}
    io = waypost.Server(
        path=path,
        parser="msgpack" if path == "/msgpack/" else "json",
        transports=only.get(path, ["polling", "websocket"]),
        cookie="sticky",
        ping_interval_s=0.2,
        ping_timeout_s=5,
        drain_s=0,
    )
    for namespace in (io.of("/"), io.of("/other")):
        _application(namespace)
    return io


def _application(namespace: waypost.Namespace) -> None:
    @namespace.use
    async def gate(socket: waypost.Socket) -> None:
        if "refuse" in socket.handshake.auth:
            raise waypost.ConnectionRefused("not you", {"because": socket.handshake.auth["refuse"]})

    @namespace.event
    async def echo(socket: waypost.Socket, *args: Any) -> Any:
        return args

    @namespace.event
    async def whoami(socket: waypost.Socket) -> Any:
        return {"namespace": socket.namespace, "auth": socket.handshake.auth}

    @namespace.event
    async def request(socket: waypost.Socket) -> Any:
        headers, query = socket.handshake.headers, socket.handshake.query
        return {
            "cookie": headers.get("cookie", ""),
            "tenant": query.get("tenant"),
            "extra": headers.get("x-extra", ""),
        }

    _sending(namespace)


def _sending(namespace: waypost.Namespace) -> None:
    @namespace.event
    async def repeat(socket: waypost.Socket, n: int, value: Any) -> int:
        for i in range(n):
            await socket.emit("repeated", i, value)
        return n

    @namespace.event
    async def shout(socket: waypost.Socket, event: str, args: list[Any]) -> bool:
        await namespace.emit(event, *args)
        return True

    @namespace.event
    async def ask(socket: waypost.Socket, event: str, *args: Any) -> Any:
        answer = await socket.call(event, *args, timeout_s=5)
        return list(answer) if isinstance(answer, tuple) else [] if answer is None else [answer]

    @namespace.event
    async def whisper(socket: waypost.Socket, event: str, args: list[Any]) -> None:
        await socket.volatile.emit(event, *args)

    @namespace.event
    async def leave(socket: waypost.Socket) -> None:
        await socket.disconnect()


def _theirs(path: str, other: Any) -> Any:
    transports = {"/polling/": ["polling"], "/websocket/": ["websocket"]}.get(path)
    sio = socketio.AsyncServer(
        async_mode="asgi",
        transports=transports,
        cookie="sticky",
        ping_interval=0.2,
        ping_timeout=5,
        logger=False,
    )
    for namespace in ("/", "/other"):
        _their_application(sio, namespace)
    return socketio.ASGIApp(sio, other, socketio_path=path)


def _their_application(sio: Any, namespace: str) -> None:
    auths: dict[str, Any] = {}

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        auths[sid] = auth or {}
        if "refuse" in auths[sid]:
            raise socketio.exceptions.ConnectionRefusedError("not you", {"because": auths[sid]["refuse"]})

    async def echo(sid: str, *args: Any) -> Any:
        return args

    async def whoami(sid: str) -> Any:
        return {"namespace": namespace, "auth": auths[sid]}

    async def request(sid: str) -> Any:
        environ = sio.get_environ(sid, namespace)
        query = dict(pair.split("=") for pair in environ["QUERY_STRING"].split("&"))
        return {
            "cookie": environ.get("HTTP_COOKIE", ""),
            "tenant": query.get("tenant"),
            "extra": environ.get("HTTP_X_EXTRA", ""),
        }

    async def leave(sid: str) -> None:
        await sio.disconnect(sid, namespace=namespace)

    for handler in (connect, echo, whoami, request, leave):
        sio.on(handler.__name__, handler, namespace=namespace)
    _their_sending(sio, namespace)


def _their_sending(sio: Any, namespace: str) -> None:
    async def repeat(sid: str, n: int, value: Any) -> int:
        for i in range(n):
            await sio.emit("repeated", (i, value), to=sid, namespace=namespace)
        return n

    async def shout(sid: str, event: str, args: list[Any]) -> bool:
        await sio.emit(event, tuple(args), namespace=namespace)
        return True

    async def ask(sid: str, event: str, *args: Any) -> Any:
        answer = await sio.call(event, args, to=sid, namespace=namespace, timeout=5)
        return list(answer) if isinstance(answer, tuple) else [] if answer is None else [answer]

    for handler in (repeat, shout, ask):
        sio.on(handler.__name__, handler, namespace=namespace)


ours: Any = None
theirs: Any = None
for _path in PATHS:
    ours = _ours(_path).asgi(ours) if ours else _ours(_path)
    if _path != "/msgpack/":  # python-socketio's needs a package more
        theirs = _theirs(_path, theirs)
