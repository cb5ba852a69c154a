"""The application that answers on an address beside the service."""

from __future__ import annotations

from waypost.application import Server
from waypost.operations.doors import api_with
from waypost.operations.http.key_file import KeyFile
from waypost.serving.options import ServeOptions
from waypost.serving.sides import Part, part_of
from waypost.transports.http_answer import AsgiApplication, Receive, Scope, Send

__all__ = ["side_app"]


def side_app(
    io: Server, parts: tuple[Part, ...], serve: ServeOptions, *, keys_may_come_later: bool = False
) -> AsgiApplication:
    """Make the ASGI application of a side address.

    Args:
        io: The server.
        parts: What is answered.
        serve: The options, with the keys of the HTTP API.
        keys_may_come_later: Whether keys that can't be read are only logged; the HTTP API lets nobody in then.

    Raises:
        ConfigurationError: The keys can't be read, or metrics need a package that is not installed.
    """
    made: dict[Part, AsgiApplication] = {}
    if "health" in parts:
        made["health"] = io.health()
    if "metrics" in parts:
        made["metrics"] = io.metrics()
    if "api" in parts and serve.api_key_file is not None:
        made["api"] = api_with(io, KeyFile(serve.api_key_file, may_come_later=keys_may_come_later))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        part = part_of(scope["path"])
        if part is None or part not in made:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        root = {"root_path": scope.get("root_path", "") + "/api"} if part == "api" else {}
        await made[part]({**scope, **root}, receive, send)

    return application
