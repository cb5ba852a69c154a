"""The names of histories."""

from __future__ import annotations

import secrets
import string

__all__ = ["new_generation"]

_LETTERS = string.ascii_letters + string.digits
# 71 bits: two histories with the same name must not happen, and offsets that carry it stay short.
_LENGTH = 12


def new_generation() -> str:
    """Return a random name for a history, letters and digits only."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
