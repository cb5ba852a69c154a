"""What /proc says of who listens where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from waypost.listeners import can_tell, listens, neighbours

pytestmark = pytest.mark.skipif(not can_tell(), reason="the system does not tell")

_LISTENS = (
    "import socket, sys; held = socket.socket(fileno=int(sys.argv[1])); held.listen(); print(1, flush=True);"
    "sys.stdin.read()"
)


def test_a_process_listens_once_it_accepts_and_loses_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    program = (
        "import socket; from waypost.listeners import listens; one = socket.socket(); one.bind(('127.0.0.1', 0));"
        "print(listens()); one.listen(); print(listens()); one.close(); print(listens())"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", "False"]
    listens()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_neighbour_is_a_sibling_on_the_same_address(family: socket.AddressFamily, tmp_path: Path) -> None:
    where: dict[socket.AddressFamily, tuple[str, int] | str] = {
        socket.AF_INET: ("127.0.0.1", 0),
        socket.AF_INET6: ("::1", 0),
        socket.AF_UNIX: str(tmp_path / "socket"),
    }
    with socket.socket(family) as shared, socket.socket() as foreign:
        shared.bind(where[family])
        foreign.bind(("127.0.0.1", 0))
        shared.listen()
        children = [
            subprocess.Popen(
                [sys.executable, "-c", _LISTENS, str(one.fileno())],
                pass_fds=[one.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for one in (shared, foreign, shared)
        ]  # fmt: skip
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == b"1\n"
            # This process is their parent, and so no sibling; each of the two is the other's.
            assert neighbours() == []
            program = (
                "import socket, sys; from waypost.listeners import neighbours; "
                "held = socket.socket(fileno=int(sys.argv[1])); print(*neighbours())"
            )
            told = subprocess.run(
                [sys.executable, "-c", program, str(shared.fileno())],
                capture_output=True, text=True, check=True, pass_fds=[shared.fileno()],
            )  # fmt: skip
            assert told.stdout.split() == [str(pid) for pid in sorted((children[0].pid, children[2].pid))]
        finally:
            for child in children:
                child.communicate()
