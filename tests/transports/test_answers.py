"""HTTP answers: compression of polls, the cookie, CORS, and what a body may do."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of
from tests.sim.clock import VirtualLoop
from tests.support.waiting import until
from tests.transports.asgi_client import POLLING, ask, serving, sid_of, websocket
from waypost.transports import succession
from waypost.transports.http_answer import choose_encoding, compress


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"),
        ("gzip;q=0", None),
        ("gzip; q = 0.0", None),
        ("br", None),
        ("identity", None),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=nonsense", None),
        (";;;,,=,q=1", None),
    ],
)
def test_the_encoding_that_the_client_likes_best(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen


@pytest.mark.parametrize("size", [0, 1_000, 200_000])
async def test_what_is_compressed_can_be_read(size: int) -> None:
    body = b"x" * size
    assert gzip.decompress(await compress(body, "gzip")) == body
    assert zlib.decompress(await compress(body, "deflate")) == body


def speaking_server(**options: Any) -> waypost.Server:
    """A server that greets everyone, and again those who ask, with as many characters as they want."""
    io = waypost.Server(drain_s=0.0, recovery=None, **options)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.emit("greeting", "x" * auth["size"])

    @io.event
    async def greet(socket: waypost.Socket, size: int) -> None:
        await socket.emit("greeting", "x" * size)

    return io


async def greeting(io: waypost.Server, size: int, accept: str) -> tuple[str | None, bytes]:
    """Connect, ask for a greeting, and return the encoding and the body of the poll with it."""
    sid = sid_of(await ask(io))
    headers = {"Accept-Encoding": accept}
    await ask(io, f"{POLLING}&sid={sid}", method="POST", body=[b'40{"size":0}'])
    while b"40{" not in (await ask(io, f"{POLLING}&sid={sid}")).body:
        pass
    await ask(io, f"{POLLING}&sid={sid}", method="POST", body=[b'42["greet",%d]' % size])
    answer = await ask(io, f"{POLLING}&sid={sid}", headers=headers)
    while b"x" not in (body := gunzip(answer.body, answer.headers.get("content-encoding"))):
        answer = await ask(io, f"{POLLING}&sid={sid}", headers=headers)
    assert int(answer.headers["content-length"]) == len(answer.body)
    return answer.headers.get("content-encoding"), body


def gunzip(body: bytes, encoding: str | None) -> bytes:
    return gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding else body


@pytest.mark.parametrize(
    ("options", "size", "accept", "encoding"),
    [
        ({}, 4_000, "gzip", "gzip"),
        ({}, 4_000, "deflate", "deflate"),
        ({}, 100_000, "gzip", "gzip"),
        ({}, 4_000, "gzip;q=0", None),
        ({}, 4_000, "", None),
        ({}, 500, "gzip", None),
        ({"http_compression_threshold_bytes": 100}, 500, "gzip", "gzip"),
        ({"http_compression": False}, 4_000, "gzip", None),
    ],
)
async def test_large_polls_are_compressed(
    options: dict[str, Any], size: int, accept: str, encoding: str | None
) -> None:
    io = speaking_server(**options)
    async with serving(io):
        used, body = await greeting(io, size, accept)
    assert used == encoding
    assert b"x" * size in body


@pytest.mark.parametrize("recovery", [waypost.Recovery(), None], ids=["with a pid", "without"])
async def test_a_secret_is_not_compressed_together_with_what_others_chose(recovery: waypost.Recovery | None) -> None:
    io = waypost.Server(drain_s=0.0, recovery=recovery)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("room")

    async with serving(io):
        where = f"{POLLING}&sid={sid_of(await ask(io))}"
        gzip_ = {"Accept-Encoding": "gzip"}
        await ask(io, where, method="POST", body=[b"40"])
        await until(lambda: len(hub_of(io).directory.core("/").index) == 1, "it is let in")
        await io.to("room").emit("chosen", '"pid":"guess' * 500)
        answer = await ask(io, where, headers=gzip_)
        assert b"40{" in answer.body
        assert b"guess" in answer.body
        assert "content-encoding" not in answer.headers
        # From then on it is worth while again.
        await io.to("room").emit("chosen", "guess" * 500)
        assert (await ask(io, where, headers=gzip_)).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("compressed", "encoding"),
    [([False], None), ([False, False], None), ([True], "gzip"), ([False, True], "gzip"), ([True, False], "gzip")],
)
async def test_what_is_not_worth_compressing_is_not_compressed(compressed: list[bool], encoding: str | None) -> None:
    io = speaking_server()
    async with serving(io):
        sid = sid_of(await ask(io))
        await ask(io, f"{POLLING}&sid={sid}", method="POST", body=[b'40{"size":1}'])
        await ask(io, f"{POLLING}&sid={sid}")
        for compress_it in compressed:
            await io.compress(compress_it).emit("picture", "x" * 4_000)
        answer = await ask(io, f"{POLLING}&sid={sid}", headers={"Accept-Encoding": "gzip"})
    used = answer.headers.get("content-encoding")
    assert used == encoding
    assert gunzip(answer.body, used).count(b"picture") == len(compressed)


# ----------------------------------------------------------------------------------------------- the cookie


async def test_no_cookie_by_default() -> None:
    io = waypost.Server(drain_s=0.0)
    async with serving(io):
        assert "set-cookie" not in (await ask(io)).headers


async def test_a_polling_handshake_sets_the_cookie() -> None:
    io = waypost.Server(drain_s=0.0, cookie="io", ping_interval_s=0.05)
    async with serving(io):
        opened = await ask(io)
        sid = sid_of(opened)
        assert opened.headers["set-cookie"] == f"io={sid}; Path=/; HttpOnly; SameSite=Lax"
        assert "set-cookie" not in (await ask(io, f"{POLLING}&sid={sid}")).headers


async def test_a_websocket_handshake_sets_the_cookie() -> None:
    cookie = waypost.Cookie(
        name="stick", path="/a", domain="example.com", max_age_s=60, secure=True, same_site="none", http_only=False
    )
    io = waypost.Server(drain_s=0.0, cookie=cookie)
    async with serving(io), websocket(io) as socket:
        accepted = await socket.next()
        opened = await socket.next()
        sid = opened["text"].split('"sid":"')[1].split('"')[0]
        assert accepted["headers"] == [
            (
                b"set-cookie",
                f"stick={sid}; Path=/a; Domain=example.com; Max-Age=60; Secure; SameSite=None".encode(),
            )
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "io;x"},
        {"name": "io x"},
        {"name": "io\r\nX: y"},
        {"name": ""},
        {"name": "ïo"},
        {"path": "/; Domain=evil.example"},
        {"path": "relative"},
        {"path": "/\r\nX: y"},
        {"domain": "a.example; HttpOnly"},
        {"domain": ""},
        {"max_age_s": -1},
        {"max_age_s": 1.5},
        {"same_site": "lax; x"},
        {"same_site": "none"},
    ],
    ids=str,
)
def test_a_cookie_that_would_inject_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(waypost.ConfigurationError, match=next(iter(wrong))):
        waypost.Cookie(**wrong)


@pytest.mark.parametrize("cookie", ["a;b", "a\nb", 5, True])
def test_a_cookie_option_that_would_inject_is_refused(cookie: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="cookie"):
        waypost.Server(cookie=cookie)


# ----------------------------------------------------------------------------------------------- CORS


async def test_a_preflight_is_answered_whole() -> None:
    io = waypost.Server(drain_s=0.0, cors_allowed_origins=["https://a.example"], cors_max_age_s=60)
    asked = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-token",
    }
    async with serving(io):
        answer = await ask(io, method="OPTIONS", headers=asked)
    assert answer.status == 204
    assert answer.headers == {
        "vary": "Origin",
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, POST",
        "access-control-max-age": "60",
        "access-control-allow-headers": "content-type, x-token",
    }


async def test_credentials_can_be_kept_out() -> None:
    io = waypost.Server(drain_s=0.0, cors_allowed_origins=["https://a.example"], cors_credentials=False)
    async with serving(io):
        answer = await ask(io, headers={"Origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-credentials" not in answer.headers


# ----------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "x"])
async def test_a_packed_body_is_refused_and_ends_the_session(encoding: str) -> None:
    io = waypost.Server(drain_s=0.0)
    async with serving(io):
        sid = sid_of(await ask(io))
        bomb = gzip.compress(b"4" * 1_000_000)
        answer = await ask(
            io, f"{POLLING}&sid={sid}", method="POST", headers={"Content-Encoding": encoding}, body=[bomb]
        )
        assert (answer.status, answer.code) == (400, 3)
        assert (await ask(io, f"{POLLING}&sid={sid}")).code == 1


async def test_a_body_that_trickles_is_given_up_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="waypost.asgi")
    io = waypost.Server(drain_s=0.0, post_timeout_s=0.1)
    async with serving(io):
        sid = sid_of(await ask(io))
        sent: list[Any] = []
        bytes_to_come = 50

        async def receive() -> dict[str, Any]:
            nonlocal bytes_to_come
            bytes_to_come -= 1
            await asyncio.sleep(0.02 if bytes_to_come > 0 else 0)
            # One byte each 20 ms earns no time; at the end the client is gone.
            return {
                "type": "http.request" if bytes_to_come > 0 else "http.disconnect",
                "body": b"4",
                "more_body": True,
            }

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/socket.io/",
            "query_string": f"{POLLING}&sid={sid}".encode(),
            "headers": [],
        }
        await io(scope, receive, send)
        assert sent[0]["status"] == 408
    assert "post_timeout_s sets the limit" in caplog.text


def test_a_slow_body_that_goes_on_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a virtual clock: on a busy machine any pause may be longer than the patience. No thread of the real world may
    # look for other processes then.
    monkeypatch.setattr(succession, "can_tell", lambda: False)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(send_slowly())


async def send_slowly() -> None:
    io = waypost.Server(drain_s=0.0, post_timeout_s=0.1)
    async with serving(io):
        sid = sid_of(await ask(io))
        parts = [b'42["x","', *[b"y" * 1_000] * 10, b'"]']
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await ask(io, f"{POLLING}&sid={sid}", method="POST", body=[b"40"])
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/socket.io/",
            "query_string": f"{POLLING}&sid={sid}".encode(),
            "headers": [],
        }
        await io(scope, receive, send)
        assert sent[0]["status"] == 200


async def test_a_function_that_raises_admits_no_page() -> None:
    def decide(origin: str) -> bool:
        if origin == "https://good.example":
            return True
        raise LookupError(origin)

    io = waypost.Server(drain_s=0.0, cors_allowed_origins=decide)
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)
    async with serving(io):
        origins = ("https://good.example", "https://bad.example")
        statuses = [(await ask(io, headers={"Origin": origin})).status for origin in origins]
    assert statuses == [200, 400]
    assert {type(failure.error) for failure in failures} == {LookupError}
