"""What several rooms of tests share: server processes, official clients, chance that can be repeated."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.interop.peer import Peer
from tests.support.places import use_place
from tests.support.server_process import HEARTBEAT, ServerProcess
from waypost.logs import FLOODS

SEED_VARIABLE = "WAYPOST_TEST_SEED"

pytest_plugins = ["tests.support.postgres"]


# How long an example takes says nothing on a busy machine.
settings.register_profile("waypost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("waypost")


# What has most to do comes first, and what is soon done last: there, nothing long keeps one process busy while the
# others have nothing left. Between them stands what mostly waits.
_FIRST = ("demo", "recovery", "interop", "sim", "faults", "fuzz", "conformance", "storage", "client")


# Each database, and the connections of each node, cost the engine some hundred milliseconds of a core. So these stand
# for PostgreSQL in `make test`; all others are in `make test-long`.
_SHORT_POSTGRES = (
    "tests/storage/test_contract.py",
    "tests/storage/test_contract_queues.py",
    "tests/storage/postgres/test_traps.py",
    "tests/storage/postgres/test_uncertain.py",
    "tests/storage/postgres/trace/test_short_walk.py",
    "tests/outside/test_postgres.py",
)
_POSTGRES_FIXTURES = {"postgres", "postgres_url", "own_postgres"}
# These make their databases without a fixture.
_POSTGRES_ROOMS = tuple(
    f"tests/storage/postgres/{name}"
    for name in (
        "test_coming_back.py", "test_engine_state.py", "test_queues.py", "test_session_homes.py", "test_sessions.py",
        "trace/",
    )
)  # fmt: skip


# Only a test that hangs ever takes so long, also beside five others.
_LONG_TIMEOUT_S = 600


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the rooms that take long before the others, mark tests of PostgreSQL, and most of them as long."""
    for item in items:
        if _needs_postgres(item):
            item.add_marker(pytest.mark.postgres)
            if not item.nodeid.startswith(_SHORT_POSTGRES):
                item.add_marker(pytest.mark.long)
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_TIMEOUT_S))
    items.sort(key=lambda item: _place(item.nodeid))


def _needs_postgres(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    is_asked = not _POSTGRES_FIXTURES.isdisjoint(fixtures) or item.nodeid.startswith(_POSTGRES_ROOMS)
    return is_asked or "[postgres" in item.nodeid or "-postgres" in item.nodeid


def _place(nodeid: str) -> int:
    room = nodeid.split("/")[1]
    return _FIRST.index(room) if room in _FIRST else len(_FIRST)


@pytest.fixture(scope="session", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Note the folder that all processes of this run share."""
    place = tmp_path_factory.getbasetemp()
    use_place(place.parent if os.environ.get("PYTEST_XDIST_WORKER") else place)


@pytest.fixture(autouse=True)
def no_flood() -> None:
    """Let each test's lines be shown, whatever the tests before it have logged in this process."""
    FLOODS.forget()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance for a test; a failure shows the seed, and WAYPOST_TEST_SEED repeats it."""
    seed = int(os.environ.get(SEED_VARIABLE, random.randrange(2**32)))
    request.node.add_report_section("call", "seed", f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer() -> AsyncIterator[Peer]:
    """Official clients for a whole module; they need a Node process, which takes a while to start."""
    async with Peer.start() as peer:
        yield peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    """A server for a whole module, in memory; the module's SERVER_OPTIONS are its options."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    options = {"drain_s": 0.1, **HEARTBEAT, **getattr(request.module, "SERVER_OPTIONS", {})}
    server = ServerProcess.waypost(log, options=options)
    await server.start()
    yield server
    await server.stop()
    server.check_log()


# Where the tests run in the background, SIGINT is ignored, and by the programs they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
