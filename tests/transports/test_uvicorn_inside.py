"""Where uvicorn has changed inside, its own protocols serve, and one warning says so."""

from __future__ import annotations

import ast
import inspect
import logging
import sys
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

import waypost
from tests.support.mesh import Mesh
from waypost.transports import uvicorn_inside
from waypost.transports.direct_polling import Exchange
from waypost.transports.direct_websocket import DirectWebSocket
from waypost.transports.handover.handover import Handover
from waypost.transports.uvicorn_inside import choose_protocols, find_missing
from waypost.transports.uvicorn_protocols import GuardedHttp, GuardedWebSocket
from waypost.transports.uvicorn_runner import bind, configure, running

SANSIO = "uvicorn.protocols.websockets.websockets_sansio_impl"


def needed(class_name: str) -> set[str]:
    [names] = [names for (_, name), names in uvicorn_inside._NEEDED.items() if name == class_name]
    return set(names.split())


def used_of_its_base(found: type) -> set[str]:
    """What a class takes from uvicorn's class that it is made of: attributes of ``self`` and ``super()``."""
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(found)))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "self")
            or (isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super")
        )
    }
    overridden = {name for name in vars(found) if not name.startswith("__") and hasattr(found.__base__, name)}
    return (used | overridden) - {name for name in vars(found) if not hasattr(found.__base__, name)}


def test_the_installed_uvicorn_has_all_that_is_needed(caplog: pytest.LogCaptureFixture) -> None:
    assert find_missing() == []
    assert choose_protocols() == (GuardedHttp, DirectWebSocket)
    assert waypost.DirectWebSocket is DirectWebSocket
    assert caplog.messages == []


def test_all_that_is_used_is_looked_for() -> None:
    assert used_of_its_base(GuardedHttp) - needed("HttpToolsProtocol") == set()
    assert used_of_its_base(GuardedWebSocket) - needed("WebSocketsSansIOProtocol") == set()
    assert set(Exchange.__annotations__) - needed("RequestResponseCycle") == set()


def test_a_class_that_is_gone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, SANSIO, None)
    assert find_missing() == [f"{SANSIO}.WebSocketsSansIOProtocol"]
    assert choose_protocols() == ("auto", "auto")
    [said] = caplog.messages
    assert f"it lacks {SANSIO}.WebSocketsSansIOProtocol" in said


def test_attributes_that_are_not_assigned_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any) -> None:
        self.scope = {}

    monkeypatch.setattr(RequestResponseCycle, "__init__", init)
    assert "RequestResponseCycle.default_headers" in find_missing()
    assert "RequestResponseCycle.scope" not in find_missing()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_uvicorns_own_protocols_serve_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, transport: Any
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.delattr(WebSocketsSansIOProtocol, "handle_parser_exception")
    io = waypost.Server(drain_s=0)
    io.on("echo", lambda socket, *args: list(args))
    async with running(io, io, bind("127.0.0.1", 0)) as url, waypost.Client(url, transports=[transport]) as client:
        assert await client.call("echo", "text", b"bytes") == ["text", b"bytes"]
    [said] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "WebSocketsSansIOProtocol.handle_parser_exception" in said


async def test_who_names_our_websocket_gets_uvicorns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(WebSocketsSansIOProtocol, "handle_parser_exception")
    assert hasattr(waypost, "DirectWebSocket")
    monkeypatch.delattr(waypost, "DirectWebSocket")  # as in a process that has not asked for it yet
    chosen: Any = waypost.DirectWebSocket
    assert chosen is WebSocketsSansIOProtocol
    assert len(caplog.messages) == 1


def test_several_workers_need_a_uvicorn_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uvicorn_inside._NEEDED, (SANSIO, "Gone"), "anything")
    io = waypost.Server()
    with pytest.raises(waypost.ConfigurationError, match="with --workers 1"):
        configure(io, io.options, Handover(Mesh().add(1)))
    configure(io, io.options)
