"""One address leaves only so many sessions behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until
from waypost.server.recovery.absences import Absences

_TTL_S = 10
_STEPS = st.tuples(
    st.sampled_from(["left", "returned", "later"]), st.integers(0, 7), st.sampled_from(["a", "b", None])
)


@given(st.lists(_STEPS, max_size=60))
def test_the_one_that_was_left_first_goes(steps: list[tuple[str, int, str | None]]) -> None:
    absences, now = Absences(3), 0.0
    away: dict[bytes, tuple[str, float]] = {}
    given_up: list[bytes] = []
    for what, number, site in steps:
        key = bytes([number])
        if what == "later":
            now += 4
        elif what == "returned":
            absences.returned(key)
            away.pop(key, None)
        else:
            expected = []
            away.pop(key, None)
            away = {each: (its, until) for each, (its, until) in away.items() if until > now}
            if site is not None:
                away[key] = (site, now + _TTL_S)
                of_site = [each for each, (its, _) in away.items() if its == site]
                if len(of_site) > 3:
                    expected = [of_site[0]]
                    del away[of_site[0]]
            before = len(given_up)
            absences.left(key, site, now, now + _TTL_S, lambda key=key: given_up.append(key))  # type: ignore[misc]
            assert given_up[before:] == expected
            assert len(absences) == len(away)
    absences.forget_all()
    assert len(absences) == 0


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_one_address_leaves_so_many_sessions_and_no_more(store: str, tmp_path: object) -> None:
    path = "memory:" if store == "memory" else f"{tmp_path}/store.db"
    io = waypost.Server(store=path, drain_s=0.0, recovery=waypost.Recovery(max_away_per_address=3))
    ended: list[str] = []
    io.on("session_expired", lambda session: ended.append(session.socket_id))
    async with running(io):
        hub = hub_of(io)
        clients = []
        for number in range(8):
            address = "203.0.113.9" if number == 1 else "203.0.113.7"
            client = ModelClient(io, handshake=replace(HANDSHAKE, address=address))
            await client.connect()
            clients.append(client)
            if number == 4:
                await clients[2].connect()  # it is back: no longer counted
            await client.cut()
        await until(lambda: not hub.directory.core("/").ownership._unfinished)
        await hub.keep_up()
        first = [clients[number].sid for number in (0, 3, 4)]
        assert ended == first
        for number, client in enumerate(clients):
            if number != 2:
                sid = client.sid
                await client.connect()
                assert client.recovered is (sid not in first), number


async def test_whoever_came_back_takes_the_place_of_nobody_who_is_away() -> None:
    io = waypost.Server(drain_s=0.0, recovery=waypost.Recovery(max_away_per_address=2))
    async with running(io):
        address = replace(HANDSHAKE, address="203.0.113.7")
        away, back, last = (ModelClient(io, handshake=address) for _ in range(3))
        for client in (away, back, last):
            await client.connect()
        await away.cut()
        await back.cut()
        await back.connect()
        await last.cut()
        await until(lambda: not hub_of(io).directory.core("/").ownership._unfinished)
        await hub_of(io).keep_up()
        await away.connect()
        assert away.recovered
