"""The state of the engine that several nodes share, as one of them sees it: for people and for probes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineState", "Lag"]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a node is behind the log.

    Attributes:
        ticks: By how many rows, of all journals that it follows.
        seconds: For how long it has not been at the end of all.
    """

    ticks: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineState:
    """The engine that servers share, as one of them sees it.

    Attributes:
        is_reachable: Whether the engine answers this server.
        unreachable_s: For how many seconds it has not answered; 0 while it does.
        is_ready: Whether this server can serve new clients as it should: it reaches the engine, and is not too far
            behind what other servers have written.
        lag: How far it is behind.
        servers: The names of all servers that are alive, sorted, this one too.
        upkeep: The name of the server that does the upkeep for all; "" if none does at the moment.
        era: The name of the engine's history.
        connections: The number of connections that this server has open or would open.
        address: Where the other servers reach this one.
    """

    is_reachable: bool
    unreachable_s: float
    is_ready: bool
    lag: Lag
    servers: tuple[str, ...]
    upkeep: str
    era: str
    connections: int
    address: str
