"""`waypost queue` on a store on PostgreSQL: the same as on a file, without a server and beside one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import waypost
from tests.commands.stores import Command, fill
from tests.commands.test_queue import (
    test_a_consumer_is_moved as test_a_consumer_is_moved,
)
from tests.commands.test_queue import (
    test_a_message_that_is_not_due_is_cancelled as test_a_message_that_is_not_due_is_cancelled,
)
from tests.commands.test_queue import (
    test_a_queue_is_shown_with_its_consumers as test_a_queue_is_shown_with_its_consumers,
)
from tests.commands.test_queue import test_dead_letters_are_found_by_filters as test_dead_letters_are_found_by_filters
from tests.commands.test_queue import test_dead_letters_are_purged as test_dead_letters_are_purged
from tests.commands.test_queue import (
    test_dead_letters_are_redriven_by_filter as test_dead_letters_are_redriven_by_filter,
)
from tests.commands.test_queue import (
    test_dead_letters_are_shown_with_their_history as test_dead_letters_are_shown_with_their_history,
)
from tests.commands.test_queue import test_messages_are_purged as test_messages_are_purged
from tests.commands.test_queue import (
    test_queues_and_consumers_are_paused_and_resumed as test_queues_and_consumers_are_paused_and_resumed,
)
from tests.commands.test_queue import test_queues_are_listed as test_queues_are_listed
from tests.support.postgres import PostgresServer
from tests.support.waiting import until, until_async
from waypost.storage.copying.copy import copy_store
from waypost.storage.postgres.visitor import PostgresVisitor
from waypost.testing import serve

_ALIVE = "SELECT name FROM waypost.node WHERE state = 'alive'"


def _fill(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        fill(path)
        asyncio.run(copy_store(str(path), url))


@pytest.fixture
def command(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    name = postgres.create_database(postgres.template("waypost_commands", _fill))
    yield Command(postgres.url(name), capsys)
    postgres.drop_database(name)


@pytest.fixture
def looking(command: Command) -> Command:
    return command


def test_a_database_without_the_schema_is_told(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(postgres_url, capsys)
    assert command.run("ls") == 1
    assert "waypost db migrate" in command.err


def test_what_is_changed_reaches_a_server(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(postgres_url, capsys)

    async def main() -> list[Any]:
        done: list[Any] = []
        io = waypost.Server(store=postgres_url, drain_s=0)

        @io.consumer("jobs")
        async def work(message: waypost.Message, number: int) -> None:
            done.append(number)

        async with serve(io):
            queue = io.queue("jobs")
            await queue.emit("job", 1)
            await until(lambda: done == [1], "the first is done")
            assert await asyncio.to_thread(command.run, "pause", "jobs") == 0
            await until_async(queue.info, lambda info: info.paused_until is not None, "the queue is paused")
            await queue.emit("job", 2)
            shown = await asyncio.to_thread(command.json, "info", "jobs")
            assert shown["messages"] == 1
            await asyncio.sleep(0.2)
            assert done == [1]
            assert await asyncio.to_thread(command.run, "resume", "jobs") == 0
            await until(lambda: done == [1, 2], "the second is done")
        return done

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.long
def test_a_command_is_no_server(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(postgres_url, capsys)
    eras = "SELECT count(*) FROM waypost.era"

    async def main() -> list[object]:
        seen: list[object] = []
        io = waypost.Server(store=postgres_url, drain_s=0)
        async with serve(io):
            nodes = io._hub.services.store.nodes
            assert nodes is not None
            nodes.watch(lambda *change: seen.append(change))
            await io.queue("jobs").emit("job", 1)
            visitor = PostgresVisitor.at(postgres_url)
            await visitor.open()
            # It is there for so long that the server has had its beats.
            beats = f"SELECT counter FROM waypost.beat JOIN waypost.node ON node = id WHERE name = '{nodes.name}'"
            ((before,),) = _query(postgres_url, beats)
            await until(lambda: _query(postgres_url, beats)[0][0] >= before + 2, "the server has seen the command")
            engine = io.state().engine
            assert engine is not None
            assert engine.address.startswith("127.0.0.1:")
            seen += [engine.servers == (nodes.name,), len(_query(postgres_url, _ALIVE))]
            await visitor.close()
        before_it = _query(postgres_url, eras)
        assert await asyncio.to_thread(command.run, "ls") == 0
        seen.append(_query(postgres_url, eras) == before_it)
        return seen

    assert asyncio.run(main()) == [True, 2, True]


def _query(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()
