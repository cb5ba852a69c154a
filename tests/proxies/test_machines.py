"""Two nodes on two machines behind one balancer: it may route by the label in session ids, and need not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

import waypost
from tests.proxies.proxy import Certificate, Proxy
from tests.support.mesh import serving_nodes

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

_UNROUTED = {
    "nginx": (("proxy_pass http://$waypost_machine;", "proxy_pass http://waypost;"),),
    "haproxy": (
        ("    use-server a if { url_param(sid) -m reg \\.a\\.[0-9]+$ }\n", ""),
        ("    use-server b if { url_param(sid) -m reg \\.b\\.[0-9]+$ }\n", ""),
    ),
}


async def _talk(url: str, certificate: Certificate, transports: Sequence[Literal["polling", "websocket"]]) -> int:
    """Be a client that asks a lot; return which node has answered."""
    context = certificate.context() if url.startswith("https") else None
    async with waypost.Client(url, transports=transports, ssl=context) as client:
        answers = {await client.call("worker") for _ in range(5)}
        assert await client.call("size", "x" * 200_000) == 200_000
        assert len(answers) == 1
        return int(answers.pop())


@pytest.mark.parametrize("routed", [True, False], ids=["routed", "unrouted"])
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_any_machine_may_get_any_request(
    kind: str, routed: bool, secure: bool, certificate: Certificate, tmp_path: Path
) -> None:
    async with serving_nodes(2, labels="ab") as (one, other):
        changes = () if routed else _UNROUTED[kind]
        proxy = Proxy(kind, one.port, certificate, tmp_path, secure=secure, changes=changes, second_port=other.port)
        await proxy.start()
        try:
            ways: list[list[Literal["polling", "websocket"]]] = [["polling"], ["polling", "websocket"], ["websocket"]]
            talks = [_talk(proxy.url, certificate, transports) for transports in ways * 4]
            assert set(await asyncio.gather(*talks)) == {1, 2}
        finally:
            await proxy.kill()
        forwarded = one.passed[2] + other.passed[2]
        assert one.passed[3] == other.passed[3] == 0
        assert forwarded == 0 if routed else forwarded > 0
