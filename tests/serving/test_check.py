"""``waypost check``: each option with its place, what would be wrong, and nothing that is changed."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from waypost.cli import main

Check = Callable[..., tuple[int, Any]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run ``waypost check --json`` with words and variables; return the exit code and what it printed."""
    monkeypatch.setenv("WAYPOST_PORT", "0")

    def run(*words: str, **variables: str) -> tuple[int, Any]:
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "tests.serving.app", raising=False)
            for name, text in variables.items():
                patch.setenv(name, text)
            code = main(["check", "tests.serving.app:io", "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


def told(found: Any, weight: str = "problem") -> list[str]:
    return [f"{one['about']}: {one['text']}" for one in found["findings"] if one["weight"] == weight]


def test_each_option_comes_with_its_value_and_its_place(check: Check, tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text("ack_timeout_s = 5\n[queues]\nlease_s = 60\n")
    code, found = check(
        "--config", str(config), "--proxy", "10.0.0.0/8", "--proxy", "::1", WAYPOST_RECOVERY__MAX_EVENTS="7"
    )
    options = found["options"]
    assert code == 0
    assert options["drain_s"] == {"value": "0.1", "from": "code"}
    assert options["ack_timeout_s"] == {"value": "5", "from": f"{config}: ack_timeout_s"}
    assert options["queues.lease_s"] == {"value": "60", "from": f"{config}: queues.lease_s"}
    assert options["recovery.max_events"] == {"value": "7", "from": "environment: WAYPOST_RECOVERY__MAX_EVENTS"}
    assert options["trusted_proxies"] == {"value": "['10.0.0.0/8', '::1']", "from": "command line: --proxy"}
    assert options["store"] == {"value": "memory:", "from": "default"}
    assert options["host"] == {"value": "127.0.0.1", "from": "default"}
    assert told(found, "note") == ["store: what is in memory is gone when the service stops"]


def test_a_password_is_not_shown(check: Check) -> None:
    code, found = check("--store", "postgresql://user:geheim@127.0.0.1:1/parcels")
    assert code == 1
    assert "geheim" not in str(found)
    assert found["options"]["store"] == {
        "value": "postgresql://user@127.0.0.1:1/parcels",
        "from": "command line: --store",
    }
    assert "PostgreSQL can't be reached" in told(found)[0]


def test_a_store_that_could_not_be_opened_is_a_problem(check: Check, tmp_path: Path) -> None:
    (tmp_path / "prose.db").write_text("no database at all")
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.executescript("PRAGMA application_id = 0x57415950; PRAGMA user_version = 999; CREATE TABLE t (a)")
    newer.close()
    for name, problem in {
        "no/folder/a.db": "does not; make it first",
        "prose.db": "it is not a database",
        "newer.db": "its format is version 999",
        ".": "a regular file, but it is a directory",
    }.items():
        code, found = check(WAYPOST_STORE=str(tmp_path / name))
        assert code == 1, name
        assert problem in told(found)[0]
        assert found["options"]["store"]["from"] == "environment: WAYPOST_STORE"


def test_nothing_is_made_or_changed(check: Check, tmp_path: Path) -> None:
    code, found = check("--store", str(tmp_path / "new.db"))
    assert code == 0
    assert told(found, "note") == [f"store: {tmp_path}/new.db does not exist yet; the first start makes it"]
    assert list(tmp_path.iterdir()) == []


async def test_a_running_server_is_no_problem(check: Check, tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        async with waypost.Server(store=store).lifespan():
            before = {one.name for one in tmp_path.iterdir()}
            code, found = await asyncio.to_thread(check, "--store", store, "--port", port)
            after = {one.name for one in tmp_path.iterdir()}
    assert code == 0
    assert before == after
    in_store, at_port = told(found, "note")
    assert "has it open; a server waits for its end" in in_store
    assert at_port.startswith(f"port: 127.0.0.1:{port}: expected an address that can be listened on; Address already")


def test_an_address_of_another_machine_is_a_problem(check: Check) -> None:
    code, found = check("--health", "192.0.2.1:80")
    assert code == 1
    assert told(found) == [
        "health: 192.0.2.1:80: expected an address that can be listened on; Cannot assign requested address"
    ]


def test_an_unknown_variable_is_a_warning(check: Check) -> None:
    code, found = check(WAYPOST_DRAINS="1")
    assert code == 0
    assert (
        "environment: WAYPOST_DRAINS in the environment: no option has that name; did you mean WAYPOST_DRAIN_S?"
        in (told(found, "warning"))
    )


def test_people_get_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_PORT", "0")
    assert main(["check", "tests.serving.app:io", "--workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["option", "value", "from"]
    assert ["workers", "2", "command", "line:", "--workers"] in [line.split() for line in lines]
    assert "note: emitter_socket: other programs can't emit into the memory of workers without this option" in lines
    assert lines[-1] == "no problems"


def test_a_value_that_is_not_accepted_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_DRAIN_S", "soon")
    monkeypatch.delitem(sys.modules, "tests.serving.app", raising=False)
    assert main(["check", "tests.serving.app:io"]) == 2
    assert capsys.readouterr().err == "waypost: WAYPOST_DRAIN_S='soon': expected a number from 0\n"
