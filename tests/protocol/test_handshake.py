"""The handshake: what Node's Engine.IO answers to each request, and origins, which Node's does not check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.handshake import (
    Decision,
    HandshakeRules,
    Open,
    Poll,
    Post,
    Preflight,
    Refuse,
    Request,
    SessionView,
    Upgrade,
    cors_headers,
    decide,
    matches_path,
    refusal_body,
)
from waypost.protocol.revision import Revision3, Revision4

Allowed: TypeAlias = Literal["*"] | tuple[str, ...] | None
BOTH = HandshakeRules(transports=("polling", "websocket"), cors_allowed_origins=None)
SESSIONS = {"polls": SessionView("polling"), "upgraded": SessionView("websocket")}


def request(
    query: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    secure: bool = False,
    websocket: bool = False,
) -> Request:
    return Request(
        method=method,
        query=query,
        headers={"host": "example.com", **(headers or {})},
        secure=secure,
        websocket=websocket,
    )


def answer(query: str, method: str = "GET", *, rules: HandshakeRules = BOTH, websocket: bool = False) -> Decision:
    return decide(request(query, method, websocket=websocket), rules, SESSIONS.get)


def code(decision: Decision) -> int:
    assert isinstance(decision, Refuse)
    assert decision.status == 400
    return decision.code


# ------------------------------------------------------------------------------------- new sessions


def test_sessions_open_on_both_transports() -> None:
    assert answer("EIO=4&transport=polling") == Open("polling", Revision4())
    assert answer("EIO=4&transport=polling&t=abc123&sid=") == Open("polling", Revision4())
    assert answer("EIO=4&transport=websocket", websocket=True) == Open("websocket", Revision4())


@pytest.mark.parametrize(
    "query",
    [
        "",
        "EIO=4",
        "EIO=4&transport=",
        "EIO=4&transport=abc",
        "EIO=4&transport=webtransport",
        "EIO=4&transport=Polling",
        "EIO=4&transport[]=polling",
        "EIO=4&transport%5B%5D=polling",
        "EIO=4&transport=constructor",
        "EIO=4&transport=__proto__",
        "EIO=4&transport=abc&transport=polling",
        "EIO=4&transport=polling%00",
        "&&&==;%",
    ],
)
def test_unknown_transports_are_refused(query: str) -> None:
    for websocket in (False, True):
        assert code(answer(query, websocket=websocket)) == 0


def test_a_transport_that_is_off_is_unknown() -> None:
    rules = HandshakeRules(transports=("websocket",), cors_allowed_origins=None)
    assert code(answer("EIO=4&transport=polling", rules=rules)) == 0
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=None)
    assert code(answer("EIO=4&transport=websocket", rules=rules, websocket=True)) == 0


def test_the_first_of_repeated_keys_counts() -> None:
    assert answer("EIO=4&EIO=3&transport=polling&transport=abc") == Open("polling", Revision4())
    assert request("a=1&a=2&b=&c&d=%C3%A9+%2B").parameters == {"a": "1", "b": "", "c": "", "d": "é +"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "PATCH", "get"])
def test_sessions_open_with_get_only(method: str) -> None:
    assert code(answer("EIO=4&transport=polling", method)) == 2


@pytest.mark.parametrize("eio", ["", "EIO=3&", "EIO=abc&", "EIO=&", "EIO=44&", "EIO=4.0&", "EIO=5&"])
def test_other_protocol_versions_are_refused(eio: str) -> None:
    assert code(answer(f"{eio}transport=polling")) == 5
    assert code(answer(f"{eio}transport=websocket", websocket=True)) == 5


def test_a_websocket_has_to_be_one_and_a_poll_not() -> None:
    assert code(answer("EIO=4&transport=websocket")) == 3
    assert code(answer("EIO=4&transport=polling", websocket=True)) == 3
    assert code(answer("EIO=4&transport=websocket&sid=polls")) == 3
    assert code(answer("EIO=4&transport=polling&sid=polls", websocket=True)) == 3


# --------------------------------------------------------------------------------- existing sessions


def test_requests_find_their_session() -> None:
    assert answer("EIO=4&transport=polling&sid=polls") == Poll("polls")
    assert answer("EIO=4&transport=polling&sid=polls", "POST") == Post("polls")
    assert answer("EIO=4&transport=websocket&sid=polls", websocket=True) == Upgrade("polls")


def test_a_second_upgrade_is_for_the_session_to_decline() -> None:
    assert answer("EIO=4&transport=websocket&sid=upgraded", websocket=True) == Upgrade("upgraded")


@pytest.mark.parametrize(
    "sid", ["gone", "__proto__", "constructor", "%00", "polls%20", "x" * 10_000, "%FF%FE", "..%2F"]
)
def test_unknown_sessions_are_refused(sid: str) -> None:
    assert code(answer(f"EIO=4&transport=polling&sid={sid}")) == 1
    assert code(answer(f"EIO=4&transport=polling&sid={sid}", "POST")) == 1
    assert code(answer(f"EIO=4&transport=websocket&sid={sid}", websocket=True)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_polling_is_over_after_the_upgrade(method: str) -> None:
    refused = answer("EIO=4&transport=polling&sid=upgraded", method)
    assert code(refused) == 3
    assert isinstance(refused, Refuse)
    assert refused.context == "TRANSPORT_MISMATCH"


@pytest.mark.parametrize("eio", ["", "EIO=3&", "EIO=abc&"])
def test_a_session_keeps_its_protocol_version(eio: str) -> None:
    assert code(answer(f"{eio}transport=polling&sid=polls")) == 3
    assert code(answer(f"{eio}transport=websocket&sid=polls", websocket=True)) == 3


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
def test_a_session_takes_get_and_post_only(method: str) -> None:
    assert code(answer("EIO=4&transport=polling&sid=polls", method)) == 3


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "Application/Octet-Stream", "application/octet-stream; x=y"]
)
def test_a_binary_body_ends_the_session(content_type: str) -> None:
    post = request("EIO=4&transport=polling&sid=polls", "POST", headers={"content-type": content_type})
    refused = decide(post, BOTH, SESSIONS.get)
    assert code(refused) == 3
    assert isinstance(refused, Refuse)
    assert refused.ends_session == "polls"


def test_the_body_of_a_refusal_is_nodes() -> None:
    bodies = {
        "EIO=4&transport=abc": {"code": 0, "message": "Transport unknown"},
        "EIO=4&transport=polling&sid=gone": {"code": 1, "message": "Session ID unknown"},
        "EIO=4&transport=websocket": {"code": 3, "message": "Bad request"},
        "EIO=3&transport=polling": {"code": 5, "message": "Unsupported protocol version"},
    }
    for query, body in bodies.items():
        refused = answer(query)
        assert isinstance(refused, Refuse)
        assert json.loads(refusal_body(refused)) == body
    refused = answer("EIO=4&transport=polling", "POST")
    assert isinstance(refused, Refuse)
    assert json.loads(refusal_body(refused)) == {"code": 2, "message": "Bad handshake method"}


# ------------------------------------------------------------------------------------------- origins


def admits(origin: str | None, host: str, *, secure: bool = False, allowed: Allowed = None) -> bool:
    """Whether a page may open a session; the same has to hold on every transport and for preflights."""
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    rules = HandshakeRules(transports=("polling", "websocket"), cors_allowed_origins=allowed)
    admitted = set()
    for method, transport, sid in [
        ("GET", "polling", ""), ("GET", "websocket", ""), ("OPTIONS", "polling", ""),
        ("GET", "polling", "polls"), ("POST", "polling", "polls"), ("GET", "websocket", "polls"),
    ]:  # fmt: skip
        one = request(
            f"EIO=4&transport={transport}&sid={sid}",
            method,
            headers=headers,
            secure=secure,
            websocket=transport == "websocket",
        )
        decision = decide(one, rules, SESSIONS.get)
        if isinstance(decision, Refuse):
            assert (decision.status, decision.code, decision.context) == (400, 3, "INVALID_ORIGIN")
        admitted.add(not isinstance(decision, Refuse))
    assert len(admitted) == 1
    return admitted.pop()


@pytest.mark.parametrize(
    ("origin", "host", "secure"),
    [
        (None, "example.com", False),
        ("http://example.com", "example.com", False),
        ("http://example.com", "example.com:80", False),
        ("http://example.com:80", "example.com", False),
        ("HTTP://Example.COM", "example.com", False),
        ("http://example.com", "EXAMPLE.com", False),
        ("http://localhost:8000", "localhost:8000", False),
        ("http://127.0.0.1:5000", "127.0.0.1:5000", False),
        ("http://[::1]:8000", "[::1]:8000", False),
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("https://example.com", "example.com", False),  # TLS ends at a proxy in front
        ("ws://example.com:8000", "example.com:8000", False),  # the Swift client's own URL, which no page has
        ("wss://example.com", "example.com", True),
        ("wss://example.com", "example.com", False),
    ],
)
def test_pages_of_the_same_origin_are_admitted(origin: str | None, host: str, secure: bool) -> None:
    assert admits(origin, host, secure=secure)
    assert admits(origin, host, secure=secure, allowed=("https://other.example",))


@pytest.mark.parametrize(
    ("origin", "host", "secure"),
    [
        ("http://evil.example", "example.com", False),
        ("http://example.com.evil.example", "example.com", False),
        ("http://sub.example.com", "example.com", False),
        ("http://example.com:8080", "example.com", False),
        ("http://example.com", "example.com:8080", False),
        ("https://example.com", "example.com:80", False),
        ("http://example.com", "example.com", True),  # whoever holds the network can serve that page
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "", False),
        ("", "example.com", False),
        ("example.com", "example.com", False),
        ("//example.com", "example.com", False),
        ("file://", "example.com", False),
        ("file://example.com", "example.com", False),
        ("ws://example.com", "example.com", True),
        ("ws://example.com", "evil.example", False),
        ("wss://example.com", "example.com:80", False),
        ("capacitor://localhost", "localhost", False),
        ("http://example.com/", "example.com", False),
        ("http://user@example.com", "example.com", False),
        ("http://example.com, http://evil.example", "example.com", False),
        ("http://evil.example, http://example.com", "example.com", False),
        ("http://example.com#@evil.example", "example.com", False),
        ("http://example.com\t", "example.com", False),
        ("http://exam\nple.com", "example.com", False),
        ("http://example.com?", "example.com", False),
        ("http://example.com#", "example.com", False),
        ("http://example.com", "example.com\t", False),
        ("http://example.com", "example.com?", False),
        ("http://example.com", "example.com/", False),
        ("http://evil.example?example.com", "example.com", False),
        ("http://[::1", "[::1", False),
        ("http://example.com:port", "example.com:port", False),
        ("http://example.com:99999", "example.com:99999", False),
        ("http://example.com", "", False),
        ("http://example.com", "example.com, example.com", False),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str, host: str, secure: bool) -> None:
    assert not admits(origin, host, secure=secure)
    assert not admits(origin, host, secure=secure, allowed=())
    assert not admits(origin, host, secure=secure, allowed=("https://app.example.com",))
    assert admits(origin, host, secure=secure, allowed="*")


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("https://app.example.com", True),
        ("https://APP.example.com:443", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.evil.example", False),
        ("capacitor://localhost", True),
        ("capacitor://localhost:1", False),
        ("null", False),
        # Compared as they were sent: a parser of URLs would take these characters off.
        ("https://app.example.com\t", False),
        ("https://app.ex\tample.com", False),
        ("\thttps://app.example.com", False),
        ("https://app.example.com\n", False),
        (" https://app.example.com", False),
        ("https://app.example.com?", False),
        ("https://app.example.com#", False),
        ("https://app.example.com/", False),
        ("https://app.example.com:", False),
        ("https:///app.example.com", False),
        ("https://@app.example.com", False),
        ("https://app.example.com:+443", False),
    ],
)
def test_listed_origins_are_admitted(origin: str, admitted: bool) -> None:
    listed = ("https://app.example.com", "capacitor://localhost", "nonsense", "*")
    assert admits(origin, "api.example.com", secure=True, allowed=listed) is admitted


def cors(allowed: Allowed, origin: str | None, method: str = "GET", asks: str = "") -> list[tuple[str, str]]:
    headers = {"access-control-request-headers": asks} if asks else {}
    if origin is not None:
        headers["origin"] = origin
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=allowed)
    return cors_headers(request("", method, headers=headers), rules)


LISTED = ("https://app.example.com",)
ECHO = [
    ("Vary", "Origin"),
    ("Access-Control-Allow-Origin", "https://app.example.com"),
    ("Access-Control-Allow-Credentials", "true"),
]


def test_cors_headers_are_for_allowed_pages_only() -> None:
    assert cors(None, "https://app.example.com") == []
    assert cors(LISTED, "https://app.example.com") == ECHO
    assert cors(LISTED, "https://evil.example") == [("Vary", "Origin")]
    assert cors(LISTED, None) == [("Vary", "Origin")]


def test_everybody_is_admitted_without_credentials() -> None:
    assert cors("*", "https://evil.example") == [("Access-Control-Allow-Origin", "*")]
    assert cors("*", "null") == [("Access-Control-Allow-Origin", "*")]
    assert cors("*", None) == [("Vary", "Origin")]


def test_a_preflight_is_answered_with_what_may_follow() -> None:
    methods = [("Access-Control-Allow-Methods", "GET, POST"), ("Access-Control-Max-Age", "600")]
    assert cors(LISTED, LISTED[0], "OPTIONS") == ECHO + methods
    names = ("Access-Control-Allow-Headers", "authorization, x-my_header")
    assert cors(LISTED, LISTED[0], "OPTIONS", "authorization, x-my_header") == [*ECHO, *methods, names]
    assert cors(LISTED, LISTED[0], "OPTIONS", "x\r\nSet-Cookie: a=b") == ECHO + methods
    assert cors(LISTED, "https://evil.example", "OPTIONS") == [("Vary", "Origin")]


def test_a_preflight_of_an_allowed_page_is_one() -> None:
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=LISTED)
    preflight = request("EIO=4&transport=polling", "OPTIONS", headers={"origin": LISTED[0]})
    assert decide(preflight, rules, SESSIONS.get) == Preflight()


TEXT = st.text() | st.sampled_from(["http://example.com", "null", "example.com", "4", "polling", "polls"])


@given(
    st.builds(
        Request,
        method=st.sampled_from(["GET", "POST", "OPTIONS", ""]),
        query=TEXT | st.builds("EIO={}&transport={}&sid={}".format, TEXT, TEXT, TEXT),
        headers=st.dictionaries(st.sampled_from(["origin", "host", "content-type"]), TEXT),
        secure=st.booleans(),
        websocket=st.booleans(),
    ),
    st.sampled_from([None, "*", LISTED, ("nonsense",)]),
)
def test_every_request_has_an_answer(one: Request, allowed: Allowed) -> None:
    rules = HandshakeRules(transports=("polling", "websocket"), cors_allowed_origins=allowed)
    decision = decide(one, rules, SESSIONS.get)
    assert isinstance(decision, Open | Poll | Post | Upgrade | Preflight | Refuse)
    cors_headers(one, rules)


# ---------------------------------------------------------------------------------------------- path


@pytest.mark.parametrize(
    ("path", "root_path", "wanted"),
    [
        ("/socket.io/", "", "/socket.io/"),
        ("/socket.io", "", "/socket.io/"),
        ("/socket.io/", "", "/socket.io"),
        ("/api/socket.io/", "/api", "/socket.io/"),  # uvicorn --root-path, or Mount("/api") in Starlette now
        ("/socket.io/", "/api", "/socket.io/"),  # Mount("/api") in Starlette before 0.33
        ("/socket.io/", "/socket.io", "/socket.io/"),  # Mount("/socket.io") now
        ("/socket.io", "/socket.io", "/socket.io/"),
        ("/", "/socket.io", "/socket.io/"),  # Mount("/socket.io") before 0.33
        ("", "/socket.io", "/socket.io/"),
        ("/api/socket.io/", "/api/socket.io", "/socket.io/"),  # Mount("/socket.io") behind a root path
        ("/", "/api/socket.io", "/socket.io/"),
        ("/ws/socket.io/", "/ws/", "/socket.io/"),
        ("/my/path/", "", "/my/path"),
        ("/", "", "/"),
    ],
)
def test_the_path_is_found_behind_any_mount(path: str, root_path: str, wanted: str) -> None:
    assert matches_path(path, root_path, wanted)


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/", ""),
        ("", ""),
        ("/socket.iofoo", ""),
        ("/socket.io/foo", ""),
        ("/socket.io//", ""),
        ("//socket.io/", ""),
        ("/foo/socket.io/", ""),
        ("/apisocket.io/", "/api"),
        ("/other/", "/socket.io"),
        ("/socket.io/foo", "/socket.io"),
        ("/", "/api"),
        ("/", "/mysocket.io"),
    ],
)
def test_other_paths_are_somebody_elses(path: str, root_path: str) -> None:
    assert not matches_path(path, root_path, "/socket.io/")


def test_revision_3_where_it_is_allowed() -> None:
    both = HandshakeRules(transports=("polling", "websocket"), cors_allowed_origins=None, allow_eio3=True)

    def opens(query: str) -> object:
        return decide(request(query), both, lambda _sid: None)

    assert opens("EIO=4&transport=polling&b64=1") == Open("polling", Revision4())
    assert opens("EIO=3&transport=polling") == Open("polling", Revision3())
    assert opens("EIO=3&transport=polling&b64=1") == Open("polling", Revision3(text_only=True))
    refused = opens("transport=polling")
    assert isinstance(refused, Refuse)
    assert refused.code == 5


@pytest.mark.parametrize(("session", "eio", "accepted"), [(3, 3, True), (3, 4, False), (4, 3, False), (4, 4, True)])
def test_a_request_has_the_revision_of_its_session(session: int, eio: int, accepted: bool) -> None:
    both = HandshakeRules(transports=("polling", "websocket"), cors_allowed_origins=None, allow_eio3=True)
    for method, kind in (("GET", Poll), ("POST", Post)):
        asked = request(f"EIO={eio}&transport=polling&sid=s", method=method)
        decision = decide(asked, both, lambda _sid: SessionView("polling", session))
        assert isinstance(decision, kind) is accepted
        assert accepted or (isinstance(decision, Refuse) and decision.context == "PROTOCOL_MISMATCH")


def test_only_revision_3_posts_bytes() -> None:
    headers = {"content-type": "application/octet-stream"}
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=None)
    for revision, kind in ((3, Post), (4, Refuse)):
        asked = request(f"EIO={revision}&transport=polling&sid=s", method="POST", headers=headers)
        view = SessionView("polling", revision)
        assert isinstance(decide(asked, rules, {"s": view}.get), kind)


@pytest.mark.parametrize(("j", "number"), [("0", "0"), ("12", "12"), ("alert(1)//", "1"), ("", None), ("x", None)])
def test_jsonp_where_it_is_allowed(j: str, number: str | None) -> None:
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=None, allow_jsonp=True)
    opened = decide(request(f"EIO=4&transport=polling&j={j}"), rules, lambda _sid: None)
    polled = decide(request(f"EIO=4&transport=polling&sid=s&j={j}"), rules, lambda _sid: SessionView("polling"))
    if number is None:
        assert isinstance(opened, Refuse)
        assert isinstance(polled, Refuse)
    else:
        assert opened == Open("polling", Revision4(), number)
        assert polled == Poll("s", number)


def test_jsonp_is_refused_by_default() -> None:
    rules = HandshakeRules(transports=("polling",), cors_allowed_origins=None)
    refused = decide(request("EIO=4&transport=polling&j=0"), rules, lambda _sid: None)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.context) == (3, "JSONP")


@pytest.mark.parametrize(("t", "limited"), [("1732476400.123", True), ("PbK3x.0", False), ("1732476400", False)])
def test_python_socketio_takes_only_few_packets_at_once(t: str, limited: bool) -> None:
    opened = answer(f"EIO=4&transport=polling&t={t}")
    assert isinstance(opened, Open)
    assert (opened.revision.max_packets == 16) is limited
