"""A session begins where its client came: nothing from before is ever replayed to it."""

from __future__ import annotations

import waypost
from tests.server.model_client import ModelClient, running


async def test_an_older_offset_beside_a_new_session_brings_nothing_from_before_it() -> None:
    async with running(waypost.Server(drain_s=0.0)) as io:
        client = ModelClient(io)
        await client.connect()
        for number in (1, 2):
            await io.emit("tick", number)
        await client.wait_for(2)
        await client.cut()
        client.pid = "never given out"
        await client.connect()
        assert client.answer["reason"] == "unknown session"
        await client.cut()
        await io.emit("tick", 3)
        # Official clients keep the offset of their last session. The server remembers the one that came with CONNECT;
        # this is another one, which the journal knows just as well.
        client.offset = client.offsets[0]
        await client.connect()
        await client.wait_for(3)
        assert client.recovered
        assert [event[1] for event in client.events] == [1, 2, 3]
