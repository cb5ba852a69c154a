"""Connections cut at random, over each transport: every event once and in order, every emitted one at least once."""

from __future__ import annotations

import asyncio
import random

import pytest

import waypost
from tests.client.serving import Recorder
from tests.support.link import Link
from tests.support.waiting import until
from waypost.checking.constraints import Transport

EVENTS = 300
CUT_CHANCE = 0.03


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_nothing_is_missed_in_either_direction(
    io: waypost.Server, link: Link, rng: random.Random, transports: list[Transport]
) -> None:
    notes: list[int] = []

    @io.event
    async def note(socket: waypost.Socket, n: int) -> None:
        notes.append(n)

    outcomes: list[bool] = []
    client = waypost.Client(
        link.url,
        transports=transports,
        reconnection_delay_s=0.01,
        reconnection_delay_max_s=0.05,
        retries=5,
        ack_timeout_s=2,
    )
    recorder = Recorder(client, "n")
    client.io.on("open", lambda: outcomes.append(client.recovered))
    async with client:
        for n in range(EVENTS):
            await io.emit("n", n)
            await client.emit("note", n)
            await asyncio.sleep(rng.random() * 0.005)
            if rng.random() < CUT_CHANCE:
                link.cut()
        await until(lambda: len(recorder.of("n")) >= EVENTS, "all events")
        await until(lambda: notes[-1:] == [EVENTS - 1], "all notes")
        assert client.recovered or len(outcomes) == 1
    assert recorder.of("n") == [(n,) for n in range(EVENTS)]
    assert list(dict.fromkeys(notes)) == list(range(EVENTS))
    assert recorder.of("disconnect")[-1] == ("io client disconnect",)
