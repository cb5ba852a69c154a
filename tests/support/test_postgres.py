"""The tests' own PostgreSQL: shared by processes, gone with them, and able to be broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, require_postgres
from tests.support.require import require_module
from tests.support.waiting import until

_USER = """
import sys, time
from pathlib import Path
from tests.support.postgres import join_shared
server, users = join_shared(Path(sys.argv[1]))
server.execute("SELECT 1")
print(server.folder, flush=True)
time.sleep(600)
"""

_OWNER = """
import time
from tests.support.postgres import PostgresServer
server = PostgresServer.make()
server.start()
print(server.processes()[0], server.folder, flush=True)
time.sleep(600)
"""


def test_each_test_has_a_database_of_its_own(postgres: PostgresServer, postgres_url: str) -> None:
    psycopg = require_module("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE here (n int)")
    name = postgres.create_database(postgres_url.rpartition("/")[2])
    assert postgres.execute("SELECT count(*) FROM here", database=name) == [(0,)]
    postgres.drop_database(name)
    assert postgres.execute("SELECT 1 FROM pg_database WHERE datname = %s", name) == []


def test_a_template_is_prepared_once(postgres: PostgresServer) -> None:
    prepared: list[str] = []
    for _ in range(2):
        assert postgres.template("once", prepared.append) == "once"
    assert len(prepared) <= 1
    postgres.drop_database("once")


async def test_processes_share_one_server_which_ends_with_the_last_of_them(tmp_path: Path) -> None:
    require_postgres()
    users = [_start(_USER, str(tmp_path)) for _ in range(2)]
    folders = [_line(user)[0] for user in users]
    assert folders[0] == folders[1]
    pid = int((Path(folders[0]) / "data" / "postmaster.pid").read_text().split()[0])
    _kill(users[0])
    # The keeper looks every half second; the other user still has it.
    await until(lambda: _runs(pid), "the server runs on")
    _kill(users[1])
    await until(lambda: not _runs(pid) and not Path(folders[0]).exists(), "the server is gone, and its folder")


async def test_a_server_of_its_own_ends_with_a_killed_process() -> None:
    require_postgres()
    user = _start(_OWNER)
    pid, folder = _line(user)
    _kill(user)
    await until(lambda: not _runs(int(pid)), "the server is gone")
    shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_a_stopped_or_killed_server_starts_again_with_what_was_committed(
    own_postgres: PostgresServer, how: str
) -> None:
    own_postgres.execute("CREATE TABLE kept (n int)")
    own_postgres.execute("INSERT INTO kept VALUES (1)")
    if how == "kill":
        own_postgres.kill()
    else:
        own_postgres.stop(how)
    assert not own_postgres.alive()
    assert not own_postgres.answers()
    own_postgres.start()
    assert own_postgres.execute("SELECT n FROM kept") == [(1,)]


def test_a_frozen_server_stands_still_and_goes_on(own_postgres: PostgresServer) -> None:
    own_postgres.freeze()
    states = {_state(pid) for pid in own_postgres.processes()}
    own_postgres.thaw()
    # One that was about to end is a zombie meanwhile.
    assert states - {"Z"} == {"T"}
    assert own_postgres.execute("SELECT 1") == [(1,)]


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen((sys.executable, "-c", program, *arguments), stdout=subprocess.PIPE, text=True)


def _line(user: subprocess.Popen[str]) -> list[str]:
    assert user.stdout is not None
    return user.stdout.readline().split()


def _kill(user: subprocess.Popen[str]) -> None:
    with user:
        user.kill()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _runs(pid: int) -> bool:
    try:
        return _state(pid) != "Z"
    except OSError:
        return False
