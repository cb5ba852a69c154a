"""JSON for packets: binary values taken out and replaced by placeholders, numbers as JavaScript would keep them."""

from __future__ import annotations

from typing import Any

import orjson

from waypost.errors import EncodingFailed

__all__ = ["encode_rich"]


def encode_rich(what: str, data: object) -> tuple[bytes, tuple[bytes, ...]]:
    """Encode what may hold binary values, keys that are no strings, and huge integers.

    Args:
        what: The packet it is for, for the error.
        data: What to encode.

    Returns:
        JSON with a placeholder for each binary value, and the binary values in order.

    Raises:
        EncodingFailed: It holds what JSON can't carry, or what would be taken for a placeholder.
    """
    # Data that looks like a placeholder would be taken for one. A server passes on what its clients
    # sent: with a number out of range in it, every official client that gets it closes its connection.
    attachments: list[bytes] = []

    def replace(value: object) -> dict[str, Any]:
        if isinstance(value, bytes | bytearray | memoryview):
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}
        raise TypeError

    try:
        json = orjson.dumps(data, replace, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        attachments.clear()
        try:
            json = orjson.dumps(_without_huge_integers(data), replace, orjson.OPT_NON_STR_KEYS)
        except (TypeError, RecursionError) as error:
            raise EncodingFailed(what, str(error)) from error
    if attachments and json.count(b'"_placeholder":true') != len(attachments):
        raise EncodingFailed(what, "beside binary values, no other object may have a true _placeholder")
    return json, tuple(attachments)


def _without_huge_integers(value: object) -> object:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, dict):
        return {key: _without_huge_integers(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_huge_integers(member) for member in value]
    return value
