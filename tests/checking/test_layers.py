"""Options that are given outside of the code: which one counts, how texts are read, and how errors name the place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

import waypost
from waypost.checking.layers import Given, giving, layered, names_of, stacked
from waypost.checking.reading import read_text, read_value
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.server.options import Options


def env(**texts: str) -> dict[str, Given]:
    return {
        name.replace("__", "."): Given(text, "environment", f"WAYPOST_{name.upper()}") for name, text in texts.items()
    }


def file(**values: object) -> dict[str, Given]:
    return {name.replace("__", "."): Given(value, "file", f"w.toml: {name}") for name, value in values.items()}


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (bool, "1", True),
        (bool, "Off", False),
        (int, "1_000_000", 1_000_000),
        (int, "5.5", "5.5"),
        (float, "5", 5),
        (float, "1e3", 1000.0),
        (float, "nan", "nan"),
        (float | None, "none", None),
        (str, "none", "none"),
        (str, "5", "5"),
        (str | None, "True", "True"),
        (list[str], "a, b,", ["a", "b"]),
        (list[str], '["a,b"]', ["a,b"]),
        (list[str], "[a", "[a"),
        (int, "9" * 5000, "9" * 5000),
    ],
)
def test_a_text_is_read_as_what_the_option_takes(hint: Any, text: str, value: object) -> None:
    read = read_text(text, rule_of(hint))
    assert read == value
    assert type(read) is type(value)


def test_a_file_has_types_of_its_own() -> None:
    assert read_value("5", rule_of(int)) == "5"
    assert read_value("none", rule_of(int | None)) is None
    assert read_value("none", rule_of(str)) == "none"


def test_the_topmost_layer_counts_and_says_its_place() -> None:
    given = stacked([file(drain_s=1, ping_interval_s=2.0, ack_timeout_s=3), env(drain_s="4", ack_timeout_s="5")])
    made = layered(Options, {"drain_s": 9, "ping_interval_s": 9, "ping_timeout_s": 9}, given)
    assert (made.options.drain_s, made.options.ping_interval_s, made.options.ack_timeout_s) == (4, 2.0, 5)
    places = made.places()
    assert places["drain_s"] == (4, "environment: WAYPOST_DRAIN_S")
    assert places["ping_interval_s"] == (2.0, "w.toml: ping_interval_s")
    assert places["ping_timeout_s"] == (9, "code")
    assert places["upgrade_timeout_s"] == (10, "default")


def test_options_inside_others_change_what_the_code_has() -> None:
    code = {"recovery": waypost.Recovery(max_events=7)}
    made = layered(Options, code, env(recovery__session_ttl_s="60", cookie__secure="yes", queues__order="none"))
    recovery, cookie = made.options.recovery, made.options.cookie
    assert recovery is not None
    assert (recovery.session_ttl_s, recovery.max_events) == (60, 7)
    assert isinstance(cookie, waypost.Cookie)
    assert (cookie.name, cookie.secure) == ("io", True)
    assert made.options.queues.order == "none"
    places = made.places()
    assert places["recovery.session_ttl_s"] == (60, "environment: WAYPOST_RECOVERY__SESSION_TTL_S")
    assert places["recovery.max_events"] == (7, "code")
    assert places["recovery.max_age_s"][1] == "default"
    assert "recovery" not in places


def test_a_whole_option_covers_its_parts_in_lower_layers_and_the_other_way_round() -> None:
    off = layered(Options, {}, stacked([file(recovery__max_events=5), env(recovery="none")]))
    assert off.options.recovery is None
    assert off.places()["recovery"] == (None, "environment: WAYPOST_RECOVERY")
    on = layered(Options, {}, stacked([file(recovery="none"), env(recovery__max_events="5")]))
    assert on.options.recovery is not None
    assert on.options.recovery.max_events == 5
    with pytest.raises(ConfigurationError, match="RECOVERY__MAX_EVENTS='5': expected no value for WAYPOST_RECOVERY"):
        stacked([env(recovery="none", recovery__max_events="5")])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (env(ping_interval_s="fast"), r"WAYPOST_PING_INTERVAL_S='fast': expected a number from 0.001 to 1000000"),
        (env(recovery__max_events="0"), "WAYPOST_RECOVERY__MAX_EVENTS='0': expected a whole number from 1"),
        (env(durability="comit"), 'did you mean "commit"'),
        (file(port="8000", drain_s="5"), "w.toml: drain_s='5': expected a number from 0"),
        (env(trusted_proxies="10.0.0.1/8"), r"WAYPOST_TRUSTED_PROXIES=\['10.0.0.1/8'\]: expected addresses"),
        (env(cookie__same_site="none"), "WAYPOST_COOKIE__SAME_SITE='none': expected secure=True"),
        (env(json_default="dump"), "WAYPOST_JSON_DEFAULT='dump': expected a function"),
    ],
)
def test_a_wrong_value_names_its_place(given: dict[str, Given], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        layered(Options, {}, given)


def test_the_code_s_own_mistake_is_the_code_s() -> None:
    with pytest.raises(ConfigurationError, match=r"^drain_s=-1"):
        layered(Options, {"drain_s": -1}, env(ping_interval_s="5"))
    with pytest.raises(ConfigurationError, match=r"^drains=5: .* did you mean drain_s"):
        layered(Options, {"drains": 5}, env(ping_interval_s="5"))


def test_servers_take_what_is_given_while_they_are_made() -> None:
    with giving(env(drain_s="4")):
        inside = waypost.Server(drain_s=9)
    assert inside.options.drain_s == 4
    assert waypost.Server(drain_s=9).options.drain_s == 9


def test_every_option_has_a_name() -> None:
    names = names_of(Options)
    assert {field.name for field in fields(Options)} <= set(names)
    assert {"recovery.session_ttl_s", "queues.lease_s", "cookie.secure"} <= set(names)
