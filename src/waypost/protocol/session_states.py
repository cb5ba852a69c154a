"""The states of an Engine.IO session, and the transitions between them.

::

    POLLING ──probe opens──▶ PROBING ──2probe──▶ PROBED ──5──▶ WEBSOCKET
       ▲                        │                   │             │
       └──────probe ends────────┴───────────────────┘             │
       └───────────────────── close ──▶ CLOSING ◀─────────────────┘
                                           └── flushed, lost or timed out ──▶ CLOSED

A session that opens on a WebSocket starts in WEBSOCKET. In CLOSING the application knows the end already, and the
last frames are still being sent. A session that closes in PROBED enters CLOSING_PROBED: its client no longer polls,
so it may still finish the upgrade.

Source: Engine.IO protocol, revision 4 ("Upgrade").
"""

from __future__ import annotations

from enum import Enum

__all__ = ["TRANSITIONS", "State", "Step"]


class State(Enum):
    """The state of a session; the module's docstring shows the transitions."""

    POLLING = "polling"
    PROBING = "probing"
    PROBED = "probed"
    WEBSOCKET = "websocket"
    CLOSING = "closing"
    CLOSING_PROBED = "closing, probed"
    CLOSED = "closed"

    # An Enum computes its hash in Python code; every lookup in a set of states would pay for that.
    __hash__ = object.__hash__


class Step(Enum):
    """A step of a session, from one state to another."""

    PROBE_OPENS = 1
    PROBE_PINGS = 2
    PROBE_ENDS = 3
    UPGRADES = 4
    CLOSES = 5
    ENDS = 6


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.POLLING, Step.PROBE_OPENS): State.PROBING,
    (State.PROBING, Step.PROBE_PINGS): State.PROBED,
    (State.PROBING, Step.PROBE_ENDS): State.POLLING,
    (State.PROBED, Step.PROBE_ENDS): State.POLLING,
    (State.PROBED, Step.UPGRADES): State.WEBSOCKET,
    (State.POLLING, Step.CLOSES): State.CLOSING,
    (State.PROBING, Step.CLOSES): State.CLOSING,
    (State.PROBED, Step.CLOSES): State.CLOSING_PROBED,
    (State.WEBSOCKET, Step.CLOSES): State.CLOSING,
    (State.POLLING, Step.ENDS): State.CLOSED,
    (State.PROBING, Step.ENDS): State.CLOSED,
    (State.PROBED, Step.ENDS): State.CLOSED,
    (State.WEBSOCKET, Step.ENDS): State.CLOSED,
    (State.CLOSING, Step.ENDS): State.CLOSED,
    (State.CLOSING_PROBED, Step.UPGRADES): State.CLOSING,
    (State.CLOSING_PROBED, Step.PROBE_ENDS): State.CLOSING,
    (State.CLOSING_PROBED, Step.ENDS): State.CLOSED,
}
"""All transitions. A step that is missing here for a state has no effect in that state."""
