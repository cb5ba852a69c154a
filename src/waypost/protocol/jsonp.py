"""JSONP polling for old browsers without CORS: responses are scripts, and POSTs are forms.

The query parameter ``j`` of each request is the number of the callback.
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
    """Return the number of the callback.

    Args:
        parameter: The value of ``j``.

    Returns:
        The digits of the value; no other character may get into the script. ``None`` for no digit, or more than 15.
    """
    digits = _NO_DIGIT.sub("", parameter)
    return digits if 0 < len(digits) <= _LONGEST_NUMBER else None


def wrap_answer(number: str, body: bytes) -> Payload:
    """Encode the response to a poll as a script.

    Args:
        number: The callback's number, from `callback_number`.
        body: The payload, in UTF-8.

    Returns:
        A call of the callback with the payload. U+2028 and U+2029 are escaped: in older JavaScript they end the line
        inside the string.
    """
    text = orjson.dumps(body.decode()).decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Payload(f"___eio[{number}]({text});".encode(), _SCRIPT)


def unwrap_form(body: bytes) -> bytes:
    """Decode the body of a POST that a form sent.

    Args:
        body: The form with the field ``d``. The client writes a newline in it as a backslash and an ``n``, because
            forms change newlines, and an original backslash and ``n`` with one more backslash.

    Returns:
        The payload, in UTF-8.

    Raises:
        MalformedPacket: The form has no such field.
    """
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
        payload = dict(fields)["d"]
    except (ValueError, KeyError) as error:
        raise MalformedPacket("a form with the field d", body) from error
    return _NEWLINES.sub(lambda found: "\\n" if len(found[0]) == len(r"\\n") else "\n", payload).encode()
