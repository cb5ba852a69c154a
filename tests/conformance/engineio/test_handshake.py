"""Engine.IO 4, "Handshake": what opens a session, and each way of being refused one."""

from __future__ import annotations

import json
import re

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.site import Door, Site, open_site
from tests.support.raw import PATH, RawPolling, open_polling, open_websocket, request, target, websocket

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    5: "Unsupported protocol version",
}


async def test_open_packet_over_polling(site: Site) -> None:
    answer = await request(site.port, "GET", target())
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body[:1] == b"0"
    opened = json.loads(answer.body[1:])
    assert re.fullmatch(r"[A-Za-z0-9_-]{20}(\.[0-9]+)?", opened.pop("sid"))
    assert opened == {
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 1_000_000,
    }


async def test_open_packet_over_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        assert re.fullmatch(r"[A-Za-z0-9_-]{20}(\.[0-9]+)?", raw.sid)
        assert raw.opened == {
            "sid": raw.sid,
            "upgrades": [],
            "pingInterval": 25_000,
            "pingTimeout": 20_000,
            "maxPayload": 1_000_000,
        }


async def test_each_session_has_its_own_id(site: Site) -> None:
    sids = set()
    for _ in range(5):
        async with open_polling(site.port) as polling:
            sids.add(polling.sid)
    assert len(sids) == 5


@pytest.mark.parametrize("path", ["/socket.io/", "/socket.io"])
async def test_path_with_and_without_slash(site: Site, path: str) -> None:
    answer = await request(site.port, "GET", f"{path}?EIO=4&transport=polling")
    assert (answer.status, answer.body[:1]) == (200, b"0")


@pytest.mark.parametrize("path", ["/", "/socket.iofoo/", "/socket.io/foo", "/foo/socket.io/"])
async def test_other_paths_are_not_served(site: Site, path: str) -> None:
    assert (await request(site.port, "GET", f"{path}?EIO=4&transport=polling")).status == 404


REFUSALS = {
    "no query": ("GET", PATH, 0),
    "no transport": ("GET", f"{PATH}?EIO=4", 0),
    "unknown transport": ("GET", target(transport="tube"), 0),
    "webtransport over HTTP": ("GET", target(transport="webtransport"), 0),
    "transport with the name of a property": ("GET", target(transport="constructor"), 0),
    "unknown transport comes before the session": ("GET", target(transport="tube", sid="unknown"), 0),
    "unknown session": ("GET", target(sid="unknown"), 1),
    "unknown session of a POST": ("POST", target(sid="unknown"), 1),
    "session with the name of a property": ("GET", target(sid="__proto__"), 1),
    "POST without a session": ("POST", target(), 2),
    "PUT without a session": ("PUT", target(), 2),
    "DELETE without a session": ("DELETE", target(), 2),
    "method comes before the revision": ("POST", target(EIO="5"), 2),
    "websocket without an upgrade": ("GET", target(transport="websocket"), 3),
    "no revision": ("GET", f"{PATH}?transport=polling", 5),
    "revision 3": ("GET", target(EIO="3"), 5),
    "revision 5": ("GET", target(EIO="5"), 5),
    "revision that is no number": ("GET", target(EIO="abc"), 5),
}


@pytest.mark.parametrize(("method", "where", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refusal_over_http(site: Site, method: str, where: str, code: int) -> None:
    answer = await request(site.port, method, where)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {"code": code, "message": MESSAGES[code]}


WEBSOCKET_REFUSALS = {
    "no transport": ({"transport": ""}, 0),
    "unknown transport": ({"transport": "tube"}, 0),
    "unknown session": ({"sid": "unknown"}, 1),
    "another transport than websocket": ({"transport": "polling"}, 3),
    "revision 3": ({"EIO": "3"}, 5),
    "revision that is no number": ({"EIO": "abc"}, 5),
}


@pytest.mark.parametrize(("query", "code"), WEBSOCKET_REFUSALS.values(), ids=WEBSOCKET_REFUSALS)
async def test_refusal_of_a_websocket(site: Site, query: dict[str, str], code: int) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with websocket(site.port, query):
            pass
    response = refusal.value.response
    assert response.status_code == 400
    assert json.loads(response.body or b"") == {"code": code, "message": MESSAGES[code]}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_do_not_touch_the_session(site: Site, method: str) -> None:
    async with open_polling(site.port) as raw:
        answer = await request(site.port, method, target(sid=raw.sid))
        assert (answer.status, answer.code) == (400, 3)
        assert await echoes(raw)


async def test_another_revision_than_the_session_has(site: Site) -> None:
    async with open_polling(site.port) as raw:
        answer = await request(site.port, "GET", target(sid=raw.sid, EIO="3"))
        assert (answer.status, answer.code) == (400, 3)
        assert await echoes(raw)


async def test_a_server_with_polling_only(door: Door) -> None:
    async with open_site(door, transports=["polling"]) as site:
        async with open_polling(site.port) as raw:
            assert raw.opened["upgrades"] == []
        with pytest.raises(InvalidStatus):
            async with websocket(site.port):
                pass


async def test_a_server_that_allows_no_upgrades(door: Door) -> None:
    async with open_site(door, allow_upgrades=False) as site:
        async with open_polling(site.port) as raw:
            assert raw.opened["upgrades"] == []
            with pytest.raises(InvalidStatus) as refusal:
                async with websocket(site.port, {"sid": raw.sid}):
                    pass
            assert json.loads(refusal.value.response.body or b"")["code"] == 3
            assert await echoes(raw)
        async with open_websocket(site.port) as raw_websocket:
            assert raw_websocket.opened["upgrades"] == []


async def test_a_server_with_websocket_only(door: Door) -> None:
    async with open_site(door, transports=["websocket"]) as site:
        assert (await request(site.port, "GET", target())).code == 0
        async with open_websocket(site.port) as raw:
            assert raw.opened["upgrades"] == []


async def test_options_show_in_the_open_packet(door: Door) -> None:
    options = {"ping_interval_s": 0.3, "ping_timeout_s": 0.2, "max_payload_bytes": 1_234}
    async with open_site(door, **options) as site, open_polling(site.port) as raw:
        assert (raw.opened["pingInterval"], raw.opened["pingTimeout"], raw.opened["maxPayload"]) == (300, 200, 1_234)


async def echoes(raw: RawPolling) -> bool:
    await raw.send("40")
    connected = await raw.receive()
    assert str(connected).startswith("40")
    await raw.send('421["echo","x"]')
    return await raw.receive() == '431["x"]'
