"""`waypost queue` on a store that no server has open: what it shows, changes, refuses and asks."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.commands.stores import Command, fill, with_headers

NOBODY = 65534


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store.db"
    fill(path)
    return path


@pytest.fixture
def command(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, on a copy of its own."""
    return Command(Path(shutil.copy(filled, tmp_path / "store.db")), capsys)


@pytest.fixture
def looking(filled: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, on a store that many tests look at."""
    return Command(filled, capsys)


def test_queues_are_listed(looking: Command) -> None:
    assert looking.run("ls") == 0
    title, *lines = looking.out.splitlines()
    assert title.split() == ["QUEUE", "MESSAGES", "DELAYED", "SIZE", "OLDEST", "CONSUMERS", "DEAD", "PAUSED"]
    assert [line.split()[:5] for line in lines[:2]] == [
        ["inbox:ann", "1", "0", "2.9", "KiB"],
        ["inbox:bob", "1", "0", "2.9", "KiB"],
    ]
    assert lines[2].split()[:3] == ["mails", "9", "1"]
    assert {line.index(word) for line, word in zip(lines, ("-", "-", "-"), strict=True)} == {title.index("PAUSED")}
    assert [one["name"] for one in looking.json("ls", "--match", "inbox:*")] == ["inbox:ann", "inbox:bob"]
    (mails,) = looking.json("ls", "--match", "mails")
    assert datetime.fromisoformat(mails.pop("oldest_at")).timestamp() == pytest.approx(time.time(), abs=600)
    assert mails == {
        "name": "mails",
        "messages": 9,
        "delayed": 1,
        "bytes": mails["bytes"],
        "newest_offset": 9,
        "consumers": 2,
        "dead_letters": 6,
        "expired": 0,
        "dropped": 0,
        "paused_until": None,
    }


def test_a_queue_is_shown_with_its_consumers(looking: Command) -> None:
    lines = looking.lines("info", "mails")
    assert "own options: max_messages=1000" in looking.out
    assert [line[:5] for line in lines if line and line[0] in ("archive", "smtp")] == [
        ["archive", "0", "7", "6", "0"],
        ["smtp", "3", "5", "4", "1"],
    ]
    shown = looking.json("info", "mails")
    assert shown["options"] == {"max_messages": 1000}
    assert [(one["name"], one["waiting"], one["dead_letters"]) for one in shown["consumers"]] == [
        ("archive", 7, 2),
        ("smtp", 5, 4),
    ]


def test_messages_are_shown_where_they_wait(looking: Command) -> None:
    lines = looking.lines("peek", "mails", "--limit", 3)
    assert [[line[0], *line[line.index("id") :]] for line in lines[1:4]] == [
        [str(n), "id", str(n), f"k{n % 2}", "mail", f'{{"to":{n}}}'] for n in (1, 2, 3)
    ]
    assert lines[-1] == ["more:", "--after", "3"]
    (last,) = looking.lines("peek", "mails", "--after", 8)[1:]
    assert last[-4:] == ["picture", '"<2', 'bytes>",', '"\\u001b[2J"']
    assert "\x1b" not in looking.out
    (last,) = looking.json("peek", "mails", "--after", 8)
    assert (last["event"], last["args"]) == ("picture", [{"base64": "AAE="}, "\x1b[2J"])
    first, *_ = looking.json("peek", "mails", "--consumer", "smtp", "--limit", 20)
    assert {name: first[name] for name in ("offset", "failures", "key")} == {"offset": 4, "failures": 0, "key": "k0"}
    looking.run("peek", "mails", "--consumer", "smtp")
    (retrying,) = [line.split() for line in looking.out.splitlines() if line.split()[0] == "6"]
    assert retrying[2:6] == ["1", "0", "in", "16m"]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("--consumer", "archive"), [5, 6]),
        (("--reason", "address"), [1, 2, 3, 4]),
        (("--event", "picture"), [4]),
        (("--event", "mail", "--consumer", "smtp", "--limit", 2), [1, 2]),
        (("--since", "1h"), [1, 2, 3, 4, 5, 6]),
        (("--since", "2999-01-01"), []),
        (("--until", "1h30m"), []),
        (("--id", "id 2"), [2]),
        (("--key", "k1"), [1, 3, 6]),
        (("--number", 3, "--number", 5), [3, 5]),
        (("--after", 4), [5, 6]),
    ],
)
def test_dead_letters_are_found_by_filters(looking: Command, filters: tuple[object, ...], numbers: list[int]) -> None:
    assert [one["number"] for one in looking.json("dead", "mails", *filters)] == numbers


def test_dead_letters_are_shown_with_their_history(looking: Command) -> None:
    lines = looking.lines("dead", "mails", "--number", 1, "--history")
    # Its age has one word, or two after a minute.
    assert lines[1][:1] + lines[1][lines[1].index("smtp") :] == [
        "1",
        "smtp",
        "2",
        "0",
        "no",
        "such",
        "address",
        "id",
        "1",
        "mail",
        '{"to":1}',
    ]
    assert [line[-5:] for line in lines if "later" in line] == [["later", "rejected:", "no", "such", "address"]] * 2
    (letter,) = looking.json("dead", "mails", "--number", 1)
    assert [item["reason"] for item in letter["history"]] == ["no such address"] * 2
    assert looking.lines("dead", "mails", "--limit", 1)[-1] == ["more:", "--after", "1"]


def test_headers_are_shown_where_messages_have_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "store.db"
    with_headers(path)
    looking = Command(path, capsys)
    title, first, second = looking.lines("peek", "jobs")
    assert title[-1] == "HEADERS"
    assert (first[-2:], second[-1]) == (["tenant=7,", "odd=\\x1b[2J"], "-")
    assert [one["headers"] for one in looking.json("peek", "jobs")] == [{"tenant": "7", "odd": "\x1b[2J"}, {}]
    title, letter = looking.lines("dead", "jobs")
    assert (title[-1], letter[-2]) == ("HEADERS", "tenant=7,")
    assert [one["headers"] for one in looking.json("dead", "jobs")] == [{"tenant": "7", "odd": "\x1b[2J"}]
    assert "HEADERS" not in looking.lines("peek", "plain")[0]


def test_a_message_that_is_not_due_is_cancelled(command: Command) -> None:
    assert command.json("cancel", "mails", "later") == {"queue": "mails", "id": "later", "removed": 1}
    (mails,) = command.json("ls", "--match", "mails")
    assert (mails["messages"], mails["delayed"]) == (9, 0)
    for gone in ("later", "id 1"):
        assert command.run("cancel", "mails", gone) == 2
        assert command.err == f"waypost: no message {gone} of queue mails waits for its time\n"


def test_dead_letters_are_redriven_by_filter(command: Command) -> None:
    assert command.json("redrive", "mails", "--event", "mail", "--consumer", "smtp")["redriven"] == 3
    assert [one["number"] for one in command.json("dead", "mails")] == [4, 5, 6]
    waiting = command.json("peek", "mails", "--consumer", "smtp", "--limit", 20)
    assert [one["offset"] for one in waiting] == [4, 5, 6, 7, 8, 10, 11, 12]
    assert [one["id"] for one in waiting[-3:]] == ["id 1", "id 2", "id 3"]
    assert command.lines("redrive", "mails")[0][:3] == ["3", "dead", "letters"]
    assert command.json("dead", "mails") == []


def test_dead_letters_are_redriven_at_a_rate(command: Command) -> None:
    began = time.time()
    redriven = command.json("redrive", "mails", "--rate", "0.5")
    assert redriven["redriven"] == 6
    assert datetime.fromisoformat(redriven["last_due_at"]).timestamp() == pytest.approx(began + 10, abs=5)
    with closing(sqlite3.connect(command.path)) as connection:
        due = [at for (at,) in connection.execute("SELECT due_at FROM scheduled ORDER BY due_at").fetchall()]
    assert [round(at - due[0], 3) for at in due[:5]] == [0, 2, 4, 6, 8]
    assert command.json("info", "mails")["delayed"] == 6, "the first one is due, one was delayed already"


def test_messages_are_purged(command: Command) -> None:
    assert command.json("purge", "mails", "--upto", 2, "--yes")["removed"] == 2
    assert command.json("info", "mails")["messages"] == 7
    assert command.json("purge", "mails", "--yes") == {"queue": "mails", "removed": 8, "what": "messages"}
    after = command.json("info", "mails")
    assert (after["messages"], after["delayed"], after["bytes"], after["dead_letters"]) == (0, 0, 0, 6)
    assert command.json("purge", "mails", "--yes")["removed"] == 0


def test_dead_letters_are_purged(command: Command) -> None:
    assert command.json("purge", "mails", "--dead", "--reason", "disk", "--yes")["removed"] == 2
    assert command.json("purge", "mails", "--dead", "--event", "picture", "--yes")["removed"] == 1
    assert command.json("info", "mails")["messages"] == 9
    assert command.lines("purge", "mails", "--dead", "--yes")[0][:4] == ["3", "dead", "letters", "of"]
    assert command.json("dead", "mails") == []
    assert command.run("purge", "mails", "--reason", "disk", "--yes") == 2
    assert "add --dead" in command.err
    assert command.run("purge", "mails", "--dead", "--upto", 3, "--yes") == 2
    assert "leave --upto or --dead out" in command.err


@pytest.mark.parametrize(
    ("place", "offset", "waiting"),
    [("oldest", 0, 9), ("new", 9, 0), ("7", 6, 3), ("1h", 0, 9), ("2999-01-01T00:00Z", 9, 0)],
)
def test_a_consumer_is_moved(command: Command, place: str, offset: int, waiting: int) -> None:
    moved = command.json("seek", "mails", "smtp", place, "--yes")
    assert moved == {"queue": "mails", "consumer": "smtp", "offset": offset, "waiting": waiting}


def test_queues_and_consumers_are_paused_and_resumed(command: Command) -> None:
    assert command.lines("pause", "mails")[0] == ["queue", "mails", "is", "paused", "until", "it", "is", "resumed"]
    assert command.json("info", "mails")["paused_until"] == "forever"
    command.run("ls")
    assert "until resumed" in command.out
    assert command.json("pause", "mails", "--consumer", "smtp", "--for", "1h")["consumer"] == "smtp"
    command.run("info", "mails")
    assert "for 59m" in command.out
    until = command.json("pause", "mails", "--until", "2999-01-01T00:00Z")["paused_until"]
    assert until == "2999-01-01T00:00:00+00:00"
    assert command.lines("resume", "mails")[0][-3:] == ["paused", "any", "more"]
    command.run("resume", "mails", "--consumer", "smtp")
    assert command.out == "consumer smtp of queue mails is not paused any more\n"
    assert command.lines("resume", "inbox:ann")[0][-3:] == ["was", "not", "paused"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "words", [("purge", "mails"), ("seek", "mails", "smtp", "new"), ("purge", "mails", "--dead")]
)
def test_what_is_not_undone_is_asked_for(
    command: Command, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = command.json("info", "mails")
    assert command.run(*words) == 2
    assert command.err.endswith("because stdin is no terminal: add --yes to confirm\n")
    assert command.err.count("\n") == 1
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    assert command.run(*words) == 1
    assert "? [y/N] nothing was changed" in command.err
    assert command.json("info", "mails") == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert command.run(*words) == 0
    assert command.json("info", "mails") != before


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("info", "nowhere"), 1, "it has no queue nowhere; `waypost queue ls` lists those it has"),
        (("pause", "nowhere"), 1, "it has no queue nowhere"),
        (("peek", "mails", "--consumer", "nobody"), 1, "queue mails has no consumer nobody"),
        (("seek", "mails", "nobody", "new", "--yes"), 1, "queue mails has no consumer nobody"),
        (
            ("seek", "mails", "smtp", "newest"),
            2,
            "expected oldest, new, an offset, a time such as 2026-11-24T08:00, or a",
        ),
        (("redrive", "mails", "--rate", "0"), 2, "expected a number per second above 0"),
        (("redrive", "mails", "--rate", "fast"), 2, "expected a number per second above 0"),
        (("pause", "mails", "--for", "5"), 2, "expected a duration such as 90s, 15m"),
        (("peek", "mails", "--limit", "0"), 2, "expected a whole number from 1"),
    ],
)
def test_what_can_not_be_done_is_told(looking: Command, words: tuple[str, ...], code: int, sentence: str) -> None:
    assert looking.run(*words) == code
    assert sentence in looking.err
    assert "Traceback" not in looking.err


def test_a_store_that_can_not_be_visited_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"no database" * 20)
    for store, code, sentence in (
        ("memory:", 2, "what is in memory is seen only by the process that has it"),
        ("redis://secret", 2, "store='redis:…': expected a file's path"),
        (tmp_path / "none.db", 2, "expected the file of a store"),
        (tmp_path / "foreign", 1, "it is not a database"),
    ):
        assert command.run("ls", store=store) == code
        assert sentence in command.err
        assert command.err.count("\n") == 1
    assert not (tmp_path / "none.db").exists()
    assert command.run("ls", store=f"sqlite:{command.path}") == 0


@pytest.fixture
def fixed(command: Command) -> Iterator[Path]:
    """A directory that nobody else can write to, with a store."""
    # Not in pytest's own, which others can't enter.
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(command.path, name)
        for one in (Path(name), Path(name) / "store.db"):
            one.chmod(0o555)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes somebody else")
def test_a_copy_that_can_not_be_written_to_is_looked_at(command: Command, fixed: Path) -> None:
    shown = _as_nobody(Path(command.path), fixed, "ls", "store.db")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1].startswith("mails")
    refused = _as_nobody(Path(command.path), fixed, "pause", "store.db", "mails")
    assert refused.returncode == 1
    assert "can't be written to by this user" in refused.stderr
    hidden = _as_nobody(Path(command.path), fixed, "ls", str(command.path))
    assert (hidden.returncode, "Traceback" in hidden.stderr) == (2, False)
    assert {one.name for one in fixed.iterdir()} == {"store.db"}


def _as_nobody(other: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # What Python loads may be where only root can read: so it is used before it becomes somebody else.
    program = (
        "import contextlib, io, os, sys; from waypost.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()): main(['queue', 'resume', {str(other)!r}, 'mails'])\n"
        f"os.setuid({NOBODY}); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "queue", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_whoever_reads_may_have_seen_enough(looking: Command) -> None:
    command = [sys.executable, "-m", "waypost", "queue", "peek", str(looking.path), "mails", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 141)
    process.stderr.close()
