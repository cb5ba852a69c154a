"""The session table: every step from every state, its timers, and the upgrade under arbitrary interleavings."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.protocol.engineio import Frame, decode_payload
from waypost.protocol.revision import Payload, Revision, Revision3, Revision4
from waypost.protocol.session import EngineSession, Event
from waypost.protocol.session_settings import SessionSettings
from waypost.protocol.session_states import State

SETTINGS = SessionSettings(
    ping_interval_s=25,
    ping_timeout_s=20,
    upgrade_timeout_s=10,
    max_payload_bytes=1_000,
    max_buffered_bytes=2_000,
    max_stalled_s=10,
)


def session(transport: str = "polling", now: float = 0) -> EngineSession:
    return EngineSession("sid", transport, SETTINGS, now)


def polled(one: EngineSession, now: float = 0) -> list[Frame] | None:
    """Poll once; the frames that came, or None if the poll waits (it is then still open)."""
    assert one.open_poll()
    payload = one.take_payload(now)
    return None if payload is None else decode_payload(payload.body, max_packets=1_000)


def text(body: bytes) -> Payload:
    """The answer to a poll."""
    return Payload(body, "text/plain; charset=UTF-8")


def opened(now: float = 0) -> EngineSession:
    """A polling session whose open packet was fetched."""
    one = session(now=now)
    polled(one, now)
    return one


def upgraded() -> EngineSession:
    one = opened()
    one.open_probe(0)
    one.receive_probe("2probe")
    one.receive_probe("5")
    return one


def test_polling_session_begins_with_an_open_packet_that_offers_the_upgrade() -> None:
    frames = polled(session())
    assert frames is not None
    (frame,) = frames
    assert isinstance(frame, str)
    assert frame[0] == "0"
    assert json.loads(frame[1:]) == {
        "sid": "sid",
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 1_000,
    }


def test_websocket_session_offers_no_upgrade() -> None:
    frame = session("websocket").take_frame(0)
    assert isinstance(frame, str)
    assert json.loads(frame[1:])["upgrades"] == []


def test_messages_go_out_in_order_and_both_kinds_survive_polling() -> None:
    one = opened()
    one.send(("4a", b"\x00\x1e", "4b"), 0)
    one.send(("4c",), 0)
    assert polled(one) == ["4a", b"\x00\x1e", "4b", "4c"]


def test_poll_waits_until_there_is_something() -> None:
    one = opened()
    assert polled(one) is None
    assert one.writable
    one.send(("4x",), 1)
    assert one.take_payload(1) == text(b"4x")
    assert not one.writable


def test_overlapping_poll_ends_the_session_and_the_first_is_told() -> None:
    one = opened()
    assert polled(one) is None
    assert not one.open_poll()
    assert one.take_payload(0) == text(b"1")
    assert (one.state, one.close_reason) == (State.CLOSED, "transport error")


def test_overlapping_post_ends_the_session() -> None:
    one = opened()
    assert one.begin_post()
    assert not one.begin_post()
    assert one.close_reason == "transport error"


def test_frames_go_past_the_buffer_only_over_a_websocket_and_while_none_waits() -> None:
    assert not opened().is_direct
    one = upgraded()
    while one.take_frame(0) is not None:
        pass
    assert one.is_direct
    one.send(["waits"], 0)
    assert not one.is_direct


def test_posts_one_after_the_other_are_fine() -> None:
    one = opened()
    for _ in range(3):
        assert one.begin_post()
        one.end_post()
    assert one.is_open


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("2", "transport error"),
        ("0{}", "parse error"),
        ("5", "parse error"),
        ("9", "parse error"),
        ("", "parse error"),
    ],
)
def test_forbidden_frames_close_with_their_reason(frame: str, reason: str) -> None:
    one = session("websocket")
    with pytest.raises(MalformedPacket):
        one.receive(frame, 0)
    assert (one.state, one.close_reason) == (State.CLOSED, reason)


def test_close_packet_of_the_client_is_a_transport_close() -> None:
    one = session("websocket")
    assert one.receive("1", 0) is None
    assert (one.events, one.close_reason) == ([Event.CLOSED], "transport close")


def test_limit_counts_bytes_and_not_characters() -> None:
    one = session("websocket")
    assert one.receive("4" + "é" * 499, 0) is not None
    with pytest.raises(LimitExceeded) as caught:
        one.receive("4" + "é" * 500, 0)
    assert caught.value.received == 1_001


def test_unasked_pong_proves_nothing() -> None:
    one = session("websocket")
    for _ in range(100):
        one.receive("3", 1)
    assert one.events == []
    assert one.deadline == 25


# -- time -----------------------------------------------------------------------------------------------------


def test_heartbeat_pings_proves_and_goes_on() -> None:
    one = session("websocket")
    one.take_frame(0)
    assert one.deadline == 25
    one.tick(25)
    assert one.take_frame(25) == "2"
    assert one.deadline == 45
    one.receive("3", 30)
    assert one.events == [Event.PING_SENT, Event.PONG_RECEIVED]
    assert one.deadline == 50


def test_a_ping_that_leaves_a_little_late_counts_from_its_time() -> None:
    one = session("websocket")
    one.take_frame(0)
    one.tick(25.015)
    assert one.take_frame(25.015) == "2"
    assert one.deadline == 45
    one.receive("3", 30)
    assert one.deadline == 50


def test_a_ping_that_leaves_much_too_late_gives_its_client_all_the_time() -> None:
    one = session("websocket")
    one.take_frame(0)
    one.tick(28)
    assert one.take_frame(28) == "2"
    assert one.deadline == 48


def test_unanswered_ping_ends_the_session() -> None:
    one = session("websocket")
    one.take_frame(0)
    one.tick(25)
    one.take_frame(25)
    one.tick(44.9)
    assert one.is_open
    one.tick(45)
    assert one.close_reason == "ping timeout"
    assert one.deadline == inf


def pinged() -> EngineSession:
    """A session whose client got a ping at 25 and has until 45 to answer."""
    one = session("websocket")
    one.take_frame(0)
    one.tick(25)
    one.take_frame(25)
    return one


@pytest.mark.parametrize("frame", ["4a large one", b"a large one"])
def test_a_message_gives_a_pong_behind_it_more_time(frame: Frame) -> None:
    one = pinged()
    one.receive(frame, 40)
    assert one.deadline == 60
    one.tick(45)
    one.receive("3", 59)
    assert one.events == [Event.PING_SENT, Event.PONG_RECEIVED]


def test_messages_do_not_replace_the_pong() -> None:
    one = pinged()
    for now in range(25, 64):
        one.receive("4a", now)
        one.tick(now)
    one.tick(64.9)
    assert one.is_open
    one.tick(65)
    assert one.close_reason == "ping timeout"


def test_after_a_late_pong_the_next_ping_comes_before_the_client_gives_up() -> None:
    one = pinged()
    one.receive("4a", 44)
    one.receive("3", 63)
    one.tick(63)
    assert one.take_frame(63) == "2"


def test_messages_do_not_put_off_a_ping() -> None:
    one = session("websocket")
    one.take_frame(0)
    one.receive("4a", 24)
    assert one.deadline == 25


def test_tick_before_the_deadline_does_nothing() -> None:
    one = session("websocket")
    one.take_frame(0)
    one.tick(24.9)
    assert one.take_frame(24.9) is None


def test_client_that_takes_nothing_is_cut_off_by_time() -> None:
    one = opened()
    one.send(("4a",), 3)
    assert one.deadline == 13
    one.tick(13)
    assert one.close_reason == "slow client"


def test_waiting_ping_alone_does_not_make_a_client_slow() -> None:
    one = opened()
    one.tick(25)
    one.tick(36)
    assert one.is_open


def test_progress_resets_the_stall() -> None:
    one = session("websocket")
    one.send(("4a", "4b"), 0)
    one.take_frame(8)
    one.tick(10)
    assert one.is_open
    one.tick(18)
    assert one.close_reason == "slow client"


def test_client_with_too_much_waiting_is_cut_off_and_frees_it() -> None:
    one = opened()
    for _ in range(3):
        one.send(("4" + "x" * 900,), 0)
    assert one.close_reason == "slow client"
    assert one.buffered_bytes == 0


def test_single_message_above_the_limit_passes() -> None:
    one = opened()
    one.send(("4" + "x" * 5_000,), 0)
    assert one.is_open


# -- the upgrade ----------------------------------------------------------------------------------------------


def test_upgrade_releases_the_poll_and_moves_what_waits() -> None:
    one = opened()
    assert polled(one) is None
    assert one.open_probe(0)
    assert one.receive_probe("2probe") == "3probe"
    assert one.take_payload(0) == text(b"6")
    one.send(("4x",), 0)
    assert one.receive_probe("5") is None
    assert (one.state, one.transport) == (State.WEBSOCKET, "websocket")
    assert one.take_frame(0) == "4x"
    assert not one.open_poll()


def test_second_probe_is_refused_and_the_first_goes_on() -> None:
    one = opened()
    assert one.open_probe(0)
    assert not one.open_probe(0)
    assert one.receive_probe("2probe") == "3probe"


def test_probe_after_the_upgrade_is_refused() -> None:
    assert not upgraded().open_probe(0)


@pytest.mark.parametrize("frames", [["5"], ["4hello"], [b"x"], ["2"], ["2probe", "2probe"], ["2probe", "4x"]])
def test_wrong_probe_leaves_the_session_polling(frames: list[Frame]) -> None:
    one = opened()
    one.open_probe(0)
    *before, last = frames
    for frame in before:
        one.receive_probe(frame)
    with pytest.raises(MalformedPacket):
        one.receive_probe(last)
    one.end_probe()
    assert one.state is State.POLLING
    one.send(("4x",), 0)
    assert polled(one) == ["4x"]


def test_slow_probe_is_given_up() -> None:
    one = opened()
    one.open_probe(5)
    assert one.deadline == 15
    one.tick(15)
    assert one.state is State.POLLING


# -- the end --------------------------------------------------------------------------------------------------


def test_close_flushes_first_and_tells_a_polling_client_apart_from_events() -> None:
    one = opened()
    one.send(("4last",), 0)
    one.close("forced server close", 0)
    assert one.events == [Event.CLOSED]
    assert polled(one) == ["4last"]
    assert polled(one) == ["1"]
    assert one.state is State.CLOSED


def test_close_flushes_a_websocket() -> None:
    one = session("websocket")
    one.send(("4last",), 0)
    one.close("forced server close", 0)
    assert isinstance(one.take_frame(0), str)
    assert one.take_frame(0) == "4last"
    assert (one.state, one.take_frame(0), one.state) == (State.CLOSING, None, State.CLOSED)


def test_polling_client_that_never_fetches_the_rest_is_let_go() -> None:
    one = opened()
    one.send(("4last",), 0)
    one.close("forced server close", 0)
    assert one.deadline == 30
    one.tick(30)
    assert one.state is State.CLOSED


def test_reason_is_told_once() -> None:
    one = session("websocket")
    one.close("forced server close", 0)
    one.abort("transport close")
    one.lose_transport("transport close")
    assert (one.events, one.close_reason) == ([Event.CLOSED], "forced server close")


def test_nothing_is_taken_or_queued_after_the_end() -> None:
    one = session("websocket")
    one.abort("transport close")
    one.send(("4x",), 0)
    assert one.receive("4x", 0) is None
    assert one.take_frame(0) is None
    assert one.deadline == inf


STEPS: dict[str, Callable[[EngineSession], object]] = {
    "open_poll": lambda one: one.open_poll(),
    "take_payload": lambda one: one.take_payload(1),
    "take_frame": lambda one: one.take_frame(1),
    "send": lambda one: one.send(("4x", b"y"), 1),
    "receive": lambda one: one.receive("4x", 1),
    "pong": lambda one: one.receive("3", 1),
    "ping": lambda one: one.receive("2data", 1),
    "garbage": lambda one: one.receive("0", 1),
    "bad frame": lambda one: one.decode_frame(b"\x07"),
    "bad body": lambda one: list(one.decode_post(b"\xff")),
    "bad form": lambda one: list(one.decode_post(b"\xff", is_form=True)),
    "post": lambda one: one.begin_post(),
    "posted": lambda one: one.end_post(),
    "probe": lambda one: one.open_probe(1),
    "probe ping": lambda one: one.receive_probe("2probe"),
    "upgrade": lambda one: one.receive_probe("5"),
    "probe ends": lambda one: one.end_probe(),
    "tick": lambda one: one.tick(one.deadline if one.deadline != inf else 1),
    "close": lambda one: one.close("forced server close", 1),
    "abort": lambda one: one.abort("transport error"),
    "lost": lambda one: one.lose_transport("transport close"),
}


MAY_RAISE = ("pong", "ping", "garbage", "bad frame", "bad body", "bad form", "probe ping", "upgrade")


@given(
    st.sampled_from(["polling", "websocket"]),
    st.sampled_from([Revision4(), Revision4(max_packets=1), Revision3(), Revision3(text_only=True)]),
    st.lists(st.sampled_from(sorted(STEPS)), max_size=40),
)
def test_any_sequence_of_steps_only_raises_what_is_documented(
    transport: str, revision: Revision, steps: list[str]
) -> None:
    one = EngineSession("sid", transport, SETTINGS, 0, revision)
    closed = 0
    for step in steps:
        try:
            STEPS[step](one)
        except ProtocolViolation:
            assert step in MAY_RAISE
        closed += one.events.count(Event.CLOSED)
        one.events.clear()
        assert closed == (0 if one.close_reason is None else 1)
        assert one.is_open == (one.close_reason is None)
        assert one.buffered_bytes >= 0
        assert (one.deadline == inf) == (one.state is State.CLOSED)


class Upgrader:
    """A client that polls and upgrades as the official one does, a step at a time, in any order that is possible."""

    def __init__(self) -> None:
        self.session = opened()
        self.got: list[Frame] = []
        self.polling = False
        self.stage = "polling"

    def possible(self) -> list[str]:
        choices = ["emit"]
        if self.polling:
            choices.append("finish poll")
        elif self.stage in ("polling", "probing"):
            choices.append("start poll")
        if self.stage == "polling":
            choices.append("open probe")
        elif self.stage == "probing":
            choices.append("probe ping")
        elif self.stage == "paused" and not self.polling:
            choices.append("upgrade")
        elif self.stage == "websocket":
            choices.append("read")
        return choices

    def take(self, step: str, number: int) -> None:
        one = self.session
        if step == "emit":
            one.send((f"4{number}",), 0)
        elif step == "start poll":
            self.polling = one.open_poll()
            assert self.polling
        elif step == "finish poll":
            payload = one.take_payload(0)
            if payload is not None:
                self.polling = False
                self.got += [frame for frame in decode_payload(payload.body, max_packets=1_000) if frame != "6"]
        elif step == "open probe":
            assert one.open_probe(0)
            self.stage = "probing"
        elif step == "probe ping":
            assert one.receive_probe("2probe") == "3probe"
            self.stage = "paused"
        elif step == "upgrade":
            assert one.receive_probe("5") is None
            self.stage = "websocket"
        else:
            frame = one.take_frame(0)
            self.got += [] if frame is None else [frame]


@given(st.lists(st.integers(0, 5), max_size=60))
def test_upgrade_loses_and_reorders_nothing(choices: list[int]) -> None:
    client = Upgrader()
    emitted: list[Frame] = []
    for number, choice in enumerate(choices):
        possible = client.possible()
        step = possible[choice % len(possible)]
        client.take(step, number)
        if step == "emit":
            emitted.append(f"4{number}")
    # Whatever is left reaches the client by its transport.
    while client.stage != "websocket":
        possible = client.possible()
        client.take(possible[-1], -1)
    while (frame := client.session.take_frame(0)) is not None:
        client.got.append(frame)
    assert client.got == emitted


def closed_after_the_probe() -> EngineSession:
    one = opened()
    one.open_probe(0)
    one.receive_probe("2probe")
    one.send(("4last",), 0)
    one.close("forced server close", 0)
    assert (one.is_open, one.is_probing) == (False, True)
    return one


def test_a_close_after_the_probe_is_flushed_over_the_websocket() -> None:
    one = closed_after_the_probe()
    assert one.receive_probe("5") is None
    assert [one.take_frame(0), one.take_frame(0), one.state] == ["4last", None, State.CLOSED]


def test_a_close_after_the_probe_is_flushed_by_polls_if_the_probe_ends() -> None:
    one = closed_after_the_probe()
    one.end_probe()
    assert [polled(one), polled(one), one.state] == [["4last"], ["1"], State.CLOSED]


def test_a_close_before_the_probe_wants_no_probe() -> None:
    one = opened()
    one.open_probe(0)
    one.close("forced server close", 0)
    assert not one.is_probing


def test_a_close_after_the_probe_ends_in_time() -> None:
    one = closed_after_the_probe()
    one.tick(one.deadline)
    assert (one.state, one.is_probing) == (State.CLOSED, False)


def test_a_message_without_frames_waits_for_nobody() -> None:
    one = opened()
    one.send((), 5.0)
    assert one.stalled_since == inf
    one.send(("4x",), 6.0)
    assert one.stalled_since == 6.0


@pytest.mark.parametrize("by_client", [True, False])
def test_who_has_closed_an_open_session_is_known(*, by_client: bool) -> None:
    one = upgraded()
    one.lose_transport("transport close", by_client=by_client)
    assert one.closed_by_client is by_client
    # What comes afterwards closes nothing.
    one.lose_transport("transport close", by_client=True)
    assert one.closed_by_client is by_client
