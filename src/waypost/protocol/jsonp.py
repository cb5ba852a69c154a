"""JSONP polling: answers as scripts, and posts as forms, for browsers that can't ask a foreign server otherwise.

Each request names its callback by a number, the query parameter ``j``.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import orjson

from waypost.errors import MalformedPacket
from waypost.protocol.revision import Payload

__all__ = ["callback_number", "unwrap_form", "wrap_answer"]

_SCRIPT = "text/javascript; charset=UTF-8"
_NO_DIGIT = re.compile("[^0-9]+")
_NEWLINES = re.compile(r"\\?\\n")
_LONGEST_NUMBER = 15
_MOST_FIELDS = 8


def callback_number(parameter: str) -> str | None:
    """Read the number of the callback.

    Args:
        parameter: The value of ``j``.

    Returns:
        Its digits, the only thing that may get into the script; ``None`` if it has none, or too many.
    """
    digits = _NO_DIGIT.sub("", parameter)
    return digits if 0 < len(digits) <= _LONGEST_NUMBER else None


def wrap_answer(number: str, body: bytes) -> Payload:
    """Write the answer to a poll as a script.

    Args:
        number: The callback's number, as `callback_number` gives it.
        body: The payload, in UTF-8.

    Returns:
        A call of the callback with the payload, as older JavaScript reads it too: there, U+2028 and U+2029 would
        end the line in the middle of the string.
    """
    text = orjson.dumps(body.decode()).decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Payload(f"___eio[{number}]({text});".encode(), _SCRIPT)


def unwrap_form(body: bytes) -> bytes:
    """Read the body of a POST that a form has sent.

    Args:
        body: The form: one field, ``d``, in which newlines are written as a backslash and an ``n``, because forms
            don't keep them; and a backslash and an ``n`` that were there before have one more backslash.

    Returns:
        The payload, in UTF-8.

    Raises:
        MalformedPacket: There is no such field.
    """
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
        payload = dict(fields)["d"]
    except (ValueError, KeyError) as error:
        raise MalformedPacket("a form with the field d", body) from error
    return _NEWLINES.sub(lambda found: "\\n" if len(found[0]) == len(r"\\n") else "\n", payload).encode()
