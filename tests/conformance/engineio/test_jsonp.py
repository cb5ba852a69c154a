"""JSONP polling and the initial packet, each behind its option."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

import orjson
import pytest

from tests.conformance.engineio.test_revision3 import open_polling_3
from tests.conformance.site import Door, Site, open_site
from tests.support.raw import Answer, open_polling, open_websocket, request, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER_OPTIONS = {"allow_jsonp": True, "allow_eio3": True}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def unwrapped(answer: Answer, number: str) -> str:
    """Read a script as the browser's client does."""
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/javascript; charset=UTF-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    script = answer.body.decode()
    assert script.startswith(f"___eio[{number}](")
    assert script.endswith(");")
    return str(orjson.loads(script[len(f"___eio[{number}](") : -len(");")]))


def form(payload: str) -> bytes:
    """Write a form as the browser's client does."""
    return b"d=" + quote_plus(payload.replace("\\n", "\\\n").replace("\n", "\\n")).encode()


async def test_a_session_over_scripts_and_forms(site: Site) -> None:
    opened = unwrapped(await request(site.port, "GET", target(j="0")), "0")
    sid = json.loads(opened[1:])["sid"]
    answer = await request(site.port, "POST", target(j="0", sid=sid), FORM, form("40"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert unwrapped(await request(site.port, "GET", target(j="1", sid=sid)), "1").startswith("40{")
    sent = '42["say","line\\nbreak \\\\n \u2028 + & é"]'
    await request(site.port, "POST", target(j="1", sid=sid), FORM, form(sent))
    answer = await request(site.port, "GET", target(j="2", sid=sid))
    assert unwrapped(answer, "2") == sent.replace("say", "said")
    assert "\u2028" not in answer.body.decode()


async def test_revision_3(site: Site) -> None:
    opened = unwrapped(await request(site.port, "GET", target(j="0", EIO="3")), "0")
    sid = json.loads(opened[opened.index("{") : opened.index("}") + 1])["sid"]
    if "2:40" not in opened:
        assert unwrapped(await request(site.port, "GET", target(j="0", EIO="3", sid=sid)), "0") == "2:40"
    packet = '451-["say",{"_placeholder":true,"num":0}]'
    body = form(f"{len(packet)}:{packet}6:b4AQ==")
    await request(site.port, "POST", target(j="1", EIO="3", sid=sid), FORM, body)
    answer = unwrapped(await request(site.port, "GET", target(j="1", EIO="3", sid=sid)), "1")
    assert answer == f"{len(packet) + 1}:{packet.replace('say', 'said')}6:b4AQ=="


async def test_only_digits_reach_the_script(site: Site) -> None:
    answer = await request(site.port, "GET", target(j="alert(1)//2"))
    unwrapped(answer, "12")


@pytest.mark.parametrize("j", ["", "x", "1" * 20])
async def test_a_callback_without_a_number(site: Site, j: str) -> None:
    answer = await request(site.port, "GET", target(j=j))
    assert (answer.status, answer.code) == (400, 3)


@pytest.mark.parametrize("body", [b"", b"40", b"e=40", b"d=abc"])
async def test_a_bad_form_ends_the_session(site: Site, body: bytes) -> None:
    opened = unwrapped(await request(site.port, "GET", target(j="0")), "0")
    sid = json.loads(opened[1:])["sid"]
    assert (await request(site.port, "POST", target(j="0", sid=sid), FORM, body)).status == 400
    assert (await request(site.port, "GET", target(j="0", sid=sid))).code == 1


async def test_it_is_off_unless_allowed(door: Door) -> None:
    async with open_site(door) as site:
        answer = await request(site.port, "GET", target(j="0"))
        assert (answer.status, answer.code) == (400, 3)


@pytest.mark.parametrize(("packet", "text", "binary"), [("hello", "4hello", "bytes"), (b"\x01", "bAQ==", b"\x01")])
async def test_the_initial_packet_follows_the_open_packet(
    door: Door, packet: str | bytes, text: str, binary: str | bytes
) -> None:
    async with open_site(door, initial_packet=packet, allow_eio3=True) as site:
        answer = await request(site.port, "GET", target())
        assert answer.body.decode().split("\x1e")[1:] == [text]
        async with open_websocket(site.port) as raw:
            assert await raw.receive() == (binary if isinstance(packet, bytes) else text)


async def test_none_by_default(site: Site) -> None:
    async with open_polling(site.port), open_polling_3(site.port):
        answer = await request(site.port, "GET", target())
        assert b"\x1e" not in answer.body
