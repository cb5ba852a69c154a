"""More attachments than a parser reads: the sender is told, and no recipient is brought back to them for ever."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import waypost
import waypost.testing
from tests.server.model_client import ModelClient, running, until
from tests.support.waiting import until_async
from waypost.protocol import socketio
from waypost.protocol.codec import codec_for

TOO_MANY = [b"x"] * 11


def expected(option: int = 10, count: int = 11) -> str:
    return f"it has {count} binary attachments, and max_attachments allows {option}"


async def test_an_emit_with_too_many_is_refused_and_sent_to_nobody() -> None:
    io = waypost.Server(drain_s=0.0)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for emit in (io.emit, io.to("room").emit, io.queue("q").emit):
            with pytest.raises(waypost.EncodingFailed, match=expected()) as failed:
                await emit("many", TOO_MANY)
            assert "event 'many'" in str(failed.value)
        with pytest.raises(waypost.EncodingFailed, match=expected()):
            await io.call("many", *TOO_MANY)
        await io.emit("ten", TOO_MANY[:10])
        await client.wait_for(1)


async def test_the_option_is_the_limit_and_msgpack_has_none() -> None:
    async with running(waypost.Server(drain_s=0.0, max_attachments=0)) as io:
        with pytest.raises(waypost.EncodingFailed, match=expected(0, 1)):
            await io.emit("one", b"x")
    async with running(waypost.Server(drain_s=0.0, max_attachments=20)) as io:
        await io.emit("many", TOO_MANY)
    async with running(waypost.Server(drain_s=0.0, parser="msgpack")) as io:
        await io.emit("many", TOO_MANY)


async def test_an_answer_that_adds_one_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    io.on("add", lambda socket, values: [*values, b"one more"])
    io.on("same", lambda socket, values: values)
    async with waypost.testing.serve_in_memory(io) as site:
        client = await site.connect()
        with pytest.raises(waypost.EventRefused):
            await client.call("add", TOO_MANY[:10], timeout_s=10)
        assert await client.call("same", TOO_MANY[:10]) == TOO_MANY[:10]
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error.startswith("the ack of 'add' on socket")
    assert expected() in error


async def test_a_client_is_told_too() -> None:
    io = waypost.Server(drain_s=0.0)
    async with waypost.testing.serve_in_memory(io) as site:
        client = await site.connect()
        with pytest.raises(waypost.EncodingFailed, match=expected()):
            await client.emit("many", TOO_MANY)
        assert client.connected


@pytest.mark.parametrize("is_for_it", [True, False])
async def test_what_an_older_store_holds_ends_the_session_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_for_it: bool
) -> None:
    store = str(tmp_path / "store.db")
    old = waypost.Server(store=store, drain_s=0.0, max_attachments=100)
    async with running(old):
        client = ModelClient(old)
        await client.connect()
        await client.cut()
        await (old if is_for_it else old.to("another room")).emit("many", TOO_MANY)
        await old.emit("one", b"x")
    io = waypost.Server(store=store, drain_s=0.0)
    async with running(io):
        client.hub = ModelClient(io).hub
        await client.connect()
        if not is_for_it:
            assert client.recovered
            await client.wait_for(1)
            return
        assert client.answer["reason"] == "undeliverable"
        await client.cut()
        await io.emit("next", 1)
        await client.connect()
        await client.wait_for(1)
        assert client.recovered
        assert client.events == [["next", 1]]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "event 'many'" in warning
    assert expected() in warning


async def test_a_queues_message_of_an_older_store_is_not_sent_and_ends_as_a_dead_letter(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    old = waypost.Server(store=store, drain_s=0.0, max_attachments=100)
    async with running(old):
        await old.queue("q").emit("many", TOO_MANY)
        await old.queue("q").emit("next", 1)
    options = waypost.QueueOptions(max_failures=2, first_backoff_s=0.01, max_backoff_s=0.01)
    io = waypost.Server(store=store, drain_s=0.0, queues=options)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.consume("q")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await until(lambda: len(client.events) > 0)
        assert client.events == [["next", 1]]
        [dead] = await until_async(io.queue("q").dead_letters, bool, "a dead letter")
        assert expected() in dead.reason


def test_the_codec_counts_all_that_it_encodes() -> None:
    codec = codec_for("json", 1)
    two = [b"x", {"a": bytearray(b"y")}]
    for encode in (
        lambda: codec.encode_event("/", "e", two),
        lambda: codec.encode_ack("/", 5, two),
        lambda: codec.restore_event(socketio.encode_event("/", "e", two).to_record(), "/"),
    ):
        with pytest.raises(waypost.EncodingFailed, match=expected(1, 2)):
            encode()
    assert codec_for("json").encode_event("/", "e", two).frames()
    assert codec.encode_ack("/", 5, [1, b"x"]) == ('461-5[1,{"_placeholder":true,"num":0}]', b"x")
