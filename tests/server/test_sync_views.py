"""Views that are no coroutines emit: FastAPI's, Flask's under a2wsgi, Django's; the server is in the same process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

import waypost
from tests.server.model_client import ModelClient, running
from tests.support.require import require_module


def tell(io: waypost.Server) -> str:
    """What each view does."""
    io.from_thread.emit("told", 1)
    receipt = io.queue("mail").from_thread.emit("letter", 1)
    return f"message {receipt.offset}"


def fastapi(io: waypost.Server) -> Any:
    app = FastAPI()

    @app.get("/tell")
    def view() -> str:
        return tell(io)

    return app


def flask(io: waypost.Server) -> Any:
    app = require_module("flask").Flask("views")
    app.add_url_rule("/tell", view_func=lambda: tell(io), endpoint="tell")
    return require_module("a2wsgi").WSGIMiddleware(app)


def django(io: waypost.Server) -> Any:
    conf = require_module("django.conf")
    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="x", LOGGING_CONFIG=None)
    # Another test of this process may have configured it before, for itself.
    conf.settings.ALLOWED_HOSTS, conf.settings.ROOT_URLCONF = ["*"], __name__
    require_module("django").setup()
    answer = require_module("django.http").HttpResponse
    urlpatterns[:] = [require_module("django.urls").path("tell", lambda request: answer(tell(io)))]
    require_module("django.urls").clear_url_caches()
    return require_module("django.core.asgi").get_asgi_application()


urlpatterns: list[Any] = []


@pytest.mark.parametrize("make", [fastapi, flask, django])
async def test_a_view_emits(make: Callable[[waypost.Server], Any]) -> None:
    async with running(waypost.Server(drain_s=0.0)) as io:
        client = ModelClient(io)
        await client.connect()
        await io.queue("mail").get_consumer().create()
        transport = httpx2.ASGITransport(make(io))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as browser:
            for number in (1, 2):
                answer = await browser.get("/tell")
                assert answer.status_code == 200, answer.text
                assert f"message {number}" in answer.text
        assert await client.wait_for(2) == [["told", 1]] * 2
