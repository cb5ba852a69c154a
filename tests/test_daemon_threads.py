"""Threads that keep no program from ending."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue

import pytest

from tests.support.waiting import DEADLINE_S
from waypost.daemon_threads import DaemonThreads


def test_as_many_run_at_the_same_time_as_are_asked_for() -> None:
    threads = DaemonThreads("many")
    together = threading.Barrier(20)
    waiting = [threads.submit(together.wait, DEADLINE_S) for _ in range(20)]
    assert sorted(future.result(DEADLINE_S) for future in waiting) == list(range(20))
    threads.shutdown()


def test_one_runs_all_in_order() -> None:
    threads = DaemonThreads("one", most=1)
    done: SimpleQueue[tuple[int, str]] = SimpleQueue()
    for number in range(100):
        threads.submit(lambda n=number: done.put((n, threading.current_thread().name)))  # type: ignore[misc]
    assert [done.get(timeout=DEADLINE_S) for _ in range(100)] == [(number, "one-1") for number in range(100)]
    threads.shutdown()


def test_an_error_is_for_whoever_waits() -> None:
    threads = DaemonThreads("failing", most=1)
    failing: Future[float] = threads.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(DEADLINE_S)
    assert threads.submit(lambda: 1).result(DEADLINE_S) == 1
    threads.shutdown()


def test_where_no_thread_can_be_started_any_more_the_caller_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")  # as Python 3.12 and later do

    threads = DaemonThreads("late")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert threads.submit(threading.current_thread).result(0) is threading.current_thread()
