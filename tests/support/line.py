"""A TCP line between two ends that a test cuts, or freezes in one direction or both; in threads of its own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType

__all__ = ["Line", "Way", "line_to"]

_CHUNK_BYTES = 1 << 16


class Way(Enum):
    """A direction of a line, as the end sees it that connects."""

    THERE = "there"
    BACK = "back"


class Line:
    """Accepts connections, and carries their bytes to another address, each direction in a thread of its own.

    Bytes that a frozen direction takes are kept and go on when it is thawed, as over a real line that is cut for a
    while: neither end sees an end of the connection. New connections of a line that is down are refused.

    Args:
        host: The host of the other address.
        port: Its port.

    Attributes:
        port: The port on 127.0.0.1 that accepts.
        carried_bytes: How many bytes went in each direction.
    """

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = {way: threading.Event() for way in Way}
        for flowing in self._flowing.values():
            flowing.set()
        self._held = dict.fromkeys(Way, b"")
        self._is_down = False
        self._is_closed = False
        self.carried_bytes = dict.fromkeys(Way, 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"line {self.port}").start()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._ends) // 2

    def held(self, way: Way) -> bytes:
        """Return what a frozen direction has taken and not carried yet."""
        return self._held[way]

    def lead_to(self, port: int) -> None:
        """Carry new connections to another port of the other host, and break all others."""
        self._there = (self._there[0], port)
        self.reset()

    def freeze(self, *ways: Way) -> None:
        """Carry nothing in these directions from now on; in both, if none is named."""
        for way in ways or Way:
            self._flowing[way].clear()

    def thaw(self) -> None:
        """Carry what was kept, and what comes, in both directions."""
        self._held = dict.fromkeys(Way, b"")
        for flowing in self._flowing.values():
            flowing.set()

    def reset(self) -> None:
        """Break all connections, so that both ends see it; new ones are accepted."""
        with self._lock:
            ends = [*self._ends]
            self._ends.clear()
        for end in ends:
            _break(end)

    def take_down(self) -> None:
        """Break all connections, and refuse new ones until `put_up`."""
        self._is_down = True
        self.reset()

    def put_up(self) -> None:
        """Accept connections again."""
        self._is_down = False

    def close(self) -> None:
        """End for good."""
        self._is_closed = True
        self.thaw()
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._is_down or self._is_closed:
                _break(near)
                continue
            try:
                far = socket.create_connection(self._there)
            except OSError:
                _break(near)
                continue
            with self._lock:
                self._ends |= {near, far}
            threading.Thread(target=self._connect, args=(near, far), daemon=True).start()

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        """Carry what goes over a connection, until both ends have ended it."""
        back = threading.Thread(target=self._carry, args=(far, near, Way.BACK), daemon=True)
        back.start()
        self._carry(near, far, Way.THERE)
        back.join()
        near.close()
        far.close()

    def _carry(self, source: socket.socket, target: socket.socket, way: Way) -> None:
        try:
            while chunk := source.recv(_CHUNK_BYTES):
                if not self._flowing[way].is_set():
                    with self._lock:
                        self._held[way] += chunk
                self._flowing[way].wait()
                target.sendall(chunk)
                self.carried_bytes[way] += len(chunk)
            self._flowing[way].wait()
            with self._lock:
                if source in self._ends:  # a reset also ends the reading, and is not to end politely
                    target.shutdown(socket.SHUT_WR)
        except OSError:
            # One end has broken the connection: so does this line to the other.
            for end in (source, target):
                _break(end)
        finally:
            with self._lock:
                self._ends -= {source}


def _break(end: socket.socket) -> None:
    """Close a connection with a reset, and wake the thread that reads it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # it is broken already
    end.close()


@contextmanager
def line_to(port: int, host: str = "127.0.0.1") -> Iterator[Line]:
    """Make a line to an address, and close it in the end."""
    with Line(host, port) as line:
        yield line
