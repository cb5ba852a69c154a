"""The troubles of a store: what keeps it from taking all that it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["STUCK_S", "Trouble", "TroubleCode"]

TroubleCode: TypeAlias = Literal["behind", "full", "lost", "stuck", "unreachable"]
"""The kinds of trouble:

- ``"behind"``: this server has not applied what other servers wrote some time ago;
- ``"full"``: there is no space, and emits are refused;
- ``"lost"``: nothing can be stored any more until the server is started anew;
- ``"stuck"``: a write is under way for longer than `STUCK_S`;
- ``"unreachable"``: the database, or the process that has the file open, can't be reached.
"""

STUCK_S = 5.0
"""The seconds after which a write that is under way counts as stuck."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps a store from taking all that it should.

    Attributes:
        code: Its kind.
        since_s: For how many seconds it has lasted.
        text: What it is, and what to do, in words.
    """

    code: TroubleCode
    since_s: float
    text: str
