"""The methods of the public classes are methods: what reads classes sees them, and a subclass may override them."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

import waypost

OF_ALL_THREE = [
    "on", "once", "event", "off", "register", "on_any", "off_any", "on_any_outgoing", "off_any_outgoing", "use",
    "to", "in_", "except_", "volatile", "local", "compress", "timeout", "emit", "call", "fetch_sockets",
    "sockets_join", "sockets_leave", "disconnect_sockets",
]  # fmt: skip
AMONG_SERVERS = ["on_server_side", "server_side_emit", "server_side_call"]


@pytest.mark.parametrize("owner", [waypost.Server, waypost.Namespace, waypost.ParentNamespace])
@pytest.mark.parametrize("name", OF_ALL_THREE)
def test_a_method_is_on_its_class_and_documented(owner: type, name: str) -> None:
    assert inspect.getdoc(getattr(owner, name))


@pytest.mark.parametrize("owner", [waypost.Server, waypost.Namespace])
@pytest.mark.parametrize("name", AMONG_SERVERS)
def test_events_among_servers_are_on_their_classes(owner: type, name: str) -> None:
    assert inspect.getdoc(getattr(owner, name))


def test_what_three_classes_share_stands_once() -> None:
    for name in OF_ALL_THREE:
        found = {getattr(owner, name) for owner in (waypost.Server, waypost.Namespace, waypost.ParentNamespace)}
        assert len(found) == 1, name


def test_help_shows_the_methods_with_their_signatures() -> None:
    text = pydoc.plain(pydoc.render_doc(waypost.Server))
    assert "async emit(self, event: 'str', *args: 'Any') -> 'None'" in text
    assert "to(self, *rooms: 'Names') -> 'Operator'" in text
    assert "Emit an event to the addressed clients" in text


async def test_a_double_of_a_server_has_its_methods_and_no_others() -> None:
    io = create_autospec(waypost.Server, instance=True)
    assert isinstance(io.emit, AsyncMock)
    await io.emit("news", 1)
    io.emit.assert_awaited_once_with("news", 1)
    with pytest.raises(TypeError):
        io.to(room="a")
    with pytest.raises(AttributeError):
        io.emitt  # noqa: B018


class Counting(waypost.Server):
    """A server that counts what is emitted through it."""

    emitted = 0

    async def emit(self, event: str, *args: Any) -> None:
        self.emitted += 1
        await super().emit(event, *args)


async def test_a_subclass_that_overrides_emit_is_asked() -> None:
    io = Counting()
    await io.start()
    try:
        await io.emit("news")
        assert io.emitted == 1
        # As its docstring says: operators and namespaces emit by themselves.
        await io.to("room").emit("news")
        await io.of("/").emit("news")
        assert io.emitted == 1
    finally:
        await io.close(drain_s=0)
