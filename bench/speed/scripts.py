"""What clients say, masked and framed beforehand, and what they must be answered. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.speed.frames import client_frame

__all__ = ["ACKS", "EMITS", "Script", "ack_script", "emit_script"]

_LENGTH = 1000


@dataclass(frozen=True)
class Script:
    """Requests, and what each is answered with; said again from the beginning at the end.

    Attributes:
        requests: Masked frames.
        answers: What the payload of the answer begins with.
    """

    requests: list[bytes]
    answers: list[bytes]


def ack_script(length: int = _LENGTH) -> Script:
    """Events that are acknowledged with what they carry."""
    numbers = range(length)
    return Script(
        [client_frame(f'42{number}["ack",{{"number":{number}}}]') for number in numbers],
        [f'43{number}[{{"number":{number}}}]'.encode() for number in numbers],
    )


def emit_script(length: int = _LENGTH) -> Script:
    """Events that are answered with an event, at whose end an offset may stand."""
    numbers = range(length)
    return Script(
        [client_frame(f'42["emit_me",{{"number":{number}}}]') for number in numbers],
        [f'42["told",{{"number":{number}}}'.encode() for number in numbers],
    )


ACKS = ack_script()
EMITS = emit_script()
