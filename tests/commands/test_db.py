"""``waypost db``: the schema of a store on PostgreSQL, made, checked, granted, and removed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

import waypost
from tests.support.server_process import free_port
from tests.support.waiting import until
from waypost.cli import main
from waypost.storage.postgres.schema import SCHEMA_VERSION
from waypost.testing import serve


class Db:
    """Runs ``waypost db`` on a database in this process, and keeps what it printed."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.out = ""
        self.err = ""
        self._capsys = capsys

    def run(self, command: str, *words: str) -> int:
        """Run a command; returns its exit code."""
        self._capsys.readouterr()
        code = main(["db", command, self.url, *words])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, command: str, *words: str) -> Any:
        """Run a command that must work; returns the JSON that it printed."""
        assert self.run(command, *words, "--json") == 0, self.err
        return json.loads(self.out)

    def query(self, query: str) -> list[Any]:
        """Run a statement; returns its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def db(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> Db:
    return Db(postgres_url, capsys)


def test_the_schema_is_made_once_and_checked(db: Db) -> None:
    assert db.run("check") == 1
    assert "make it: waypost db migrate" in db.out
    assert db.json("migrate") | {"store": ""} == {
        "store": "", "before": 0, "version": SCHEMA_VERSION, "granted": None,
    }  # fmt: skip
    assert db.json("migrate")["before"] == SCHEMA_VERSION
    assert db.json("check") | {"store": ""} == {
        "store": "", "version": SCHEMA_VERSION, "expected": SCHEMA_VERSION, "problems": [], "servers": [], "aside": 0,
    }  # fmt: skip
    assert db.run("check") == 0
    assert "no server uses it" in db.out
    db.query("SELECT waypost.enter_1('n', 'a:1', '0', '{}', 10)")
    assert db.run("check") == 0
    assert "1 server uses it: n" in db.out


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("schema_version", 0, "make it"), ("oldest_user", 99, "upgrade this server")],
)
def test_a_schema_that_this_version_can_not_use_is_told(db: Db, key: str, value: int, expected: str) -> None:
    db.json("migrate")
    db.query(f"UPDATE waypost.setting SET value = '{value}' WHERE key = '{key}'")
    assert db.run("check") == 1
    assert expected in db.out


def test_a_role_is_granted_what_it_needs_to_emit(db: Db) -> None:
    db.query('DROP ROLE IF EXISTS "shop\'s role"')
    db.query('CREATE ROLE "shop\'s role"')
    try:
        assert db.json("migrate", "--grant", "shop's role")["granted"] == "shop's role"
        assert db.run("migrate", "--grant", "shop's role") == 0
        with psycopg.connect(db.url, autocommit=True) as connection:
            connection.execute('SET ROLE "shop\'s role"')
            connection.execute("SELECT waypost.emit('/', NULL, 'x')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT waypost.adopt_1()")
        assert db.run("migrate", "--grant", "nobody of this name") == 1
        assert "does not exist" in db.err
    finally:
        db.query('DROP OWNED BY "shop\'s role"')
        db.query('DROP ROLE "shop\'s role"')


def test_writes_that_could_not_be_done_are_told(db: Db) -> None:
    db.json("migrate")
    db.query("INSERT INTO waypost.outbox_bad SELECT 1, 0, '/', '', NULL, 0, NULL, 0, 0, NULL, NULL, now(), 'why', 0")
    assert db.run("check") == 0
    assert "1 writes of other programs could not be done" in db.out


def test_a_restored_copy_begins_anew_and_an_upgrade_goes_on(db: Db) -> None:
    db.json("migrate")
    db.query("SELECT waypost.enter_1('n', 'a:1', '0', '{}', 10)")
    db.query("SELECT waypost.history_check_1(NULL, '{}', '{}', '{}', '{}', '{}')")
    eras = db.query("SELECT count(*) FROM waypost.era")
    db.query("UPDATE waypost.setting SET value = 'another system' WHERE key = 'history'")
    assert db.run("adopt") == 0
    db.query("SELECT waypost.history_check_1(NULL, '{}', '{}', '{}', '{}', '{}')")
    assert db.query("SELECT count(*) FROM waypost.era") == eras
    assert db.run("restored") == 2
    assert "add --yes to confirm" in db.err
    assert db.run("restored", "--yes") == 0
    assert db.query("SELECT count(*) - 1 FROM waypost.era") == eras


def test_the_schema_is_removed_after_a_question(db: Db) -> None:
    db.json("migrate")
    assert db.run("drop") == 2
    assert db.json("check")["version"] == SCHEMA_VERSION
    assert db.run("drop", "--yes") == 0
    assert db.query("SELECT to_regnamespace('waypost')") == [(None,)]


@pytest.mark.parametrize("url", ["shop.db", "memory:", "postgresql:", "postgresql://x/y?waypost_nothing=1"])
def test_what_is_no_address_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check", url]) == 2
    assert "store" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check", "postgresql://me:secret@127.0.0.1:1/x"]) == 1
    told = capsys.readouterr().err
    assert "can't be reached" in told
    assert "secret" not in told


def test_clients_learn_that_a_copy_was_restored(db: Db, caplog: pytest.LogCaptureFixture) -> None:
    came: list[tuple[bool, str | None]] = []

    def server() -> waypost.Server:
        io = waypost.Server(store=db.url, drain_s=0)

        @io.on("connect")
        def connect(socket: waypost.Socket) -> None:
            came.append((socket.recovered, socket.recovery.reason))

        return io

    async def story() -> None:
        port = free_port()
        client = waypost.Client(f"http://127.0.0.1:{port}", reconnection_delay_s=0.05, reconnection_delay_max_s=0.1)
        got: list[int] = []
        client.on("news", got.append)
        async with serve(server(), port=port) as site:
            await client.connect()
            await site.io.emit("news", 1)
            await until(lambda: got == [1], "it has an event")
        assert await asyncio.to_thread(db.run, "restored", "--yes") == 0
        async with serve(server(), port=port):
            await until(lambda: len(came) == 2, "it is back")
            await client.close()

    asyncio.run(story())
    assert came == [(False, None), (False, "generation")]
    assert "all sessions have ended: the database was restored from a copy" in caplog.text
