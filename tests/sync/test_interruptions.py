"""Ctrl-C at any moment of a call of the blocking client: nothing is left that Python would warn of."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import waypost
from waypost.testing import serve_in_thread

_OURS = ("client/sync.py", "waypost/loop_thread.py", "waypost/loop_calls.py")


class Interruption:
    """Raises `KeyboardInterrupt` before the n-th instruction of this thread in the blocking client's modules."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __enter__(self) -> None:
        sys.settrace(self._enter_frame)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(_OURS):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._step


@pytest.mark.long
def test_an_interruption_at_any_instruction_leaves_nothing_behind() -> None:
    io = waypost.Server()

    @io.event
    async def echo(socket: waypost.Socket, number: int) -> int:
        return number

    with serve_in_thread(io) as site:
        client = site.connect()
        number, is_interrupted = 0, True
        while is_interrupted:
            number += 1
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    with Interruption(number):
                        client.emit("echo", number)
                    is_interrupted = False
                except KeyboardInterrupt:
                    pass
                gc.collect(0)
            assert [str(one.message) for one in told] == [], number
            assert client.call("echo", number) == number
        assert number > 30
