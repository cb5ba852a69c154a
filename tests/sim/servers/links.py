"""The link between a server and the host of its store: in order, with latency, and it can stall or break."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from tests.sim.network import Later, Pipe
from waypost.protocol.engineio import Frame
from waypost.storage.wire.link import Receiver

__all__ = ["StoreLink"]


class _Side:
    """One side of a link; see `waypost.storage.wire.link.Link`."""

    def __init__(self) -> None:
        self.out: Pipe
        self._receiver: Receiver | None = None
        self._arrived: deque[bytes | None] = deque()
        self._is_paused = False
        self._is_closed = False

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._deliver()

    def send(self, data: bytes) -> None:
        if not self._is_closed:
            self.out.put(data)

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._deliver()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.out.put(None)

    def arrive(self, item: Frame | None) -> None:
        assert not isinstance(item, str)
        self._arrived.append(item)
        self._deliver()

    def _deliver(self) -> None:
        while self._arrived and self._receiver is not None and not self._is_paused and not self._is_closed:
            data = self._arrived.popleft()
            if data is None:
                self._is_closed = True
                self._receiver.closed()
            else:
                self._receiver.received(data)


class StoreLink:
    """A link: as with a stream socket, what a server has sent before it was killed still arrives.

    Args:
        at_host: Calls something at a time, whoever dies meanwhile.
        at_server: Calls something at a time, as long as the server lives.
        time: The clock.
        chance: Where latencies come from.
        latency_s: The longest of them.

    Attributes:
        host: The host's side.
        server: The server's side.
    """

    def __init__(
        self, at_host: Later, at_server: Later, time: Callable[[], float], chance: Random, latency_s: float
    ) -> None:
        self.host, self.server = _Side(), _Side()
        self._at_host, self._at_server, self._time = at_host, at_server, time
        self.server.out = self._up = Pipe(at_host, time, chance, latency_s, self.host.arrive)
        self.host.out = self._down = Pipe(at_server, time, chance, latency_s, self.server.arrive)

    def stall(self) -> None:
        """Let nothing arrive until as many calls of `resume`."""
        self._up.stall()
        self._down.stall()

    def resume(self) -> None:
        """Let what waits arrive."""
        self._up.resume()
        self._at_server(self._time(), self._down.resume)

    def host_died(self) -> None:
        """Lose what is under way. The server is told nothing: a worker whose parent is gone ends at once."""
        self._up.cut()
        self._down.cut()

    def server_died(self, *, was_frozen: bool) -> None:
        """Let the host find out that the server was killed, behind all that it has sent (while frozen, nothing)."""
        self._down.cut()
        if was_frozen:
            self._up.cut()
            self._at_host(self._time(), self.host.arrive, None)
        else:
            self._up.put(None)
