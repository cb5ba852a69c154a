"""A served application with the HTTP API mounted, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import aiohttp
from starlette.applications import Starlette
from starlette.routing import Mount

import waypost
from waypost.operations.http.api_keys import digest_of
from waypost.testing import serve
from waypost.testing.site import Site

SECRET = "a key of the tests"
ALL = (
    "emit",
    "queues:read",
    "queues:write",
    "queues:manage",
    "sockets:read",
    "sockets:manage",
    "state:read",
)


def key(**changes: Any) -> waypost.ApiKey:
    """Return the key of `SECRET`, which may do everything unless told otherwise."""
    return waypost.ApiKey(**{"name": "tests", "sha256": digest_of(SECRET), "scopes": ALL, **changes})


@dataclass
class Place:
    """A served application.

    Attributes:
        site: The application, for clients.
        http: Requests for it.
    """

    site: Site
    http: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: Any = None, *, secret: str | None = SECRET, **headers: str
    ) -> tuple[int, Any]:
        """Make a request; returns the status, and the body's JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret is not None:
            given["Authorization"] = f"Bearer {secret}"
        url = f"{self.site.url}/api{path}"
        async with self.http.request(method, url, json=body, headers=given) as answer:
            return answer.status, await answer.json(content_type=None)


@asynccontextmanager
async def serving(
    io: waypost.Server, keys: str | PathLike[str] | Sequence[waypost.ApiKey] | None = None, **options: Any
) -> AsyncIterator[Place]:
    """Serve a server with its API below ``/api``."""
    api = io.api(keys=[key()] if keys is None else keys, **options)
    async with (
        serve(io.asgi(Starlette(routes=[Mount("/api", api)]))) as site,
        aiohttp.ClientSession() as http,
    ):
        yield Place(site, http)
