"""The lock beside a file: one owner, the lock of version 0.1, and a file that the lock leaves as it is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from waypost.errors import StoreBusy
from waypost.owning import Knock, OwnerFile

CONTENT = b"00000000000000000007\nand a mark"


def test_taking_the_lock_leaves_the_content(tmp_path: Path) -> None:
    (tmp_path / "store.db-owner").write_bytes(CONTENT)
    for _ in range(2):
        owner = OwnerFile(tmp_path / "store.db")
        assert owner.read(len(CONTENT)) == CONTENT
        owner.close()
    assert OwnerFile.peek(tmp_path / "store.db", 20) == CONTENT[:20]
    assert OwnerFile.peek(tmp_path / "another.db", 20) == b""


def test_two_owners_of_one_process(tmp_path: Path) -> None:
    owner = OwnerFile(tmp_path / "store.db")
    with pytest.raises(StoreBusy):
        OwnerFile(tmp_path / "store.db")
    owner.close()
    OwnerFile(tmp_path / "store.db").close()


def test_the_lock_is_the_one_of_version_0_1(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "store.db-owner", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(StoreBusy):
        OwnerFile(tmp_path / "store.db")
    os.close(descriptor)
    owner = OwnerFile(tmp_path / "store.db")
    descriptor = os.open(tmp_path / "store.db-owner", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    owner.close()


def test_a_killed_process_gives_the_lock_up(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from waypost.owning import OwnerFile;"
        "owner = OwnerFile(Path(sys.argv[1])); print('taken', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "store.db"
    arguments = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"taken\n"
        with pytest.raises(StoreBusy):
            OwnerFile(path)
        child.kill()
        child.wait()
    OwnerFile(path).close()


def test_the_error_names_who_has_it_and_not_who_had_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    owner = OwnerFile(path)
    with pytest.raises(StoreBusy) as busy:
        OwnerFile(path)
    assert (busy.value.pid, busy.value.host) == (os.getpid(), "")
    assert busy.value.since is not None
    owner.close()
    # An owner of version 0.1 notes nothing.
    descriptor = os.open(f"{path}-owner", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(StoreBusy, match="another process has it open"):
        OwnerFile(path)
    os.close(descriptor)


def test_a_knock_is_seen_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert OwnerFile.peek_knock(path) is None
    OwnerFile.knock(path, 1)
    assert not (tmp_path / "store.db-owner").exists()
    owner = OwnerFile(path)
    assert OwnerFile.peek_knock(path) is None
    for count in (1, 2):
        OwnerFile.knock(path, count)
        assert OwnerFile.peek_knock(path) == Knock(os.getpid(), count)
    OwnerFile.knock(path, 0)
    assert OwnerFile.peek_knock(path) is None
    owner.close()
