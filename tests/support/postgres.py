"""PostgreSQL servers of the tests' own: in a temporary folder, on a free port, stopped with the tests that use them.

`postgres` is the server that all tests of a run share, of all pytest-xdist workers too: a process of its own, the
keeper, starts it for the first test that needs it and stops it after the last process that used it, also when that
one was killed. Each test takes an empty database of its own there, `postgres_url`. A test that stops, kills or
freezes a server, or changes its configuration, makes one by `PostgresServer.make`.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from ctypes import CDLL
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.require import require_module, skip_or_fail
from tests.support.server_process import free_port

__all__ = [
    "PostgresServer",
    "join_shared",
    "own_postgres",
    "postgres",
    "postgres_url",
    "require_postgres",
    "shared_postgres",
]

SHARED = "WAYPOST_TEST_POSTGRES"
"""The environment variable that names the shared server."""

PROGRAMS = "WAYPOST_TEST_POSTGRES_BIN"
"""The environment variable that names the folder of PostgreSQL's programs, if not the machine's are to be taken."""

_REPOSITORY = Path(__file__).parent.parent.parent
_DEADLINE_S = 60.0
_PAUSE_S = 0.02
_PR_SET_PDEATHSIG = 1
# The store refuses a server whose commits would not survive a crash (fsync, full_page_writes): those stay on.
_CONFIGURATION = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10s",
    "log_line_prefix": "%m [%p] %d %a ",
    "log_min_messages": "warning",
}


def require_postgres() -> Path:
    """Return the folder of PostgreSQL's programs; the test is skipped without them, and fails on CI."""
    candidates = [Path("/usr/local/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    candidates += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if chosen := os.environ.get(PROGRAMS):
        candidates = [Path(chosen)]
    for folder in candidates:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_ctl")):
            require_module("psycopg")
            # The others are beside the real ones, if these are links.
            return (folder / "postgres").resolve().parent
    skip_or_fail("PostgreSQL's initdb, postgres and pg_ctl are not installed")
    raise AssertionError


class PostgresServer:
    """A PostgreSQL server in a folder of its own; it ends with the process that started it, however that ends.

    Attributes:
        folder: Holds the data, the log and the unix socket.
        port: Its TCP port on 127.0.0.1, and the number of its unix socket.
        configuration: What stands in postgresql.conf; changed, it counts from the next `start`.
        environment: Variables for its processes; changed, they count from the next `start`.
    """

    def __init__(self, folder: Path, port: int, configuration: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port
        self.configuration = {**_CONFIGURATION, **(configuration or {})}
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, configuration: Mapping[str, str] | None = None) -> PostgresServer:
        """Make the folder with an empty database system; `start` it then, and `remove` it at the end."""
        folder = Path(tempfile.mkdtemp(prefix="waypost-pg-", dir="/tmp"))  # a unix socket's path must be short
        server = cls(folder, free_port(), configuration)
        server.own(folder)
        options = ("--no-sync", "--auth=trust", "--username=postgres", "--locale=C.UTF-8", "--encoding=UTF8")
        server.run("initdb", "--pgdata", str(server.data), *options)
        return server

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file with its log."""
        return self.folder / "log"

    def url(self, database: str = "postgres", *, user: str = "postgres", host: str = "") -> str:
        """Return the address of a database; ``host="unix"`` for the unix socket."""
        if host == "unix":
            return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{user}@{host or '127.0.0.1'}:{self.port}/{database}"

    # -- its life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        _wait(lambda: self.answers() or not self.alive(), lambda: self.log.read_text(errors="replace")[-4000:])
        assert self.alive(), self.log.read_text(errors="replace")[-4000:]

    def launch(self) -> None:
        """Start it, and don't wait."""
        assert not self.alive()
        text = "".join(f"{name} = '{value}'\n" for name, value in self.configuration.items())
        configuration = self.data / "waypost.conf"
        configuration.write_text(text)
        self.own(configuration)
        command = (str(require_postgres() / "postgres"), "-D", str(self.data), "-p", str(self.port))
        places = ("-c", f"unix_socket_directories={self.folder}", "-c", "listen_addresses=127.0.0.1")
        main = (self.data / "postgresql.conf").read_text()
        if configuration.name not in main:
            (self.data / "postgresql.conf").write_text(f"{main}\ninclude '{configuration.name}'\n")
        with self.log.open("ab") as log:
            self._process = self._spawn((*command, *places), log)

    def alive(self) -> bool:
        """Tell whether its main process lives."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        psycopg = require_module("psycopg")
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``"smart"`` (clients may go on until they leave), ``"fast"`` or ``"immediate"`` (as a crash)."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self._process is not None:
            self.thaw()
            self._process.send_signal(number)
            self._process.wait(_DEADLINE_S)

    def kill(self) -> None:
        """Kill all its processes at once, as when the machine's memory is gone."""
        assert self._process is not None
        pids = self.processes()
        self._signal(signal.SIGSTOP, pids)  # so that none starts another meanwhile
        self._signal(signal.SIGKILL, [*pids, *self.processes()])
        self._process.wait(_DEADLINE_S)

    def restart(self, mode: str = "fast") -> None:
        """Stop it, and start it again on the same port."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """Let all its processes stand still, with their connections open."""
        # The main one first, so that it starts no other meanwhile. Who ends now stays a zombie until it goes on.
        self._stand_still(self.processes()[:1])
        self._stand_still(self.processes())

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT, self.processes())

    def processes(self) -> list[int]:
        """Return the ids of its processes, the main one first."""
        if self._process is None or self._process.poll() is not None:
            return []
        main = self._process.pid
        return [main, *(pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == main)]

    def remove(self) -> None:
        """Stop it if it runs, and remove the folder."""
        if self.alive():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what is in it ----------------------------------------------------------------------------------------

    def execute(self, query: str, *arguments: object, database: str = "postgres") -> list[Any]:
        """Run one statement outside of a transaction; returns its rows."""
        psycopg = require_module("psycopg")
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(query, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, template: str = "template0") -> str:
        """Make a database of a name that no other has; returns the name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def template(self, name: str, prepare: Callable[[str], None]) -> str:
        """Return a database to copy by `create_database`, which ``prepare`` (given its address) has filled once."""
        psycopg = require_module("psycopg")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall():
                made = self.create_database()
                prepare(self.url(made))
                connection.execute(f"ALTER DATABASE {made} RENAME TO {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    # -- as another user than root, whom PostgreSQL refuses ---------------------------------------------------

    def own(self, path: Path) -> None:
        """Give a file or a folder to the user as whom the server runs."""
        if user := _user():
            shutil.chown(path, user, _group_of(user))

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user, such as pg_basebackup; it must succeed."""
        command = [str(require_postgres() / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **_as_user()
        )
        assert done.returncode == 0, f"{program}: {done.stdout.decode(errors='replace')}"

    def _spawn(self, command: tuple[str, ...], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # Bound to this process by the kernel: it gets SIGQUIT ("immediate") when this one is gone.
        prctl = CDLL(None).prctl
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509 - it takes no lock
            **_as_user(),
        )

    def _stand_still(self, pids: list[int]) -> None:
        self._signal(signal.SIGSTOP, pids)
        _wait(lambda: all(_state(pid) in "TZX" for pid in pids), lambda: "it does not stand still")

    def _signal(self, number: int, pids: list[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _group_of(user: str) -> int:
    """Return the number of a user's first group."""
    return pwd.getpwnam(user).pw_gid


def _user() -> str | None:
    """Return as whom PostgreSQL runs when the tests are root; ``None`` for the tests' own user."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as_user() -> dict[str, Any]:
    user = _user()
    return {} if user is None else {"user": user, "group": _group_of(user), "extra_groups": []}


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]  # it is gone


def _wait(condition: Callable[[], bool], problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(problem())
        time.sleep(_PAUSE_S)


# -- the one that all tests share ---------------------------------------------------------------------------------


def join_shared(place: Path) -> tuple[PostgresServer, IO[bytes]]:
    """Return the shared server of a run, started if nobody has, and what keeps it running until it is closed.

    Args:
        place: A folder of this run of the tests.
    """
    require_postgres()
    noted, users = place / "postgres.place", (place / "postgres.users").open("a+b")
    with (place / "postgres.lock").open("a+b") as lock:
        # Not lockf: a process loses that lock as soon as it closes the file anywhere, as a test may.
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The keeper has this alone while it stops the server, and then takes away the note.
        fcntl.flock(users, fcntl.LOCK_SH)
        if not noted.exists():
            command = (sys.executable, "-m", "tests.support.postgres_keeper", str(place))
            told = place / "postgres.keeper.log"
            with told.open("ab") as log:
                # In the background of a shell that ends at once: it is nobody's child.
                shell = ("/bin/sh", "-c", '"$@" &', "sh", *command)
                subprocess.run(
                    shell,
                    cwd=_REPOSITORY,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    check=True,
                )
            _wait(noted.exists, lambda: told.read_text(errors="replace"))
    folder, port = noted.read_text().split()
    return PostgresServer(Path(folder), int(port)), users


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server that all tests share: never stop, kill or freeze it."""
    place = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        place = place.parent
    server, users = join_shared(place)
    with users:
        os.environ[SHARED] = f"{server.folder} {server.port}"
        yield server


def shared_postgres() -> PostgresServer:
    """Return the server that all tests share, for what is no fixture; the fixture `postgres` has started it."""
    folder, port = os.environ[SHARED].split()
    return PostgresServer(Path(folder), int(port))


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty database on the shared server, for one test."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A running server of this test's own, to be stopped, killed and frozen at will."""
    server = PostgresServer.make()
    try:
        server.start()
        yield server
    finally:
        server.remove()
