"""The line of the tests itself: what it carries, and what it does when it is cut or frozen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.line import Line, Way, line_to


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, and ends when its client has ended."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(4096):
                    connection.sendall(chunk)
            except ConnectionError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.fixture
def line(echo: int) -> Iterator[Line]:
    with line_to(echo) as made:
        yield made


def connect(line: Line) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), timeout=5)


def test_it_carries_both_ways_and_the_end(line: Line) -> None:
    with connect(line) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert line.carried_bytes == {Way.THERE: 5, Way.BACK: 5}


@pytest.mark.parametrize("ways", [(), (Way.THERE,), (Way.BACK,)])
def test_a_frozen_line_keeps_what_it_takes(line: Line, ways: tuple[Way, ...]) -> None:
    with connect(line) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        line.freeze(*ways)
        client.sendall(b"b")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        line.thaw()
        assert client.recv(1) == b"b"


def test_a_reset_breaks_both_ends_and_new_connections_are_carried(line: Line) -> None:
    with connect(line) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        line.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(line) as client:
        client.sendall(b"b")
        assert client.recv(1) == b"b"


def test_a_line_that_is_down_refuses(line: Line) -> None:
    line.take_down()
    with pytest.raises(ConnectionResetError), connect(line) as client:
        client.recv(1)
    line.put_up()
    with connect(line) as client:
        client.sendall(b"c")
        assert client.recv(1) == b"c"
