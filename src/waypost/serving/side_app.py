"""The application that answers on an address beside the service."""

from __future__ import annotations

from waypost.application import Server
from waypost.serving.options import ServeOptions
from waypost.serving.sides import Part, part_of
from waypost.transports.http_answer import AsgiApplication, Receive, Scope, Send

__all__ = ["side_app"]


def side_app(io: Server, parts: tuple[Part, ...], serve: ServeOptions) -> AsgiApplication:
    """Make the ASGI application of a side address.

    Args:
        io: The server.
        parts: What is answered.
        serve: The options, with the keys of the HTTP API.

    Raises:
        ConfigurationError: The keys can't be read, or metrics need a package that is not installed.
    """
    made: dict[Part, AsgiApplication] = {}
    if "health" in parts:
        made["health"] = io.health()
    if "metrics" in parts:
        made["metrics"] = io.metrics()
    if "api" in parts and serve.api_key_file is not None:
        made["api"] = io.api(keys=serve.api_key_file)

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
