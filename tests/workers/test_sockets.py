"""The listening sockets of several workers: one address, spread evenly, and nobody else's."""

from __future__ import annotations

import select
import socket
import sys
import threading

import pytest

from waypost.errors import ConfigurationError
from waypost.transports.uvicorn_runner import bind
from waypost.workers.sockets import bind_for_workers


def close(bound: list[list[socket.socket]]) -> None:
    for one in (each for listeners in bound for each in listeners):
        one.close()


def test_all_have_the_same_free_port_and_each_gets_its_share() -> None:
    bound = bind_for_workers("127.0.0.1", 0, 4)
    ports = {one.getsockname()[1] for listeners in bound for one in listeners}
    assert len(bound) == 4
    assert len(ports) == 1
    (port,) = ports
    for listeners in bound:
        listeners[0].listen(1000)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
    shares = [0] * len(bound)
    while sum(shares) < len(clients):
        ready, _, _ = select.select([listeners[0] for listeners in bound], [], [], 10)
        assert ready
        for one in ready:
            one.accept()[0].close()
            shares[[listeners[0] for listeners in bound].index(one)] += 1
    for client in clients:
        client.close()
    close(bound)
    if sys.platform == "linux":
        # By a hash of the client's port: 100 each, give or take a few times 10.
        assert min(shares) > 40, shares


def test_an_address_that_somebody_listens_on_is_refused_although_it_could_be_shared() -> None:
    theirs = bind_for_workers("127.0.0.1", 0, 2)
    port = theirs[0][0].getsockname()[1]
    for listeners in theirs:
        listeners[0].listen()
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
        bind_for_workers("127.0.0.1", port, 2, patience_s=0.1)
    close(theirs)
    close(bind_for_workers("127.0.0.1", port, 2))


def test_the_workers_of_a_killed_parent_are_given_a_moment() -> None:
    (theirs,) = bind("127.0.0.1", 0)
    theirs.listen()
    timer = threading.Timer(0.3, theirs.close)
    timer.start()
    bound = bind_for_workers("127.0.0.1", theirs.getsockname()[1], 2)
    assert theirs.fileno() == -1, "it waited for the end"
    close(bound)
    timer.join()


def test_every_address_of_a_name_has_its_sockets() -> None:
    bound = bind_for_workers("localhost", 0, 2)
    assert len({len(listeners) for listeners in bound}) == 1
    assert len(bound[0]) == len(bind_addresses("localhost"))
    close(bound)


def bind_addresses(host: str) -> list[socket.socket]:
    bound = bind(host, 0)
    for one in bound:
        one.close()
    return bound
