"""The places of files: what can't be the file of a store or of an outbox is refused, and the sentence says why.

Servers, clients and the command line refuse alike, and leave nothing behind.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import waypost
from waypost.cli import main
from waypost.errors import ConfigurationError

Opening = Callable[[Path], Awaitable[None]]


async def open_store(path: Path) -> None:
    io = waypost.Server(store=path)
    await io.start()
    await io.close()


async def open_outbox(path: Path) -> None:
    client = waypost.Client("http://127.0.0.1:1", outbox=path)
    try:
        await client.emit("x")
    finally:
        await client.close()


OPENINGS = [open_store, open_outbox]


def missing_directory(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "missing" / "file.db", f"directory that exists, but {tmp_path / 'missing'} does not; make it"


def no_directory(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "plain").write_bytes(b"")
    return tmp_path / "plain" / "file.db", "Not a directory"


def directory(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, "expected a regular file, but it is a directory"


def fifo(tmp_path: Path) -> tuple[Path, str]:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo", "expected a regular file, but it is a FIFO"


def unix_socket(tmp_path: Path) -> tuple[Path, str]:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(tmp_path / "socket"))
    return tmp_path / "socket", "expected a regular file, but it is a socket"


def device(tmp_path: Path) -> tuple[Path, str]:
    return Path("/dev/null"), "expected a regular file, but it is a device"


def long_name(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / ("n" * 256), "a file's name of at most 247 bytes, received 256"


def name_without_room_for_the_log(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / ("n" * 250), "a file's name of at most 247 bytes, received 250"


def loop(tmp_path: Path) -> tuple[Path, str]:
    os.symlink("loop", tmp_path / "loop")
    return tmp_path / "loop", "Too many levels of symbolic links"


def owner_is_a_fifo(tmp_path: Path) -> tuple[Path, str]:
    os.mkfifo(tmp_path / "file.db-owner")
    return tmp_path / "file.db", "it is not a regular file"


PLACES = [
    missing_directory,
    no_directory,
    directory,
    fifo,
    unix_socket,
    device,
    long_name,
    name_without_room_for_the_log,
    loop,
    owner_is_a_fifo,
]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("place", PLACES)
async def test_what_can_be_no_file_is_refused(
    tmp_path: Path, opening: Opening, place: Callable[[Path], tuple[Path, str]]
) -> None:
    path, sentence = place(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigurationError) as refusal:
        await opening(path)
    assert sentence in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory on a read-only file system."""
    directory = tmp_path / "read-only"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1M", "waypost-test", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_file_system_that_is_read_only(read_only: Path, opening: Opening) -> None:
    with pytest.raises(ConfigurationError, match=r"can be written to; .*-owner can't: Read-only file system"):
        await opening(read_only / "file.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_directory_of_somebody_else(tmp_path: Path, opening: Opening) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match=r"can be written to; .*-owner can't: Permission denied"):
        await opening(tmp_path / "file.db")


@pytest.mark.parametrize("place", [missing_directory, directory, fifo, long_name])
def test_the_command_line_says_the_same(
    tmp_path: Path, place: Callable[[Path], tuple[Path, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, sentence = place(tmp_path)
    assert main(["queue", "ls", str(path)]) == 2
    assert sentence in capsys.readouterr().err
