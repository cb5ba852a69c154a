"""The load generator counts what servers send, however it is cut into pieces."""

from __future__ import annotations

import pytest

from bench.speed.frames import FrameCounter, client_frame, heartbeat_answer, payload_bounds, split_masked
from waypost.protocol.websocket import frame_message

_STREAM = b"".join(
    [
        frame_message("2"),
        frame_message("x" * 40),
        b"\x89\x04ping",
        frame_message("x" * 300),
        frame_message(b"x" * 70_000),
        frame_message("short"),
        frame_message("x" * 40),
    ]
)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1000, 100_000])
def test_frames_of_a_size_are_counted_in_pieces_of_any_size(piece: int) -> None:
    text, binary = FrameCounter(40, is_binary=False), FrameCounter(40, is_binary=True)
    pieces = [_STREAM[at : at + piece] for at in range(0, len(_STREAM), piece)]
    assert sum(text.feed(part) for part in pieces) == 3
    assert sum(binary.feed(part) for part in pieces) == 1


def test_a_frame_that_is_one_byte_too_short_does_not_count() -> None:
    assert FrameCounter(41, is_binary=False).feed(frame_message("x" * 40)) == 0


def test_signs_of_life_are_answered() -> None:
    counter = FrameCounter(40, is_binary=False)
    counter.feed(_STREAM)
    assert counter.heartbeats == [client_frame("3"), heartbeat_answer(0x89, b"ping")]
    assert heartbeat_answer(0x81, b"42") is None


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_payloads_are_found(size: int) -> None:
    frame = frame_message("x" * size)
    start, stop = payload_bounds(b"before" + frame, 6)
    assert (b"before" + frame)[start:stop] == b"x" * size
    assert stop == 6 + len(frame)


def test_masked_frames_are_cut_off_whole() -> None:
    frames = [client_frame("a" * size) for size in (1, 200)]
    found, rest = split_masked(b"".join(frames) + frames[1][:50])
    assert found == frames
    assert rest == frames[1][:50]
