"""What a server says of the PostgreSQL that it shares with others: reached or not, and who is there."""

from __future__ import annotations

import waypost
from tests.support.databases import drop_database, make_database, shared_server
from tests.support.line import Line
from tests.support.waiting import until


async def test_a_server_says_whether_it_reaches_the_engine_and_who_is_alive() -> None:
    url = make_database()
    port = shared_server().port
    with Line("127.0.0.1", port) as line:
        first, second = waypost.Server(store=url.replace(f":{port}/", f":{line.port}/")), waypost.Server(store=url)
        assert first.state().engine is None
        await first.start()
        try:
            engine = first.state().engine
            assert engine is not None
            assert (engine.is_reachable, engine.is_ready, engine.unreachable_s) == (True, True, 0.0)
            (name,) = engine.servers
            assert (engine.upkeep, first.state().server) == (name, name)
            assert engine.era
            assert engine.connections >= 5
            await second.start()
            await until(lambda: len(_servers(first)) == 2, "the first one sees the second one")
            line.freeze()
            await until(lambda: not first.state().readiness.is_ready, "the first one does not reach it")
            (trouble,) = first.state().readiness.troubles
            assert trouble.code == "unreachable"
            assert second.state().readiness.is_ready
            line.thaw()
            await until(lambda: first.state().readiness.is_ready, "it comes back by itself")
            await until(lambda: len(_servers(first)) == len(_servers(second)) == 2, "both know each other again")
            await second.close()
            await until(lambda: _servers(first) == (name,), "the second one has left")
        finally:
            await second.close()
            await first.close()
    drop_database(url)


def _servers(io: waypost.Server) -> tuple[str, ...]:
    engine = io.state().engine
    return () if engine is None else engine.servers
