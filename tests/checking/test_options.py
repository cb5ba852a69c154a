"""Options: one mechanism checks those of servers, clients, queues, recovery and cookies, and names what was meant."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import waypost
from waypost.checking.constraints import Count, Share
from waypost.checking.options import checked, rules_of
from waypost.client.options import ClientOptions
from waypost.client.options import Options as OptionsOfClient
from waypost.server.options import ServerOptions
from waypost.server.queues.options import QueueSettings, with_settings

Maker = Callable[..., Any]


@checked("test.Thing", prefix="thing.")
@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    count: Count | None = None
    share: Share = 0.5


def client(**options: Any) -> waypost.Client:
    return waypost.Client("http://localhost", **options)


def sync_client(**options: Any) -> waypost.sync.Client:
    return waypost.sync.Client("http://localhost", **options)


def configured(**settings: Any) -> waypost.QueueOptions:
    return with_settings(waypost.QueueOptions(), **settings)


async def handler(_handshake: waypost.Handshake) -> bool:
    return True


WRONG: list[tuple[Maker, str, object, str]] = [
    (waypost.Server, "durability", "asyncc", 'expected "commit" or "async"; did you mean "async"?'),
    (waypost.Server, "transports", ["polling", "websockets"], 'each once; did you mean "websocket"?'),
    (waypost.Server, "transports", ["polling", "polling"], 'expected some of "polling", "websocket", each once'),
    (waypost.Server, "transports", [], 'expected some of "polling", "websocket", each once'),
    (waypost.Server, "transports", "polling", 'expected some of "polling", "websocket", each once'),
    (waypost.Server, "parser", "mesgpack", 'did you mean "msgpack"?'),
    (waypost.Server, "parser", 5, 'expected "json", "msgpack" or an object with the methods encode, make_decoder'),
    (waypost.Server, "parser", object(), "as waypost.Parser has them"),
    (waypost.Server, "recovery", True, "expected a waypost.Recovery or None"),
    (waypost.Server, "queues", {}, "expected a waypost.QueueOptions"),
    (waypost.Server, "queues", None, "expected a waypost.QueueOptions"),
    (waypost.Server, "store", 5, 'expected "memory:" or the path of a file'),
    (waypost.Server, "path", "socket.io", "expected text that starts with /"),
    (waypost.Server, "path", None, "expected text that starts with /"),
    (waypost.Server, "max_pending_events", 2.5, "expected a whole number from 1"),
    (waypost.Server, "max_pending_events", True, "expected a whole number from 1"),
    (waypost.Server, "max_pending_events", 0, "expected a whole number from 1"),
    (waypost.Server, "max_attachments", -1, "expected a whole number from 0"),
    (waypost.Server, "ping_interval_s", float("inf"), "expected a number from 0.001 to 1000000"),
    (waypost.Server, "ping_timeout_s", 0.0001, "expected a number from 0.001 to 1000000"),
    (waypost.Server, "max_messages_per_s", 5e-324, "expected a number from 0.001 or None"),
    (waypost.Server, "connect_timeout_s", float("inf"), "expected a number above 0"),
    (waypost.Server, "connect_timeout_s", float("nan"), "expected a number above 0"),
    (waypost.Server, "connect_timeout_s", 10**400, "expected a number above 0"),
    (waypost.Server, "connect_timeout_s", "25", "expected a number above 0"),
    (waypost.Server, "drain_s", -1, "expected a number from 0"),
    (waypost.Server, "cookie", 5, "expected a waypost.Cookie, text or None"),
    (waypost.Server, "allow_eio3", 1, "expected True or False"),
    (waypost.Server, "cors_allowed_origins", "https://example.com", "a list of origins such as https://example.com"),
    (waypost.Server, "cors_allowed_origins", ["example.com"], "a list of origins such as https://example.com"),
    (waypost.Server, "cors_allowed_origins", ["https://a.example/"], "a list of origins such as"),
    (waypost.Server, "cors_allowed_origins", ["*"], 'expected "*", a list of origins such as'),
    (waypost.Server, "cors_allowed_origins", [None], 'expected "*", a list of origins such as'),
    (waypost.Server, "trusted_proxies", "10.0.0.1", "expected a list of text"),
    (waypost.Server, "trusted_proxies", ["ten"], "expected addresses or networks"),
    (waypost.Server, "allow_request", print, "expected an async function"),
    (waypost.Server, "initial_packet", 5, "expected text, bytes or None"),
    (waypost.Recovery, "recovery.max_events", 1.0, "expected a whole number from 1"),
    (waypost.Recovery, "recovery.session_ttl_s", None, "expected a number above 0"),
    (waypost.Recovery, "recovery.sends_offset", handler, "expected a plain function"),
    (waypost.Recovery, "recovery.may_resume", "always", "expected a function or None"),
    (waypost.QueueOptions, "queues.order", "strikt", 'did you mean "strict"?'),
    (waypost.QueueOptions, "queues.backoff_jitter", 1.1, "expected a number from 0 to 1"),
    (waypost.QueueOptions, "queues.lease_s", float("inf"), "expected a number above 0"),
    (configured, "queues.overflow", "drop", 'expected "refuse" or "drop_oldest"'),
    (waypost.Cookie, "cookie.name", "a b", "expected a name of letters"),
    (waypost.Cookie, "cookie.name", 5, "expected a name of letters"),
    (waypost.Cookie, "cookie.same_site", "Lax", 'did you mean "lax"?'),
    (client, "transports", ("websocket", "poling"), 'did you mean "polling"?'),
    (client, "state", 5, "expected the path of a file or None"),
    (client, "outbox", "", "expected the path of a file or None"),
    (client, "reconnection", "yes", "expected True or False"),
    (client, "ssl", True, "expected a ssl.SSLContext or None"),
    (client, "connector", object(), "as waypost.Connector has them or None"),
    (sync_client, "ack_timeout_s", float("nan"), "expected a number above 0"),
    (sync_client, "auth", "token", "expected a mapping of text to anything, a function or None"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "option", "value", "sentence"), WRONG)
def test_a_value_that_cannot_be_is_refused(make: Maker, option: str, value: object, sentence: str) -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        make(**{option.rpartition(".")[2]: value})
    assert caught.value.option == option
    assert caught.value.value is value or caught.value.value == type(value).__name__ or option == "store"
    assert sentence in str(caught.value)


UNKNOWN: list[tuple[Maker, str, str | None]] = [
    (waypost.Server, "ping_timeout", "ping_timeout_s"),
    (waypost.Server, "pingTimeout", "ping_timeout_s"),
    (waypost.Server, "cors_alowed_origins", "cors_allowed_origins"),
    (waypost.Server, "nothing_like_it", None),
    (waypost.Options, "ping_intervall_s", "ping_interval_s"),
    (waypost.Recovery, "max_event", "max_events"),
    (waypost.QueueOptions, "lease", "lease_s"),
    (configured, "prefetch_byte", "prefetch_bytes"),
    (waypost.Cookie, "httponly", "http_only"),
    (client, "reconnection_delay", "reconnection_delay_s"),
    (sync_client, "reconection", "reconnection"),
]


@pytest.mark.parametrize(("make", "option", "meant"), UNKNOWN)
def test_an_unknown_option_names_the_nearest_one(make: Maker, option: str, meant: str | None) -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        make(**{option: 20})
    assert (caught.value.option, caught.value.value, caught.value.suggestion) == (option, 20, meant)
    assert str(caught.value).endswith(f"did you mean {meant}?" if meant else caught.value.expected)


@pytest.mark.parametrize(
    "options",
    [{"auth": "secret"}, {"auht": "secret"}, {"token": "secret"}, {"headers": {"a": ["secret"]}},
     {"proxy": "me:secret@proxy"}, {"query": {"token": b"secret"}}, {"cookies": "secret"}],
)  # fmt: skip
def test_what_may_be_a_secret_is_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        client(**options)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("make", "line"),
    [(waypost.Server, "waypost.Server(store='x.db')"), (waypost.Options, "waypost.Server(store='x.db')"),
     (waypost.Recovery, "waypost.Recovery(session_ttl_s='x.db')")],
)  # fmt: skip
def test_a_value_without_its_name_is_answered_with_the_line_to_write(make: Maker, line: str) -> None:
    with pytest.raises(waypost.ConfigurationError, match="the option's name before it") as caught:
        make("x.db")
    assert line in str(caught.value)


def test_changed_options_are_checked_as_new_ones() -> None:
    with pytest.raises(waypost.ConfigurationError, match=r"recovery\.max_events"):
        replace(waypost.Recovery(), max_events=0)
    options = replace(waypost.Options(store=Path("a.db")), queues=replace(waypost.QueueOptions(), order="none"))
    assert (options.store, options.queues.order, options.recovery) == (Path("a.db"), "none", waypost.Recovery())
    for other in (copy.copy(options), pickle.loads(pickle.dumps(options))):
        assert other == options


def test_files_are_named_by_paths(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "store.db")
    assert str(tmp_path / "store.db") in io.describe()
    io.use_store(tmp_path / "other.db")
    assert str(tmp_path / "other.db") in io.describe()
    client(outbox=tmp_path / "outbox.db", state=str(tmp_path / "state.db"))


CLASSES = [waypost.Options, waypost.Recovery, waypost.QueueOptions, waypost.Cookie, OptionsOfClient]


@pytest.mark.parametrize("kind", CLASSES)
def test_defaults_keep_to_the_rules_and_tools_see_the_options(kind: Any) -> None:
    rules = rules_of(kind)
    for name, rule in rules.items():
        assert rule.accepts(getattr(kind(), name)), name
        assert rule.expected
    kind(**{field.name: getattr(kind(), field.name) for field in fields(kind)})
    assert list(inspect.signature(kind).parameters) == list(rules)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [(waypost.Options, ServerOptions), (waypost.QueueOptions, QueueSettings), (OptionsOfClient, ClientOptions)],
)
def test_options_and_keyword_arguments_agree(options: type, arguments: type) -> None:
    assert get_type_hints(options) == get_type_hints(arguments)
    assert [*arguments.__annotations__] == [field.name for field in fields(options)]
    described = (options.__doc__ or "").split("Attributes:")[1]
    for name in arguments.__annotations__:
        assert described.count(f"\n        {name}: ") == 1, name


def test_constraints_of_two_options_together() -> None:
    with pytest.raises(waypost.ConfigurationError, match="secure=True"):
        waypost.Cookie(same_site="none")
    with pytest.raises(waypost.ConfigurationError, match="outbox_retries"):
        client(outbox="x.db", retries=1)


def test_an_options_class_of_ones_own_follows_the_same_rules() -> None:
    assert Thing(count=3, share=1) == Thing(count=3, share=1.0)
    with pytest.raises(waypost.ConfigurationError, match=r"thing\.count=0: expected a whole number from 1 or None"):
        Thing(count=0)
