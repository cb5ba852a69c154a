"""Functions of the server's process that handle a queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of, running, until
from tests.server.queues.client import quiet
from tests.support.waiting import DEADLINE_S, until_async
from waypost.storage.queue_records import Attempt, NewMessageRow


def server(**options: Any) -> waypost.Server:
    return waypost.Server(drain_s=0.0, queues=waypost.QueueOptions(**{"first_backoff_s": 0.0, **options}))


async def settled(io: waypost.Server, queue: str = "jobs") -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await io.queue(queue).get_consumer().info()).waiting:
            await asyncio.sleep(0.001)


async def test_worker_gets_the_message_and_the_events_arguments() -> None:
    io = server()
    got: list[tuple[Any, ...]] = []

    @io.consumer("jobs")
    async def work(message: waypost.Message, to: str, label: bytes) -> None:
        got.append(
            (message.id, message.queue, message.offset, message.attempt, message.event, message.key, to, label)
        )
        assert message.args == (to, label)
        assert message.enqueued_at.tzinfo is not None

    async with running(io):
        await io.queue("jobs").emit("mail", "ann", b"\x00", id="m1", key="k")
        await settled(io)
    assert got == [("m1", "jobs", 1, 1, "mail", "k", "ann", b"\x00")]


async def test_worker_that_takes_the_message_alone() -> None:
    io = server()
    got: list[Any] = []

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        got.append(message.args)

    async with running(io):
        await io.queue("jobs").emit("mail", 1, 2)
        await settled(io)
    assert got == [(1, 2)]


async def test_concurrency_is_the_most_at_a_time() -> None:
    io = server()
    running_now, most, gate = 0, 0, asyncio.Event()

    @io.consumer("jobs", concurrency=10)
    async def work(message: waypost.Message) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await gate.wait()
        running_now -= 1

    async with running(io):
        for number in range(25):
            await io.queue("jobs").emit("job", number)
        await until(lambda: running_now == 10)
        await quiet()
        gate.set()
        await settled(io)
    assert most == 10


async def test_functions_run_in_threads() -> None:
    io = server()
    threads: list[str] = []

    @io.consumer("jobs", concurrency=2)
    def work(message: waypost.Message, number: int) -> None:
        threads.append(threading.current_thread().name)
        message.extend(5)
        if number == 1 and message.attempt == 1:
            message.nack("not yet", retry_in_s=0)

    async with running(io):
        for number in range(3):
            await io.queue("jobs").emit("job", number)
        await settled(io)
    assert len(threads) == 4
    assert all(name.startswith("waypost-handler") for name in threads)


def _raise(message: waypost.Message) -> None:
    raise ValueError("wrong")


def _reject(message: waypost.Message) -> None:
    raise waypost.Reject("not now", 0)


def _nack(message: waypost.Message) -> None:
    message.nack("noted", retry_in_s=0)


def _finally(message: waypost.Message) -> None:
    raise waypost.Reject("never", final=True)


def _finally_by_nack(message: waypost.Message) -> None:
    message.nack("nevermore", final=True)


def _needs_more(message: waypost.Message, one: int, two: int) -> None:
    raise AssertionError("never called")


@dataclass
class Address:
    street: str


async def test_arguments_are_converted_and_what_does_not_fit_is_a_dead_letter_at_once() -> None:
    io = server()
    got: list[Address] = []

    @io.consumer("jobs")
    async def work(message: waypost.Message, to: Address) -> None:
        got.append(to)

    async with running(io):
        await io.queue("jobs").emit("mail", {"street": "A"})
        await io.queue("jobs").emit("mail", {"road": "B"})
        await settled(io)
        [letter] = await io.queue("jobs").dead_letters()
        assert "street" in letter.reason
        assert letter.failures == 1
    assert got == [Address("A")]


@pytest.mark.parametrize(
    ("function", "reason", "failures"),
    [
        (_raise, "ValueError: wrong", 3),
        (_reject, "not now", 3),
        (_nack, "noted", 3),
        (_finally, "never", 1),
        (_finally_by_nack, "nevermore", 1),
        (_needs_more, "job takes 2 argument(s), 1 came", 1),
    ],
)
async def test_failures_of_functions_are_failures_of_the_message(
    function: Callable[..., None], reason: str, failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    io = server(max_failures=3)
    failed: list[waypost.HandlerFailure] = []
    io.hooks.error(failed.append)
    io.consumer("jobs")(function)
    async with running(io):
        await io.queue("jobs").emit("job", 1)
        await settled(io)
        [letter] = await io.queue("jobs").dead_letters()
        assert (letter.reason, letter.failures) == (reason, failures)
    assert len(failed) == (3 if function is _raise else 0)


async def test_function_that_takes_too_long_is_stopped_when_its_message_goes_to_another() -> None:
    io = server(lease_s=0.01, max_lease_s=0.02)
    stopped: list[int] = []

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        if message.attempt == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.append(message.attempt)
                raise

    async with running(io):
        await io.queue("jobs").emit("job", 1)
        await settled(io)
    assert stopped == [1]


async def test_function_keeps_its_message_for_as_long_as_it_says() -> None:
    io = server(lease_s=0.15, max_lease_s=0.2)
    attempts: list[int] = []

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        attempts.append(message.attempt)
        for _ in range(5):
            message.extend(1)
            await asyncio.sleep(0.06)

    async with running(io):
        await io.queue("jobs").emit("job", 1)
        await settled(io)
    assert attempts == [1]


async def test_graceful_stop_finishes_what_is_in_hand_and_begins_nothing_new(tmp_path: Path) -> None:
    io = server()
    begun: list[int] = []
    finished: list[int] = []

    @io.consumer("jobs", concurrency=2)
    async def work(message: waypost.Message, number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0.05)
        finished.append(number)

    async with running(io):
        for number in range(6):
            await io.queue("jobs").emit("job", number)
        await until(lambda: begun == [0, 1])
    assert begun == finished == [0, 1]


async def test_worker_added_later_and_sockets_share_a_consumer() -> None:
    io = server()
    got: list[int] = []
    async with running(io):
        await io.queue("jobs").emit("job", 1)

        @io.consumer("jobs")
        async def work(message: waypost.Message, number: int) -> None:
            got.append(number)

        await until(lambda: got == [1])


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"order": "fifo"}, {"consumer": ""}, {"start": 1.5}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(waypost.ConfigurationError):
        server().consumer("jobs", **wrong)


def test_function_without_a_message_is_refused() -> None:
    def work() -> None: ...

    with pytest.raises(waypost.ConfigurationError):
        server().consumer("jobs")(work)  # type: ignore[arg-type]


async def test_what_can_t_be_read_is_a_dead_letter_that_hides_no_others() -> None:
    io = server(max_failures=2)
    handled: list[Any] = []

    @io.consumer("jobs")
    async def handle(message: waypost.Message, job: Any) -> None:
        handled.append(job)

    await io.start()
    damaged = NewMessageRow("damaged", b"\x09no record")
    await io._hub.services.store.queue("jobs").enqueue([damaged], deduplicate_s=0, on_commit=lambda _accepted: None)
    await io.queue("jobs").emit("job", 1)
    [letter] = await until_async(io.queue("jobs").dead_letters, bool, "it is a dead letter")
    assert (letter.id, letter.event, list(letter.args)) == ("damaged", "", [])
    await settled(io)
    assert handled == [1]
    await io.close()


class TooMuch(Exception):
    """An exception of the application's own."""


@pytest.mark.parametrize("store", ["memory", "file"])
async def test_dead_letters_keep_the_type_the_text_and_the_time_of_each_try(tmp_path: Path, store: str) -> None:
    name = "memory:" if store == "memory" else str(tmp_path / "store.db")
    options = waypost.QueueOptions(first_backoff_s=0.01, max_failures=3, max_reason_characters=20)
    io = waypost.Server(store=name, drain_s=0, queues=options)

    @io.consumer("jobs", concurrency=3)
    def work(message: waypost.Message) -> None:
        if message.attempt == 1:
            raise OSError(28, "No space left on device")
        if message.attempt == 2:
            raise waypost.Reject("rejected " + "at length " * 100)
        raise TooMuch("x" * 3_000_000)

    began = datetime.now(UTC).timestamp()
    async with running(io):
        jobs = io.queue("jobs")
        await jobs.emit("job")
        [letter] = await until_async(jobs.dead_letters, bool, "it is a dead letter")
        assert (letter.exception, letter.reason) == (f"{__name__}.TooMuch", "TooMuch: xxxxxxxxxxx…")
        assert [(one.kind, one.exception, one.reason) for one in letter.history] == [
            ("rejected", "OSError", "OSError: [Errno 28] …"),
            ("rejected", None, "rejected at length a…"),
            ("rejected", f"{__name__}.TooMuch", "TooMuch: xxxxxxxxxxx…"),
        ]
        times = [one.at for one in letter.history]
        assert began <= times[0] < times[1] < times[2] <= letter.died_at.timestamp() + 1e-6
        # A redriven one keeps what happened before; and none of the text, if so configured.
        await jobs.configure(max_reason_characters=0, max_failures=1)
        await jobs.redrive()
        [letter] = await until_async(jobs.dead_letters, bool, "it is a dead letter again")
        assert (letter.exception, letter.reason, len(letter.history)) == ("OSError", "", 4)


async def test_a_message_that_has_ended_the_process_too_often_runs_no_more() -> None:
    io = waypost.Server(drain_s=0.0)
    ran: list[str] = []

    async with running(io):
        deadly = await io.queue("jobs").emit("deadly")
        harmless = await io.queue("jobs").emit("harmless")
        stored = hub_of(io).services.store.queue("jobs")
        row = await stored.add_consumer("jobs")
        died = [
            Attempt(position, 0, deaths, "lost", "the process ended", 1.0, deaths=deaths)
            for position, deaths in ((int(deadly.offset), 20), (int(harmless.offset), 19))
        ]
        await stored.retry("jobs", row.epoch, died)

        @io.consumer("jobs", consumer="jobs")
        async def work(message: waypost.Message) -> None:
            ran.append(message.event)

        await until(lambda: ran == ["harmless"])
        assert [letter.event for letter in await io.queue("jobs").dead_letters()] == ["deadly"]
