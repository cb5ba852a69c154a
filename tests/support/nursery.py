"""Starts commands of ``waypost`` in processes of their own that need not import all its modules again.

A start of Python with the server's modules costs more than most tests of a server. Here one process has imported
them and does nothing else; it forks for each command, and the fork runs the command as ``python -m waypost`` would:
its own environment, its own log, its own end. That the command line starts without help is for tests/test_cli.py.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

_REPOSITORY = Path(__file__).parent.parent.parent
# What ``waypost serve`` imports when it runs, and uvicorn when it listens.
_MODULES = (
    "waypost.serving.loading",
    "waypost.transports.uvicorn_runner",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)


class Child:
    """A process that the nursery has started.

    Attributes:
        pid: Its id.
        returncode: Its exit code, or minus the signal that ended it; None until `poll` has seen the end.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return its exit code if it has ended."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended: until `poll` has seen that, nobody else can have its id."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, however long that takes; return its exit code."""
        if self.returncode is None:
            self.returncode = int(self._nursery.ask({"wait": self.pid}))
        return self.returncode


class Nursery:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        """Run ``waypost`` with these words in the repository; what it prints goes to the end of the log."""
        log.touch()
        return Child(self, self.ask({"words": list(words), "environment": dict(environment), "log": str(log)}))

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Have the process do something, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process; what it has started goes on."""
        self._process.communicate()


@cache
def nursery() -> Nursery:
    """Return the nursery of this process, which is started when it is first used."""
    started = Nursery()
    atexit.register(started.close)
    return started


def _serve(requests: IO[bytes]) -> dict[str, Any] | None:
    """Answer requests until there are no more; in a child, return what it was started for."""
    for line in requests:
        request = json.loads(line)
        if "words" in request:
            answer: int | None = os.fork()
            if answer == 0:
                return dict(request)
        elif "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
    return None


def _become(request: Mapping[str, Any]) -> None:
    """Take a child's own environment, signals, and files."""
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)


def _main() -> NoReturn:
    from waypost.cli import main

    # Ctrl+C reaches all processes of a terminal; this one goes when the tests do, who may still need it until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in _MODULES:
        import_module(module)
    # No child has to look through what they all share, least of all when it ends.
    gc.freeze()
    request = _serve(sys.stdin.buffer)
    if request is None:
        sys.exit(0)
    _become(request)
    sys.argv = ["waypost", *request["words"]]
    sys.exit(main(request["words"]))


if __name__ == "__main__":
    _main()
