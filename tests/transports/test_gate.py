"""Who may open a connection: the application's own decision, and limits for each address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of, until
from tests.support.waiting import until_async
from tests.transports.asgi_client import POLLING, ask, serving, sid_of, websocket
from waypost.server.connections.addresses import TrustedProxies
from waypost.server.watching.hooks import RequestRefused

# -------------------------------------------------------------------------------------------- allow_request


async def only_friends(handshake: waypost.Handshake) -> bool:
    if handshake.query.get("who") == "foe":
        raise waypost.ConnectionRefused("no foes here")
    return handshake.headers.get("x-friend") == "yes"


@pytest.mark.parametrize(
    ("query", "headers", "message"),
    [
        ("", {"X-Friend": "yes"}, None),
        ("", {}, "Forbidden"),
        ("&who=foe", {"X-Friend": "yes"}, "no foes here"),
    ],
)
async def test_the_application_decides_on_each_handshake(
    query: str, headers: dict[str, str], message: str | None
) -> None:
    io = waypost.Server(drain_s=0.0, allow_request=only_friends)
    async with serving(io):
        answer = await ask(io, POLLING + query, headers=headers)
        if message is None:
            sid = sid_of(answer)
            # Asked once for each connection: requests of a session carry no such header.
            assert (await ask(io, f"{POLLING}&sid={sid}", method="POST", body=[b"40"])).status == 200
        else:
            assert answer.status == 403
            assert answer.body.decode() == f'{{"code":4,"message":"{message}"}}'
        async with websocket(io, f"EIO=4&transport=websocket{query}", headers=headers) as socket:
            first = await socket.next()
            assert first["type"] == ("websocket.accept" if message is None else "websocket.http.response.start")
            if message is not None:
                assert first["status"] == 403


async def test_a_decision_that_fails_refuses_and_is_reported() -> None:
    async def fail(handshake: waypost.Handshake) -> bool:
        raise RuntimeError("a secret")

    io = waypost.Server(drain_s=0.0, allow_request=fail)
    failures: list[waypost.HandlerFailure] = []
    refusals: list[RequestRefused] = []
    io.hooks.error(failures.append)
    io.hooks.request_refused(refusals.append)
    async with serving(io):
        answer = await ask(io)
    assert (answer.status, answer.code) == (403, 4)
    assert b"secret" not in answer.body
    assert [failure.event for failure in failures] == ["allow_request"]
    assert [(refused.code, refused.context) for refused in refusals] == [(4, "ALLOW_REQUEST_FAILED")]


async def test_a_decision_that_never_comes_refuses() -> None:
    async def hang(handshake: waypost.Handshake) -> bool:
        await until(lambda: False)
        return True

    io = waypost.Server(drain_s=0.0, allow_request=hang, connect_timeout_s=0.05)
    async with serving(io):
        assert (await ask(io)).status == 403


@pytest.mark.parametrize("wrong", ["text", lambda handshake: True, lambda: True])
def test_a_decision_must_be_an_async_function(wrong: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="allow_request"):
        waypost.Server(allow_request=wrong)


async def test_refused_requests_are_told_with_code_and_context() -> None:
    io = waypost.Server(drain_s=0.0)
    refusals: list[RequestRefused] = []
    io.hooks.request_refused(refusals.append)
    async with serving(io):
        await ask(io, "EIO=4&transport=pigeon")
        await ask(io, headers={"Origin": "https://evil.example"})
        async with websocket(io, "EIO=4&transport=websocket&sid=unknown") as socket:
            await socket.next()
    assert [(refused.code, refused.context) for refused in refusals] == [
        (0, "UNKNOWN_TRANSPORT"),
        (3, "INVALID_ORIGIN"),
        (1, "UNKNOWN_SID"),
    ]
    assert refusals[1].handshake.headers["origin"] == "https://evil.example"
    assert refusals[2].handshake.address == "203.0.113.7"


async def test_a_page_that_is_refused_is_told_with_the_option_to_set(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    with caplog.at_level("INFO", logger="waypost.asgi"):
        async with serving(io):
            for _ in range(2):
                await ask(io, headers={"Origin": "https://shop.example:8443", "Host": "shop.example"})
            async with websocket(io, headers={"Origin": "https://\x1b[2Jshop.example", "Host": "a\x9b"}) as socket:
                await socket.next()
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "refused" in record.getMessage()]
    assert [level for level, _ in lines] == ["WARNING", "INFO", "WARNING"]
    for part in (
        "https://shop.example:8443",
        "its Host header says shop.example,",
        "$http_host",
        "cors_allowed_origins",
    ):
        assert part in lines[0][1]
    assert all(text.isprintable() for _, text in lines)


async def test_refused_origins_do_not_fill_the_log_with_warnings(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    with caplog.at_level("INFO", logger="waypost.asgi"):
        async with serving(io):
            for number in range(120):
                await ask(io, headers={"Origin": f"https://{number}.example"})
    levels = [record.levelname for record in caplog.records if "refused" in record.getMessage()]
    assert (levels.count("WARNING"), levels.count("INFO")) == (100, 20)


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("EIO=4&transport=pigeon", "transports"),
        ("EIO=3&transport=polling", "allow_eio3"),
        (f"{POLLING}&j=0", "allow_jsonp"),
    ],
)
async def test_a_refusal_names_the_option(caplog: pytest.LogCaptureFixture, query: str, option: str) -> None:
    io = waypost.Server(drain_s=0.0)
    with caplog.at_level("INFO", logger="waypost.asgi"):
        async with serving(io):
            assert (await ask(io, query)).status == 400
    assert [record for record in caplog.records if option in record.getMessage()]


# -------------------------------------------------------------------------------------------- limits


@asynccontextmanager
async def connections(io: waypost.Server, count: int, *, joined: bool, client: str) -> AsyncIterator[None]:
    """Hold WebSockets open, in the main namespace or in none."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            socket = await stack.enter_async_context(websocket(io, client=client))
            await socket.next()
            if joined:
                await socket.next()
                socket.write("40")
                assert (await socket.next())["text"].startswith("40")
        yield


async def test_one_address_has_only_so_many_handshakes() -> None:
    io = waypost.Server(drain_s=0.0, max_handshakes_per_address=3)
    async with serving(io):
        async with connections(io, 3, joined=False, client="203.0.113.7"):
            refused = await ask(io, client="203.0.113.7")
            assert (refused.status, refused.code) == (429, 4)
            assert (await ask(io, client="203.0.113.8")).status == 200
        assert (await ask(io, client="203.0.113.7")).status == 200
    assert await counts_nothing(io)


async def test_whoever_has_joined_is_no_handshake_any_more() -> None:
    io = waypost.Server(drain_s=0.0, max_handshakes_per_address=2)
    async with serving(io), connections(io, 5, joined=True, client="203.0.113.7"):
        assert (await ask(io, client="203.0.113.7")).status == 200
    assert await counts_nothing(io)


async def test_one_address_has_only_so_many_connections() -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=3)
    async with serving(io):
        async with connections(io, 3, joined=True, client="203.0.113.7"):
            assert (await ask(io, client="203.0.113.7")).status == 429
            async with websocket(io, client="203.0.113.7") as socket:
                assert (await socket.next())["status"] == 429
        assert (await ask(io, client="203.0.113.7")).status == 200
    assert await counts_nothing(io)


async def test_polling_handshakes_that_come_to_nothing_end() -> None:
    io = waypost.Server(drain_s=0.0, max_handshakes_per_address=3, connect_timeout_s=0.1)
    async with serving(io):
        for _ in range(3):
            assert (await ask(io)).status == 200
        assert (await ask(io)).status == 429
        await until_async(lambda: ask(io), lambda answer: answer.status == 200, "room for another handshake")
    assert await counts_nothing(io)


async def test_a_connection_that_is_being_closed_counts_for_its_address() -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=3, connect_timeout_s=0.05)
    async with serving(io):
        for _ in range(3):
            assert (await ask(io)).status == 200
        await until(lambda: not any(each.is_open for each in hub_of(io).engine.connections()))
        # Nobody fetched the news, so they are still there.
        assert len(hub_of(io).engine) == 3
        assert (await ask(io)).status == 429
        for connection in hub_of(io).engine.connections():
            connection.abort("the test's own")
        assert (await ask(io)).status == 200


@pytest.mark.parametrize("proxy", ["127.0.0.1", "10.1.2.3"])
@pytest.mark.parametrize("forwarded", ["garbage", "unknown", "203.0.113.7, garbage", ""])
async def test_a_client_that_its_proxy_hides_counts_for_the_proxy(proxy: str, forwarded: str) -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=1, trusted_proxies=["10.0.0.0/8", "127.0.0.1"])
    async with serving(io):
        headers = {"X-Forwarded-For": forwarded}
        assert (await ask(io, headers=headers, client=proxy)).status == 200
        assert (await ask(io, headers=headers, client=proxy)).status == 429
        assert (await ask(io, headers={"X-Forwarded-For": "203.0.113.9"}, client=proxy)).status == 200


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("&".join(f"p{number}=1" for number in range(300)), {}, 414),
        ("p=" + "x" * 20_000, {}, 414),
        ("", {"X-Large": "x" * 40_000}, 431),
        ("", {f"X-{number}": "" for number in range(200)}, 431),
        ("p=" + "x" * 10_000, {"Cookie": "x" * 16_000}, 200),
    ],
    ids=["many parameters", "a long query", "long headers", "many headers", "as large as may be"],
)
async def test_a_handshake_has_limits(query: str, headers: dict[str, str], status: int) -> None:
    io = waypost.Server(drain_s=0.0)
    async with serving(io):
        assert (await ask(io, f"EIO=4&transport=polling&{query}", headers=headers)).status == status
        async with websocket(io, f"EIO=4&transport=websocket&{query}", headers=headers) as socket:
            assert (await socket.next()).get("status", 200) == status


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "testclient"])
async def test_loopback_is_not_limited(address: str) -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=1)
    async with serving(io), connections(io, 3, joined=False, client=address):
        pass


async def test_one_ipv6_site_counts_as_one_address() -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=2)
    async with serving(io):
        for host in ("1", "2:3:4:5"):
            assert (await ask(io, client=f"2001:db8:0:1:{host}{'' if ':' in host else '::'}")).status == 200
        assert (await ask(io, client="2001:db8:0:1::9")).status == 429
        assert (await ask(io, client="2001:db8:0:2::9")).status == 200


async def test_behind_a_trusted_proxy_clients_count_apart() -> None:
    io = waypost.Server(drain_s=0.0, max_connections_per_address=1, trusted_proxies=["10.0.0.0/8"])
    async with serving(io):
        for number in range(3):
            headers = {"X-Forwarded-For": f"6.6.6.6, 198.51.100.{number}, 10.1.1.1"}
            assert (await ask(io, client="10.0.0.1", headers=headers)).status == 200
        assert (await ask(io, client="10.0.0.1", headers={"X-Forwarded-For": "198.51.100.1"})).status == 429
        # Not a proxy that is trusted: what it says of others counts nothing.
        assert (await ask(io, client="11.0.0.1", headers={"X-Forwarded-For": "198.51.100.77"})).status == 200
        assert (await ask(io, client="11.0.0.1", headers={"X-Forwarded-For": "198.51.100.78"})).status == 429


async def counts_nothing(io: waypost.Server) -> bool:
    limits = hub_of(io).gate._limits
    return not (limits.open or limits.half_open or limits._handshaking or limits._sites)


# -------------------------------------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "found"),
    [
        ([], "1.1.1.1", "9.9.9.9", "1.1.1.1"),
        (["1.1.1.1"], "1.1.1.1", "9.9.9.9", "9.9.9.9"),
        (["1.1.1.1"], "1.1.1.1", None, "1.1.1.1"),
        (["1.1.1.1"], "1.1.1.2", "9.9.9.9", "1.1.1.2"),
        (["1.0.0.0/8"], "1.1.1.1", "8.8.8.8, 9.9.9.9, 1.2.3.4", "9.9.9.9"),
        (["1.0.0.0/8"], "1.1.1.1", "1.2.3.4", "1.2.3.4"),
        (["1.0.0.0/8"], "1.1.1.1", "9.9.9.9:4711", "9.9.9.9"),
        (["1.0.0.0/8"], "1.1.1.1", "[2001:db8::1]:4711", "2001:db8::1"),
        (["1.0.0.0/8"], "1.1.1.1", "2001:db8::1", "2001:db8::1"),
        (["1.0.0.0/8"], "1.1.1.1", "nonsense, 1.2.3.4", "1.2.3.4"),
        (["1.0.0.0/8"], "1.1.1.1", "9.9.9.9, \r\nX: y", "1.1.1.1"),
        (["1.0.0.0/8"], "1.1.1.1", "", "1.1.1.1"),
        (["1.0.0.0/8"], "::ffff:1.1.1.1", "9.9.9.9", "9.9.9.9"),
        (["2001:db8::/32"], "2001:db8::5", "9.9.9.9", "9.9.9.9"),
        (["1.0.0.0/8"], "", "9.9.9.9", ""),
        (["1.0.0.0/8"], "a-socket-file", "9.9.9.9", "a-socket-file"),
    ],
)
def test_the_right_most_address_that_is_not_trusted(
    trusted: list[str], peer: str, forwarded: str | None, found: str
) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert TrustedProxies(trusted).address(peer, headers) == found


@pytest.mark.parametrize(
    ("trusted", "scheme", "forwarded", "secure"),
    [
        ([], "http", "https", False),
        ([], "https", "http", True),
        (["1.1.1.1"], "http", "https", True),
        (["1.1.1.1"], "http", "http, https", True),
        (["1.1.1.1"], "https", "http", False),
        (["1.1.1.1"], "wss", None, True),
    ],
)
def test_a_trusted_proxy_tells_the_scheme(
    trusted: list[str], scheme: str, forwarded: str | None, secure: bool
) -> None:
    headers = {} if forwarded is None else {"x-forwarded-proto": forwarded}
    assert TrustedProxies(trusted).is_secure("1.1.1.1", headers, scheme) is secure


@pytest.mark.parametrize("wrong", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy.example"], [None]])
def test_what_is_no_address_is_refused_at_the_start(wrong: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="trusted_proxies"):
        waypost.Server(trusted_proxies=wrong)
