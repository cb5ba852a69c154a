"""The server of Flask-SocketIO's example, with its Flask application: counters, a callback, a catch-all.

Run it with ``waypost serve examples.ported.flask_rooms:app``.
"""

from __future__ import annotations

from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, session

import waypost

__all__ = ["app", "io"]

Data = dict[str, Any]

web = Flask(__name__)
web.config["SECRET_KEY"] = "secret!"

io = waypost.Server()
app = io.asgi(WSGIMiddleware(web))  # type: ignore[arg-type] # a2wsgi types the scope more narrowly than ASGI does


@web.route("/login/<user>")
def login(user: str) -> str:
    """Begin a session of Flask."""
    session["user"] = user
    return f"welcome, {user}"


@web.route("/announce/<text>")
def announce(text: str) -> str:
    """Emit from a view, which runs in a thread."""
    io.from_thread.emit("my_response", {"data": text})
    return "announced"


def flask_session(handshake: waypost.Handshake) -> Data:
    """Return Flask's session, as the request that opened the connection had it."""
    with web.test_request_context(headers=dict(handshake.headers)):
        return dict(session)


async def respond(socket: waypost.Socket, to: waypost.Socket | waypost.Operator | waypost.Server, data: Any) -> None:
    """Emit a response with the number of the client's events, which is in its ``socket.data``."""
    socket.data["count"] = socket.data.get("count", 0) + 1
    await to.emit("my_response", {"data": data, "count": socket.data["count"]})


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    """Greet a client by the name in its session."""
    socket.data["user"] = flask_session(socket.handshake).get("user", "anonymous")
    await socket.emit("my_response", {"data": "Connected", "count": 0, "user": socket.data["user"]})


@io.event
async def my_event(socket: waypost.Socket, message: Data) -> None:
    """Answer the sender: Flask-SocketIO's ``emit`` without arguments."""
    await respond(socket, socket, message["data"])


@io.event
async def my_broadcast_event(socket: waypost.Socket, message: Data) -> None:
    """Answer everybody: ``broadcast=True``."""
    await respond(socket, io, message["data"])


@io.event
async def join(socket: waypost.Socket, message: Data) -> None:
    """Let the sender into a room: ``join_room``, ``rooms()``."""
    await socket.join(message["room"])
    await respond(socket, socket, "In rooms: " + ", ".join(sorted(socket.rooms)))


@io.event
async def leave(socket: waypost.Socket, message: Data) -> None:
    """Take the sender out of a room: ``leave_room``."""
    await socket.leave(message["room"])
    await respond(socket, socket, "In rooms: " + ", ".join(sorted(socket.rooms)))


@io.event
async def my_room_event(socket: waypost.Socket, message: Data) -> None:
    """Tell a room: ``to=room``."""
    await respond(socket, io.to(message["room"]), message["data"])


@io.event
async def close_room(socket: waypost.Socket, message: Data) -> None:
    """Tell a room that it closes, and empty it: ``close_room``."""
    room = io.in_(message["room"])
    await respond(socket, room, f"Room {message['room']} is closing.")
    await room.sockets_leave(message["room"])


@io.event
async def my_ping(socket: waypost.Socket) -> None:
    """Answer at once."""
    await socket.emit("my_pong")


@io.event
async def disconnect_request(socket: waypost.Socket) -> None:
    """Send the sender away when it has the response: ``callback=``."""
    await socket.call("my_response", {"data": "Disconnected!"}, timeout_s=5)
    await socket.disconnect()


HANDLED = {
    "my_event", "my_broadcast_event", "join", "leave", "my_room_event", "close_room", "my_ping", "disconnect_request",
}  # fmt: skip


@io.on_any
async def catch_all(socket: waypost.Socket, event: str, *args: Any) -> None:
    """Answer events that have no handler: ``*``. Events with a handler come here, too."""
    if event not in HANDLED:
        await respond(socket, socket, [event, *args])
