"""Errors: each has its data, a sentence that is built from it, and a place in the tree that its module shows."""

from __future__ import annotations

import copy
import pickle

import pytest

from waypost import errors

EXAMPLES: list[tuple[errors.WaypostError, str]] = [
    (errors.ConfigurationError("port", -1, "a port"), "port=-1: expected a port"),
    (errors.ConnectionRefused("not now", {"retry": 1}), "not now"),
    (errors.Reject("no van", 5), "rejected: no van"),
    (
        errors.ArgumentMismatch(2, "to", "int", "x", "Expected `int`, got `str`"),
        "argument 2 (to): expected int, received str",
    ),
    (
        errors.ArgumentMismatch(2, "to", "int", "x", "Expected `int`, got `str`", fault="Expected `int`, got `str`"),
        "argument 2 (to): expected int, received str: Expected `int`, got `str`",
    ),
    (
        errors.NotConnected("abc", "/", "emit x"),
        "can't emit x: socket abc is not connected to /; check `connected` first",
    ),
    (
        errors.NotConnected(None, "/", "emit x"),
        "can't emit x: the client is not connected to /; check `connected` first",
    ),
    (errors.AckTimeout("pickup", 1.5), "event 'pickup' was not acknowledged within 1.5 s; it may have been handled"),
    (errors.EncodingFailed("event 'x'", "a set"), "event 'x' can't be encoded: a set"),
    (errors.ConnectFailed("http://h", "refused", {"code": 1}), "no connection to http://h: refused"),
    (errors.MalformedPacket("a digit", "x"), "expected a digit, received 'x'"),
    (errors.LimitExceeded("bytes", 10, 11), "bytes: expected at most 10, received 11; the limit is fixed"),
    (errors.StorageError("s.db", "broken"), "store s.db: broken"),
    (
        errors.StoreClosed("s.db"),
        "store s.db: it is not open; start its owner first: a server by `await io.start()` or the application's "
        "`lifespan=io.lifespan` (in a test: `with TestClient(app) as client:`), a client by `await client.connect()`",
    ),
    (
        errors.WrongEventLoop("start", is_closed=False),
        "start expected to be called on the event loop that the server runs on, and came on another;"
        " nothing was done; in a thread, io.from_thread.emit(…) and the like take a call to that loop",
    ),
    (
        errors.WrongEventLoop("start", is_closed=True),
        "start expected a server that was closed: the event loop that it was started on has ended; await its close() "
        "there first, as `with TestClient(app) as client:` does",
    ),
    (errors.StoreBusy("s.db"), "store s.db: another process has it open; stop that process, or use another file"),
    (
        errors.StoreBusy("s.db", pid=7, since=1_700_000_000.5, host="b4c0"),
        "store s.db: process 7 on b4c0 has had it open since 2023-11-14 22:13:20 UTC; stop that process, or use "
        "another file",
    ),
    (
        errors.StoreBusy("s.db", pid=7, waited_s=40),
        "store s.db: process 7 has it open, and did not end within 40 s; for several processes on one store use "
        "`waypost serve --workers N`, else stop that process, or use another file",
    ),
    (errors.StoreDamaged("s.db", "cut short"), "store s.db: cut short"),
    (
        errors.StoreFull("s.db", room_bytes=5, reserve_bytes=10),
        "store s.db: 5 bytes are left on its disk, and emits leave 10 free, so that what waits can be delivered; "
        "free some space, or lower disk_reserve_bytes",
    ),
    (
        errors.StoreLost("s.db", "it was removed"),
        "store s.db: it was removed; put the file back, and start again",
    ),
    (
        errors.StoreLost("s.db", "its parent is gone", remedy="start both again"),
        "store s.db: its parent is gone; start both again",
    ),
    (
        errors.StorageUncertain("s.db", "append an event to /", "its parent is gone"),
        "store s.db: its parent is gone, and it is not known whether it did this: append an event to /. "
        "It was done once or not at all",
    ),
    (
        errors.StorageUncertain("s.db", "add 1 messages to queue jobs", "its parent is gone", ids=("a",)),
        "store s.db: its parent is gone, and it is not known whether it did this: add 1 messages to queue jobs. "
        "It was done once or not at all; add the messages again with the same ids, and each is added once",
    ),
    (errors.StoreFull("s.db"), "store s.db: no space left on its disk; free some, and the store works again"),
    (
        errors.QueueFull("s.db", "jobs", 9, 90, 10, 91),
        "store s.db: queue jobs is full: it keeps 9 messages of at most 10, and 90 bytes of at most 91; "
        "let its consumers catch up, or raise max_messages or max_bytes of its options",
    ),
    (
        errors.PositionGone("s.db", "/", 3, 9),
        "store s.db: journal / keeps positions from 9, entries after 3 were requested; read after 8 or later",
    ),
]


@pytest.mark.parametrize(("error", "sentence"), EXAMPLES)
def test_sentence_is_built_from_the_data(error: errors.WaypostError, sentence: str) -> None:
    assert str(error) == sentence


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_copies_keep_class_data_and_sentence(error: errors.WaypostError) -> None:
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert vars(other) == vars(error)
        assert str(other) == str(error)


def test_tree_in_the_docstring_names_every_class() -> None:
    classes = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    tree = errors.__doc__ or ""
    assert {name for name in classes if name not in tree} == set()
    assert classes | {"shorten"} == set(errors.__all__)


def test_long_values_are_shortened_with_their_size() -> None:
    assert errors.shorten("x" * 1_000).endswith("… (1000 in all)")
    assert len(str(errors.MalformedPacket("a packet", b"\x00" * 100_000))) < 200
