"""What it costs that a request reaches another worker than its session's: ``python -m bench.handover``.

Two workers in processes of their own, connected as ``waypost serve --workers`` connects them. A client sends small
events by POST, each on a connection of its own, to the worker of its session and to the other one, in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import waypost
from waypost.application import join_workers
from waypost.transports.handover.handover import Handover
from waypost.transports.uvicorn_runner import bind, serve

__all__ = ["main"]


class _Pair:
    """What one of two workers is told. `waypost.transports.peers.Peers`."""

    def __init__(self, number: int, link: socket.socket) -> None:
        self.number = number
        self._link = link

    def watch(
        self,
        came: Callable[[int, socket.socket], None],
        gone: Callable[[int], None],
        leaving: Callable[[int], None],
    ) -> None:
        self._link.setblocking(False)
        came(3 - self.number, self._link)


def _work(number: int, link: socket.socket, control: Connection) -> None:
    """Run one worker: it says its port, and its CPU time each time it is asked."""
    io = waypost.Server(drain_s=0.0)
    handover = Handover(_Pair(number, link))
    join_workers(io, handover)

    @io.event
    def cpu(_socket: waypost.Socket) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        control.send(used.ru_utime + used.ru_stime)

    listeners = bind("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    serve(io, io, listeners, announce=lambda _: control.send(port), handover=handover)


def _ask(port: int, method: str, target: str, body: bytes = b"") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while data := connection.recv(65_536):
            received += data
    return received.partition(b"\r\n\r\n")[2]


def _open(port: int) -> str:
    target = "/socket.io/?EIO=4&transport=polling"
    target += f"&sid={json.loads(_ask(port, 'GET', target)[1:])['sid']}"
    _ask(port, "POST", target, b"40")
    _ask(port, "GET", target)
    return target


def _cpu(port: int, target: str, control: Any) -> float:
    _ask(port, "POST", target, b'42["cpu"]')
    return float(control.recv())


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3_000, help="for each way and round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default %(default)s)")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ends = socket.socketpair()
    pipes = [spawn.Pipe() for _ in ends]
    workers = [
        spawn.Process(target=_work, args=(number, end, pipe[1]), daemon=True)
        for number, end, pipe in zip((1, 2), ends, pipes, strict=True)
    ]
    for worker in workers:
        worker.start()
    ports = [pipe[0].recv() for pipe in pipes]
    targets = [_open(port) for port in ports]
    ways: dict[str, list[tuple[float, float]]] = {"at home": [], "handed over": []}
    for _ in range(arguments.rounds):
        for port, way in zip(ports, ways, strict=True):
            spent = -sum(_cpu(*each) for each in zip(ports, targets, [pipe[0] for pipe in pipes], strict=True))
            times = []
            for _ in range(arguments.requests):
                begun = time.perf_counter()
                _ask(port, "POST", targets[0], b'42["x"]')
                times.append(time.perf_counter() - begun)
            spent += sum(_cpu(*each) for each in zip(ports, targets, [pipe[0] for pipe in pipes], strict=True))
            ways[way].append((statistics.median(times), spent / arguments.requests))
    for way, rounds in ways.items():
        latency, cpu = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
        print(f"{way:12} {latency:6.0f} us for a request and its answer (p50), {cpu:5.0f} us of CPU in both workers")
    for worker in workers:
        worker.terminate()
        worker.join()


if __name__ == "__main__":
    main()
