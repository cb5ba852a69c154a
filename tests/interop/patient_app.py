"""The application of `app.py` on a server that takes another one for dead only after minutes.

For tests in which no server may be taken for dead, however busy the machine is: what they do would make a server
look dead for longer than that, if it were noticed at all.
"""

from __future__ import annotations

from tests.interop.app import io
from waypost.storage.postgres.nodes import beats, nodes, observing

__all__ = ["PATIENCE_S", "io"]

PATIENCE_S = 240.0

for _module, _name in (
    (observing, "DEAD_S"),
    (observing, "CUT_OFF_S"),
    (observing, "STUCK_S"),
    (beats, "STUCK_S"),
    (nodes, "STUCK_S"),
):
    setattr(_module, _name, PATIENCE_S)
