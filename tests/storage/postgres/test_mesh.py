"""Messages between nodes: in order, after the rows that their sender knew, also over lines that break."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from tests.storage.postgres.mesh import JOURNAL, Knot, knots
from tests.support.line import Way, line_to
from tests.support.waiting import until
from waypost.errors import StoreClosed
from waypost.storage.postgres.mesh.dialing import Timings
from waypost.storage.postgres.mesh.handshake import CONNECTION, Hello, answer_challenge, make_challenge
from waypost.storage.postgres.mesh.outgoing import Limits
from waypost.storage.wire.frames import FrameWriter

_QUICK = Timings(ping_s=0.05, silence_s=0.3, broken_s=0.1)
_NEVER_S = 0.2
"""How long a test looks at something that must not happen."""


def _numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_messages_come_in_the_order_of_their_sender_to_all_nodes_and_to_itself() -> None:
    async with knots("a", "b", "c") as (a, b, c):
        for number in _numbers(500):
            a.mesh.send(None, "t", number)
            b.mesh.send("c", "t", number)
        a.mesh.send("a", "t", b"own")
        a.mesh.send("nobody", "t", b"lost")
        await until(lambda: len(c.got) == 1000 and len(b.got) == 500 and len(a.got) == 501, "all came")
        for one in (a, b, c):
            assert [content for sender, content in one.got if sender == "a" and content != b"own"] == _numbers(500)
        assert [content for sender, content in c.got if sender == "b"] == _numbers(500)


async def test_a_message_to_this_node_does_not_come_within_the_call_that_sends_it() -> None:
    async with knots("a") as (a,):
        a.mesh.send("a", "t", b"")
        assert not a.got
        await until(lambda: bool(a.got), "it came")


async def test_a_topic_that_nobody_listens_to_and_a_listener_that_raises_harm_no_other_message() -> None:
    async with knots("a", "b") as (a, b):
        b.mesh.listen("bad", lambda *_: next(iter(())))
        a.mesh.send("b", "none", b"")
        a.mesh.send("b", "bad", b"")
        a.mesh.send("b", "t", b"good")
        await until(lambda: b.got == [("a", b"good")], "the good one came")
        b.mesh.listen("t", None)
        a.mesh.send("b", "t", b"unheard")
        a.mesh.send("b", "bad", b"")
        await asyncio.sleep(_NEVER_S)
        assert b.got == [("a", b"good")]


async def test_a_message_waits_until_its_receiver_has_applied_what_the_sender_had() -> None:
    async with knots("a", "b", "c") as (a, b, c):
        b.progress.note(JOURNAL, 4)
        a.progress.note(JOURNAL, 5)
        a.mesh.send("b", "t", b"1")
        a.mesh.send("b", "t", b"2")
        c.mesh.send("b", "t", b"of another link")
        await until(lambda: b.got == [("c", b"of another link")], "the other link is not held up")
        b.progress.note(JOURNAL, 5)
        assert len(b.got) == 1, "not from within the follower"
        await until(lambda: b.got[1:] == [("a", b"1"), ("a", b"2")], "both came")


async def test_a_message_names_what_moved_only_and_waits_for_no_journal_that_is_not_followed() -> None:
    async with knots("a", "b") as (a, b):
        a.progress.note(JOURNAL, 5)
        a.mesh.send("b", "t", b"1")
        await until(lambda: len(b.got) == 1, "it does not wait: the journal is not followed here")
        b.progress.note(JOURNAL, 1)
        a.mesh.send("b", "t", b"2")
        await until(lambda: len(b.got) == 2, "nothing has moved since")
        a.progress.note(JOURNAL + 1, 3)
        a.progress.note(JOURNAL, 6)
        b.progress.note(JOURNAL + 1, 3)
        a.mesh.send("b", "t", b"3")
        await asyncio.sleep(_NEVER_S)
        assert len(b.got) == 2
        b.progress.note(JOURNAL, 6)
        await until(lambda: len(b.got) == 3, "it came")


async def test_a_message_waits_for_a_second_at_most_and_those_behind_it_not_for_one_each() -> None:
    async with knots("a", "b") as (a, b):
        b.progress.note(JOURNAL, 0)
        begin = asyncio.get_running_loop().time()
        for number in _numbers(20):
            a.progress.note(JOURNAL, int(number) + 1)
            a.mesh.send("b", "t", number)
        await until(lambda: len(b.got) == 20, "all came", timeout_s=10)
        assert asyncio.get_running_loop().time() - begin >= 0.9
        assert [content for _, content in b.got] == _numbers(20)


async def test_a_message_goes_out_after_the_writes_asked_for_before_and_with_their_ticks() -> None:
    async with knots("a", "b") as (a, b):
        a.writes = []
        b.progress.note(JOURNAL, 0)
        a.mesh.send(None, "t", b"1")
        waiting, a.writes = a.writes, None
        a.mesh.send(None, "t", b"2")
        await asyncio.sleep(_NEVER_S)
        assert not a.got
        assert not b.got
        a.progress.note(JOURNAL, 1)
        waiting[0]()
        await until(lambda: len(a.got) == 2, "it came here")
        await asyncio.sleep(_NEVER_S)
        assert not b.got
        b.progress.note(JOURNAL, 1)
        await until(lambda: [content for _, content in b.got] == [b"1", b"2"], "both came there, in order")


async def test_a_write_that_never_ends_holds_messages_for_a_second_only() -> None:
    async with knots("a", "b") as (a, b):
        a.writes = []
        a.mesh.send(None, "t", b"1")
        a.writes = None
        a.mesh.send(None, "t", b"2")
        await until(lambda: len(b.got) == 2 and len(a.got) == 2, "both came", timeout_s=10)


async def test_lines_that_break_again_and_again_lose_and_double_nothing(rng: random.Random) -> None:
    async with knots("a", "b", timings=_QUICK, know=False) as (a, b):
        with line_to(b.port) as line:
            b.know(a)
            a.know(b, f"127.0.0.1:{line.port}")
            for number in range(3000):
                a.mesh.send("b", "t", b"%d" % number + bytes(rng.randrange(3000)))
                if rng.random() < 0.01:
                    line.reset()
                    await asyncio.sleep(rng.random() * 0.05)
            await until(lambda: len(b.got) >= 3000, "all came")
        assert [int(content.rstrip(b"\0")) for _, content in b.got] == [*range(3000)]
        assert not a.broken
        assert not b.broken


@pytest.mark.parametrize("ways", [(Way.BACK,), (Way.THERE,), (Way.THERE, Way.BACK)])
async def test_a_line_that_carries_nothing_in_one_direction_is_given_up_for_another(
    ways: tuple[Way, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with knots("a", "b", timings=_QUICK, know=False) as (a, b):
        with line_to(b.port) as cut, line_to(b.port) as whole:
            b.know(a)
            a.know(b, f"127.0.0.1:{cut.port}")
            a.mesh.send("b", "t", b"1")
            await until(lambda: len(b.got) == 1, "it came")
            cut.freeze(*ways)
            a.mesh.send("b", "t", b"2")
            await until(lambda: "can't be reached" in caplog.text, "the line is given up")
            a.know(b, f"127.0.0.1:{whole.port}")
            a.mesh.send("b", "t", b"3")
            await until(lambda: len(b.got) == 3, "they came over the other one")
            assert [content for _, content in b.got] == [b"1", b"2", b"3"]


async def test_what_may_be_dropped_is_when_a_node_is_far_behind_or_not_reached() -> None:
    limits = Limits(window_bytes=10_000, held_bytes=10_000)
    async with knots("a", "b", timings=_QUICK, limits=limits, know=False) as (a, b):
        a.mesh.came("b", "127.0.0.1:1")
        b.know(a)
        a.mesh.send("b", "t", b"kept 1")
        a.mesh.send("b", "t", b"lost", may_drop=True)
        # Nobody listens there, for longer than `broken_s`.
        await asyncio.sleep(4 * _QUICK.broken_s)
        a.mesh.send("b", "t", b"lost", may_drop=True)
        a.mesh.send("b", "t", b"kept 2")
        a.know(b)
        await until(lambda: len(b.got) == 2, "those came that may not be dropped")
        a.mesh.send("b", "t", b"again", may_drop=True)
        await until(lambda: len(b.got) == 3, "now it came")
        assert [content for _, content in b.got] == [b"kept 1", b"kept 2", b"again"]
        assert not a.broken


async def test_a_node_that_falls_behind_too_far_loses_the_stream_and_both_are_told() -> None:
    limits = Limits(window_bytes=1000, held_bytes=5_000, waiting_bytes=50_000)
    async with knots("a", "b", limits=limits) as (a, b):
        a.mesh.send("b", "t", b"first")
        await until(lambda: len(b.got) == 1, "it came")
        b.progress.note(JOURNAL, 0)
        a.progress.note(JOURNAL, 1)
        for _ in range(60):
            a.mesh.send("b", "t", bytes(1000))
        a.mesh.send("b", "t", b"in the next stream")
        await until(lambda: a.broken == ["b"] and b.broken == ["a"], "both are told")
        await until(lambda: b.got[-1] == ("a", b"in the next stream"), "messages go on")
        assert len(b.got) < 50


async def test_a_node_that_is_not_known_yet_is_looked_for_and_its_messages_wait() -> None:
    async with knots("a", "b", know=False) as (a, b):
        looked: list[bool] = []
        b.mesh.unknown = lambda: looked.append(True)
        a.know(b)
        a.mesh.send("b", "t", b"early")
        await until(lambda: bool(looked), "it is looked for")
        await asyncio.sleep(_NEVER_S)
        assert not b.got
        b.know(a)
        await until(lambda: b.got == [("a", b"early")], "it came")


@pytest.mark.parametrize("knows", [True, False])
async def test_what_came_of_a_node_that_is_gone_is_handled_before_and_nothing_after(knows: bool) -> None:
    async with knots("a", "b") as (a, b):
        b.progress.note(JOURNAL, 0)
        a.progress.note(JOURNAL, 1)
        a.mesh.send("b", "t", b"last")
        await asyncio.sleep(_NEVER_S)
        assert not b.got
        b.mesh.gone("a")
        assert b.got == [("a", b"last")]
        a.mesh.send("b", "t", b"of a ghost")
        await asyncio.sleep(_NEVER_S)
        assert len(b.got) == 1
        # It comes back: what it has sent as a ghost is not of this life.
        if knows:
            a.mesh.renewed()
            a.mesh.send("b", "t", b"back")
        b.know(a)
        if not knows:
            await until(
                lambda: a.broken == ["b", "b"], "it learns that it was dead, and that what it has sent since is lost"
            )
            a.mesh.send("b", "t", b"back")
        await until(lambda: b.got == [("a", b"last"), ("a", b"back")], "it is heard again")


async def test_a_node_taken_for_dead_learns_that_messages_to_it_are_lost() -> None:
    async with knots("a", "b") as (a, b):
        b.mesh.send("a", "t", b"1")
        await until(lambda: len(a.got) == 1, "it came")
        b.mesh.gone("a")
        b.know(a)
        b.mesh.send("a", "t", b"2")
        await until(lambda: len(a.got) == 2 and set(a.broken) == {"b"}, "it is told")


async def test_a_close_waits_until_the_others_have_what_was_sent_and_nothing_is_sent_after_it() -> None:
    async with knots("a", "b") as (a, b):
        for number in _numbers(1000):
            a.mesh.send("b", "t", number + bytes(1000))
        await a.mesh.close()
        assert len(b.got) == 1000
        with pytest.raises(StoreClosed):
            a.mesh.send("b", "t", b"")


# -- strangers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 5000,
        b"\0\0\0\4\xdd\0\0\0",
        b"\0\0\0\5\xdd\0\0\0\0\0",
        b"\0\0\7\xff" + b"\x90" * 2047,
    ],
)
async def test_garbage_of_a_stranger_ends_its_connection_only(garbage: bytes) -> None:
    async with knots("a", "b") as (a, b):
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        await reader.readexactly(4)
        writer.write(garbage)
        writer.write_eof()
        await reader.read()
        writer.close()
        a.mesh.send("b", "t", b"unharmed")
        await until(lambda: b.got == [("a", b"unharmed")], "the nodes talk")


def _frame(*messages: object) -> bytes:
    frame = FrameWriter()
    for message in messages:
        frame.add(message)
    return frame.take()


def _hello(secret: bytes, receiver: str = "b") -> Hello:
    # For another challenge than the one it answers.
    return answer_challenge(make_challenge(), secret, "a", receiver, CONNECTION, "")


async def test_a_proof_for_another_challenge_is_none() -> None:
    async with knots("a", "b") as (_, b):
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        writer.write(_frame(_hello(b"the secret of all nodes")))
        size = int.from_bytes(await reader.readexactly(4), "big")
        assert len(await reader.readexactly(size)) == size
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()


async def test_nodes_without_the_secret_say_nothing_to_each_other() -> None:
    async with knots("b", timings=_QUICK) as (b,):
        liar = Knot("a", b"another secret", timings=_QUICK)
        await liar.start()
        try:
            liar.know(b)
            b.know(liar)
            liar.mesh.send("b", "t", b"lie")
            b.mesh.send("a", "t", b"secret")
            await asyncio.sleep(1.0)
            assert not b.got
            assert not liar.got
        finally:
            await liar.mesh.close()


async def test_an_address_that_is_another_nodes_by_now_gets_no_message() -> None:
    async with knots("b", "c", timings=_QUICK, know=False) as (b, c):
        b.mesh.came("gone", c.address)
        c.know(b)
        b.mesh.send("gone", "t", b"not for c")
        await asyncio.sleep(0.5)
        assert not c.got


async def test_a_crowd_of_silent_strangers_keeps_no_node_out() -> None:
    async with knots("a", "b", know=False) as (a, b):
        silent = [socket.create_connection(("127.0.0.1", b.port)) for _ in range(100)]
        try:
            b.know(a)
            a.know(b)
            a.mesh.send("b", "t", b"here")
            await until(lambda: b.got == [("a", b"here")], "the node is heard")
            # Those that came first had to go.
            await until(lambda: len(b.mesh._listener._strangers) in (63, 64), "there is a bound")
        finally:
            for one in silent:
                one.close()
