"""Clients and servers that are killed with SIGKILL: nothing is lost, and nothing is handled twice."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.client.outbox_child import EVENTS, read
from tests.support.link import Link
from tests.support.server_process import REPOSITORY, ServerProcess
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.long

KILLS = 4
EACH = 20
"""How many events are on their way at each kill of the server."""


async def start(what: str, url: str, directory: Path) -> asyncio.subprocess.Process:
    """Start a client in a process of its own; its journal is called like what it does."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.client.outbox_child", what, url, directory / "client.db", directory / what),
        cwd=REPOSITORY,
    )


async def kill_when(process: asyncio.subprocess.Process, condition: Callable[[], bool]) -> None:
    """Kill a client some time after a condition holds; fail if it has ended by itself."""
    await until(lambda: process.returncode is not None or condition(), "something to kill")
    await asyncio.sleep(random.uniform(0, 0.02))
    assert process.returncode is None
    process.kill()
    await process.wait()


def outbox_server(directory: Path, *, dies_at: int) -> ServerProcess:
    """Make a server with a store on disk, which dies in a handler."""
    command = ("-m", "waypost", "serve", "tests.client.outbox_app:io", "--port", "{port}")
    options = {"journal": str(directory / "handled"), "dies_at": dies_at}
    return ServerProcess((*command, "--store", f"{directory}/store.db"), directory / "server.log", options)


def answers(link: Link) -> list[str]:
    """Return the answers to orders that a link has heard."""
    return [answer.decode() for answer in re.findall(rb'43\d+\["([0-9a-f]{16})"\]', link.heard)]


async def test_a_killed_client_loses_nothing_and_repeats_nothing(
    io: waypost.Server, url: str, tmp_path: Path
) -> None:
    handled: list[int] = []

    @io.event
    async def order(socket: waypost.Socket, number: int) -> None:
        handled.append(number)
        await asyncio.sleep(0.002)  # so that some wait when the client is killed

    journal = tmp_path / "emit"
    for n in range(KILLS):
        process = await start("emit", url, tmp_path)
        await kill_when(process, lambda n=n: len(read(journal, "begun")) > n * 30 + 10)  # type: ignore[misc]
    process = await start("emit", url, tmp_path)
    assert await process.wait() == 0
    # What a kill interrupted within `emit` may be in the file or not.
    unsure = set(read(journal, "begun")) - set(read(journal, "emitted"))
    assert len(unsure) <= KILLS
    assert handled == [number for number in range(EVENTS) if number not in unsure or number in handled]


@dataclass(frozen=True)
class Run:
    """One run of the server's handler."""

    number: int
    message_id: str
    answer: str


def lives(journal: Path) -> list[list[Run]]:
    """Return what each life of the server has handled."""
    found = []
    for life in journal.read_text().split("started 0\n")[1:]:
        lines = [line.split() for line in life.splitlines()]
        found.append([Run(int(number), message_id, answer) for _, number, message_id, answer in lines])
    return found


async def test_a_killed_server_handles_each_event_once_and_gives_the_same_answers(
    tmp_path: Path, rng: random.Random
) -> None:
    """The server is killed while answers are on their way, and while one of its handlers runs.

    What was answered must not be handled again. Nor may anything else be, but for the one event in hand: it is run
    again if the kill came before its answer was on disk, with the same id.
    """
    server, link_heard = outbox_server(tmp_path, dies_at=3 * EACH - 5), []
    await server.start()
    async with Link.to(server.port) as link:
        link.listens = True
        options: Any = {"reconnection_delay_s": 0.02, "reconnection_delay_max_s": 0.05}
        async with waypost.Client(link.url, outbox=tmp_path / "client.db", **options) as client:
            for first, killed_after in ((0, EACH), (EACH, rng.randrange(1, EACH)), (2 * EACH, None)):
                link.hold()
                # At the same time, so that they are sent together.
                await asyncio.gather(*(client.emit("order", first + n) for n in range(EACH)))
                if killed_after is None:
                    await until(lambda: not server.alive(), "the end of the server")
                else:
                    await until(lambda n=killed_after: len(answers(link)) >= n, "answers")  # type: ignore[misc]
                    await server.kill()
                link.cut()
                link_heard.append(answers(link))
                link.heard.clear()
                await server.start()
                await client.outbox.drained()
                link_heard.append(answers(link))
                link.heard.clear()
    await server.kill()
    server.check_log()
    judge(lives(tmp_path / "handled"), link_heard)


def judge(handled: list[list[Run]], heard: list[list[str]]) -> None:
    """Hold what the server's lives have handled against the answers that were on their way.

    Args:
        handled: What was handled in each life; the last life but one of each round is killed.
        heard: For each kill, the answers before it, which never arrived, and those to the repeats.
    """
    lost, repeated = heard[::2], heard[1::2]
    for answered, again in zip(lost, repeated, strict=True):
        assert answered
        assert again[: len(answered)] == answered
    unique, in_hand = without_repeats(handled)
    assert [run.number for run in unique] == list(range(3 * EACH))
    assert len({run.message_id for run in unique}) == 3 * EACH
    assert not {run.answer for run in in_hand} & {answer for answered in lost for answer in answered}
    assert 3 * EACH - 5 in [run.number for run in in_hand]  # the handler in which the server died


def without_repeats(handled: list[list[Run]]) -> tuple[list[Run], list[Run]]:
    """Take out the last run of a life, which died with it, where the next life begins with the same event."""
    unique: list[Run] = []
    in_hand: list[Run] = []
    for life in handled:
        for n, run in enumerate(life):
            if n == 0 and unique and unique[-1].number == run.number:
                in_hand.append(unique.pop())
                assert in_hand[-1].message_id == run.message_id
            unique.append(run)
    return unique, in_hand


async def test_killed_clients_killed_servers_and_cuts_together(tmp_path: Path, rng: random.Random) -> None:
    server, journal = outbox_server(tmp_path, dies_at=-1), tmp_path / "emit"
    await server.start()
    async with Link.to(server.port, lambda: rng.random() * 0.005) as link:
        process = await start("emit", link.url, tmp_path)
        for what in rng.sample(("client", "server", "cut", "cut"), 4):
            goal = len(read(tmp_path / "handled", "handled")) + rng.randrange(1, 20)
            await until(lambda n=goal: len(read(tmp_path / "handled", "handled")) > n, "some more")  # type: ignore[misc]
            if what == "server":
                await server.restart("kill")
            elif what == "cut":
                link.cut()
            else:
                process.kill()
                await process.wait()
                process = await start("emit", link.url, tmp_path)
        assert await process.wait() == 0
    await server.kill()
    server.check_log()
    unique, _ = without_repeats(lives(tmp_path / "handled"))
    # What a kill interrupted within `emit` may be in the file or not.
    unsure = set(read(journal, "begun")) - set(read(journal, "emitted"))
    assert len(unsure) <= 1
    numbers = [run.number for run in unique]
    assert numbers == [number for number in range(EVENTS) if number not in unsure or number in numbers]


async def test_a_killed_client_does_not_handle_a_message_again(io: waypost.Server, port: int, tmp_path: Path) -> None:
    journal = tmp_path / "handle"
    jobs = io.queue("jobs")
    io.off("connect")

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: object) -> None:
        await socket.consume("jobs", prefetch=1)

    async with Link.to(port) as link:
        for n in range(KILLS):
            process = await start("handle", link.url, tmp_path)
            # What the client before has handled comes again to this one, which acknowledges it.
            await until_async(jobs.consumers, lambda found, n=n: settled(found) == n, "the acknowledgement")  # type: ignore[misc]
            link.hold(clients=True)
            held_bytes = link.held_bytes
            await jobs.emit("job", n)
            await until(lambda b=held_bytes: link.held_bytes > b, "the next acknowledgement")  # type: ignore[misc]
            process.kill()
            link.cut()
            await process.wait()
        process = await start("handle", link.url, tmp_path)
        await until_async(jobs.consumers, lambda found: settled(found) == KILLS, "the last acknowledgement")
        process.kill()
        await process.wait()
    assert read(journal, "handled") == [*range(KILLS)]


def settled(consumers: list[waypost.ConsumerInfo]) -> int | None:
    """Return how many messages the one consumer has acknowledged; ``None`` while it is not attached."""
    return consumers[0].acknowledged if consumers and consumers[0].attached else None
