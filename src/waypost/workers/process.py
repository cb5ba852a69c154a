"""A worker's process, as its parent sees it: how it is started, and how its end is noticed."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from waypost.workers.settings import WorkerSettings

__all__ = ["SIGNALS", "describe_end", "interpreter_options", "start_process", "watch_end"]

SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What the parent obeys, and workers don't: a terminal and systemd send them to all processes."""

_TAKES_VALUE = ("-W", "-X")


def start_process(
    settings: WorkerSettings, listeners: Sequence[socket.socket], lifeline: int
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a worker in a fresh interpreter: a fork of a process with threads could inherit a lock that is held.

    Args:
        settings: What it is started with; the descriptors are filled in here.
        listeners: Its listening sockets; the parent keeps them open too.
        lifeline: The end of a pipe from which it learns that the parent is gone.

    Returns:
        The process, and the parent's end of the channel to it.

    Raises:
        OSError: There are too many processes or descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptors = [one.fileno() for one in listeners]
        settings = msgspec.structs.replace(
            settings, channel=theirs.fileno(), lifeline=lifeline, listeners=descriptors
        )
        command = [sys.executable, *interpreter_options(), "-m", "waypost", "worker", settings.encode()]
        with _signals_blocked():
            process = subprocess.Popen(command, pass_fds=[theirs.fileno(), lifeline, *descriptors])
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def watch_end(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """Return a future of the process's exit code, or minus the signal that ended it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def wait() -> None:
        code = process.wait()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, code)

    threading.Thread(target=wait, name=f"waypost-wait-{process.pid}", daemon=True).start()
    return ended


def interpreter_options() -> list[str]:
    """Return the options with which this interpreter was started, such as ``-X utf8``."""
    options: list[str] = []
    words = iter(sys.orig_argv[1:])
    for word in words:
        if not word.startswith("-") or word in ("-", "-c", "-m"):
            break
        options.append(word)
        if word in _TAKES_VALUE:
            options.append(next(words, ""))
    return options


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let a new process begin with the signals blocked; it takes them when it knows how not to obey them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def describe_end(code: int) -> str:
    """Return in words how a process ended."""
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
