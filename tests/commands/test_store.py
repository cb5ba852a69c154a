"""``waypost store backup``, ``restore`` and ``check``, beside a server that writes and on files without one."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commands.stores import fill
from tests.support.server_process import REPOSITORY
from waypost.cli import main
from waypost.errors import StoreFull
from waypost.storage.sqlite import copies


class Store:
    """Runs ``waypost store`` in this process, and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = ""
        self.err = ""
        self._capsys = capsys

    def run(self, *words: object) -> int:
        """Run a command; returns its exit code."""
        self._capsys.readouterr()
        try:
            code = main(["store", *map(str, words)])
        except SystemExit as ended:  # how argparse refuses
            code = int(ended.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *words: object) -> Any:
        """Run a command that must work; returns the JSON that it printed."""
        code = self.run(*words, "--json")
        assert (code, self.err) == (0, "")
        return json.loads(self.out)


@pytest.fixture
def store(capsys: pytest.CaptureFixture[str]) -> Store:
    return Store(capsys)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    path = tmp_path / "live" / "store.db"
    fill(path)
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open and writes to it as fast as it can."""
    command = [sys.executable, "-m", "tests.storage.crash_child", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        for _ in range(200):
            assert child.stdout.readline()
        # What it prints from now on is nobody's business, and must not stop it.
        drain = subprocess.Popen(["cat"], stdin=child.stdout, stdout=subprocess.DEVNULL)
        try:
            yield child
        finally:
            child.kill()
            drain.wait()


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def files(path: Path) -> set[str]:
    """Return the names of a store's files, but for the one by which writers take turns."""
    return {one.name for one in path.parent.iterdir()} - {f"{path.name}-turn"}


def is_sound(path: Path) -> None:
    """Fail unless a copy is whole, and its parts are of one moment."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert (
        rows(
            path, "SELECT name FROM queue WHERE messages != (SELECT count(*) FROM message m WHERE m.queue = queue.id)"
        )
        == []
    )
    assert not Path(f"{path}-wal").exists()


def test_a_copy_of_a_store_that_nobody_has_open(store: Store, path: Path, copy: Path) -> None:
    told = store.json("backup", path, copy)
    assert told == {"copy": str(copy), "bytes": copy.stat().st_size}
    is_sound(copy)
    assert rows(copy, "SELECT name, messages, dead FROM queue") == rows(
        path, "SELECT name, messages, dead FROM queue"
    )
    assert [one.name for one in copy.parent.iterdir() if one.is_file()] == ["copy.db"]


def test_copies_are_made_while_a_server_writes(store: Store, path: Path, tmp_path: Path) -> None:
    with writing(path):
        for number in range(3):
            copy = tmp_path / f"copy-{number}.db"
            assert store.run("backup", path, copy) == 0
            assert copy.name in store.out
            is_sound(copy)
        assert store.run("check", path) == 0
    entries = [rows(tmp_path / f"copy-{number}.db", "SELECT count(*) FROM message")[0][0] for number in range(3)]
    assert entries == sorted(set(entries)), "each has more than the one before"


def test_progress_is_told_at_each_step(path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_STEP_PAGES", 4)
    told: list[tuple[int, int]] = []
    copies.back_up(path, copy, lambda done, total: told.append((done, total)))
    pages = rows(copy, "PRAGMA page_count")[0][0]
    assert told[-1] == (pages, pages)
    assert len(told) > 3
    assert told == sorted(told)
    told.clear()
    assert copies.check(path, lambda done, total: told.append((done, total))) == []
    assert [done for done, _ in told] == [*range(told[0][1] + 1)]


def test_a_copy_that_can_not_be_made_leaves_nothing(
    store: Store, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.write_bytes(b"mine")
    assert store.run("backup", path, copy) == 2
    assert "expected a file that does not exist yet" in store.err
    assert copy.read_bytes() == b"mine"
    assert store.run("backup", path, copy.parent / "missing" / "copy.db") == 2
    assert "does not; make it first" in store.err
    assert store.run("backup", copy.parent / "none.db", copy.parent / "other.db") == 2
    assert "the file of a store; there is none" in store.err
    assert store.run("backup", "memory:", copy.parent / "other.db") == 2
    assert "gone with its process" in store.err
    assert store.run("backup", copy, copy.parent / "other.db") == 1
    assert "it is not a database" in store.err

    def fails(done: int, total: int) -> None:
        raise StoreFull("the copy")

    with pytest.raises(StoreFull):
        copies.back_up(path, copy.parent / "other.db", fails)
    assert sorted(one.name for one in copy.parent.iterdir()) == ["copy.db", "live"]


def test_a_copy_is_put_back(store: Store, path: Path, copy: Path) -> None:
    assert store.run("backup", path, copy) == 0
    with writing(path) as child:
        assert store.run("restore", path, copy, "--yes") == 1
        assert "has had it open since" in store.err
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert Path(f"{path}-wal").stat().st_size > 0
    assert store.run("restore", path, copy) == 2
    assert "add --yes to confirm" in store.err
    assert store.json("restore", path, copy, "--yes") == {"store": str(path), "bytes": path.stat().st_size}
    assert files(path) == {"store.db", "store.db-owner"}
    assert rows(path, "SELECT name, messages FROM queue") == rows(copy, "SELECT name, messages FROM queue")
    is_sound(path)


def test_a_copy_makes_a_store_where_none_was(store: Store, path: Path, copy: Path) -> None:
    assert store.run("backup", path, copy) == 0
    other = path.with_name("other.db")
    assert store.run("restore", other, copy, "--yes") == 0
    assert "all clients start anew" in store.out
    is_sound(other)


def test_a_copy_that_is_not_there_leaves_nothing_behind(store: Store, path: Path, copy: Path) -> None:
    place = path.parent / "nowhere.db"
    assert store.run("restore", place, copy, "--yes") == 2
    assert "expected the file of a store; there is none" in store.err
    assert not [found for found in path.parent.iterdir() if found.name.startswith("nowhere.db")]


def test_a_damaged_copy_is_not_put_back(store: Store, path: Path, copy: Path) -> None:
    assert store.run("backup", path, copy) == 0
    content = copy.read_bytes()
    before = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:8192] + b"\xa5" * 8192 * 20 + content[8192 * 21 :], b"x"):
        copy.write_bytes(damaged)
        assert store.run("restore", path, copy, "--yes") == 1
        assert store.err.count("\n") == 1
        assert path.read_bytes() == before
    assert store.run("restore", path, path, "--yes") == 2
    assert "another file than the store" in store.err
    assert files(path) == {"store.db", "store.db-owner"}


def test_damage_is_found(store: Store, path: Path) -> None:
    assert store.json("check", path) == {"store": str(path), "problems": []}
    assert store.run("check", path) == 0
    assert store.out == f"{path}: no damage\n"
    ((root,),) = rows(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'dead_letter'")
    with path.open("r+b") as file:
        file.seek((root - 1) * 8192)
        file.write(b"\xa5" * 8192)
    assert store.run("check", path) == 1
    assert "dead_letter" in store.out
    os.truncate(path, 8192 * 5)
    assert store.run("check", path) == 1
    assert "malformed" in store.out + store.err


@pytest.mark.parametrize("words", [("backup", "copy.db"), ("restore", "copy.db", "--yes"), ("check",)])
def test_a_database_is_sent_to_its_own_tools(store: Store, words: tuple[str, ...]) -> None:
    assert store.run(words[0], "postgresql://ann:secret@db/shop", *words[1:]) == 2
    assert "pg_dump" in store.err
    assert "secret" not in store.err
