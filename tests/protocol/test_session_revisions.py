"""What a session does differently for each revision of Engine.IO, and for clients that take few packets at once."""

from __future__ import annotations

import pytest

from tests.protocol.test_session import SETTINGS, polled
from waypost.errors import MalformedPacket
from waypost.protocol.engineio import Frame
from waypost.protocol.revision import Revision3, Revision4
from waypost.protocol.session import EngineSession, Event
from waypost.protocol.session_settings import SessionSettings


def session_3(transport: str = "polling", *, text_only: bool = False) -> EngineSession:
    return EngineSession("sid", transport, SETTINGS, 0, Revision3(text_only))


def test_in_revision_3_the_client_pings() -> None:
    one = session_3("websocket")
    one.take_frame(0)
    for now in (25, 50, 75):
        assert one.receive("2", now) is None
        assert one.take_frame(now) == "3"
    assert one.receive("2hello", 80) is None
    assert one.take_frame(80) == "3hello"
    assert one.events == [Event.PING_RECEIVED] * 4
    assert one.deadline == 80 + 45
    one.tick(80 + 45)
    assert one.close_reason == "ping timeout"


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_in_revision_3_replies_to_pings_count_for_the_limit_of_what_waits(transport: str) -> None:
    one = session_3(transport)
    ping = "2" + "x" * 900
    for _ in range(5):
        one.receive(ping, 0)
        assert one.buffered_bytes <= SETTINGS.max_buffered_bytes
    assert one.close_reason == "slow client"
    assert one.events[-1] is Event.CLOSED


def test_in_revision_3_a_client_that_only_pings_is_stalled() -> None:
    one = session_3()
    assert one.open_poll()
    assert one.take_payload(0)
    one.receive("2", 1)
    assert one.deadline == 1 + SETTINGS.max_stalled_s


def test_in_revision_3_the_server_does_not_ping() -> None:
    one = session_3("websocket")
    one.take_frame(0)
    one.tick(44)
    assert one.take_frame(44) is None
    assert one.is_open


def test_in_revision_3_a_pong_of_the_client_is_refused() -> None:
    one = session_3("websocket")
    with pytest.raises(MalformedPacket):
        one.receive("3", 0)
    assert one.close_reason == "transport error"


def test_revision_3_writes_binary_as_its_client_takes_it() -> None:
    one = session_3("websocket")
    one.take_frame(0)
    one.send(("4x", b"\x00"), 0)
    assert [one.take_frame(0), one.take_frame(0)] == ["4x", b"\x04\x00"]
    one = session_3("websocket", text_only=True)
    one.take_frame(0)
    one.send((b"\x00",), 0)
    assert one.take_frame(0) == "b4AA=="
    one = session_3()
    polled_3 = one.open_poll() and one.take_payload(0)
    assert polled_3
    for text_only, expected in ((True, b"6:b4AA=="), (False, b"\x01\x02\xff\x04\x00")):
        one.send((b"\x00",), 0)
        assert one.open_poll()
        payload = one.take_payload(0, text_only=text_only)
        assert payload is not None
        assert payload.body == expected


@pytest.mark.parametrize("frame", [b"", b"\x03x", "b5AA==", "b4!", "x", ""])
def test_bad_frames_of_revision_3_close(frame: Frame) -> None:
    one = session_3("websocket")
    with pytest.raises(MalformedPacket):
        one.decode_frame(frame)
    assert one.close_reason == "parse error"


def test_the_initial_message_comes_right_after_the_open_packet() -> None:
    settings = SessionSettings(initial_message="4hello")
    one = EngineSession("sid", "websocket", settings, 0)
    opened, hello = one.take_frame(0), one.take_frame(0)
    assert str(opened).startswith("0{")
    assert (hello, one.take_frame(0)) == ("4hello", None)


def test_a_client_that_takes_few_packets_gets_the_rest_with_its_next_polls() -> None:
    one = EngineSession("sid", "polling", SETTINGS, 0, Revision4(max_packets=2))
    polled(one)
    one.send([f"4{number}" for number in range(5)], 0)
    assert [polled(one), polled(one), one.deadline] == [["40", "41"], ["42", "43"], 10]
    assert polled(one) == ["44"]
    assert (one.buffered_bytes, one.deadline) == (0, 25)
