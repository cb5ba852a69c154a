"""The address at which other nodes reach one: this machine's, or what the store's URL says."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from tests.storage.postgres.mesh import SECRET, knots
from tests.support.server_process import free_port
from waypost.errors import ConfigurationError
from waypost.storage.postgres.mesh.dialing import parse_place
from waypost.storage.postgres.mesh.mesh import Mesh
from waypost.storage.postgres.mesh.opening import open_mesh
from waypost.storage.postgres.mesh.progress import Progress


class Engine:
    """A connection to an engine that has a secret."""

    local_host = "127.0.0.1"

    async def value(self, query: str) -> str:
        """Return the secret."""
        assert "secret" in query
        return SECRET.decode()


async def opened(node_address: str) -> tuple[Mesh, tuple[str, int]]:
    """Open a node's links."""
    engine = cast("Any", Engine())
    mesh, address = await open_mesh("the test's", "n", node_address, engine, Progress(), lambda ready: ready())
    return mesh, parse_place(address)


def _need_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as problem:
        pytest.skip(f"this machine has no IPv6: {problem}")


async def test_without_the_option_it_is_this_machines_address_on_its_connection_to_the_engine() -> None:
    mesh, (host, port) = await opened("")
    assert host == "127.0.0.1"
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()
    await mesh.close()


@pytest.mark.parametrize(("option", "host"), [("localhost", "localhost"), ("[::1]", "::1"), ("::1", "::1")])
async def test_a_host_alone_takes_a_free_port(option: str, host: str) -> None:
    if ":" in host:
        _need_ipv6()
    mesh, place = await opened(option)
    assert place[0] == host
    assert place[1]
    await mesh.close()


async def test_workers_with_the_same_port_take_those_after_it() -> None:
    first = free_port()
    meshes = [await opened(f"127.0.0.1:{first}") for _ in range(3)]
    ports = [port for _, (_, port) in meshes]
    assert ports[0] == first
    assert len({*ports}) == 3
    assert all(first <= port < first + 64 for port in ports)
    for mesh, _ in meshes:
        await mesh.close()


@pytest.mark.parametrize("option", ["127.0.0.1:x", "127.0.0.1:70000", ":8000", "192.0.2.1:8000", "127.0.0.1:-1"])
async def test_an_address_that_can_not_be_listened_on_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match="waypost_node_address"):
        await opened(option)


async def test_a_node_that_only_its_own_machine_reaches_says_so_when_others_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with knots("a", know=False) as (a,):
        a.mesh.came("near", "127.0.0.2:1")
        assert "waypost_node_address" not in caplog.text
        for name in ("far", "further"):
            a.mesh.came(name, "192.0.2.1:1")
        assert caplog.text.count("waypost_node_address") == 1
