"""The supervisor's message to its child process: an environment variable, and a pipe."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Supervision"]

_VARIABLE = "WAYPOST_DEMO_RUN"


@dataclass(frozen=True, slots=True)
class Supervision:
    """Tells this process that a supervisor restarts it when it is killed.

    Attributes:
        run: The number of earlier starts; 0 for the first one.
    """

    run: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Supervision | None:
        """Read the supervisor's message from the environment; ``None`` without a supervisor."""
        run = environment.get(_VARIABLE)
        return None if run is None else cls(int(run))

    def end_with_supervisor(self) -> None:
        """Stop this process gracefully when the supervisor ends for any reason.

        The supervisor holds the other end of this process's standard input and never writes to it.
        """
        threading.Thread(target=_terminate_at_end_of_input, name="waypost-demo-supervision", daemon=True).start()

    def environment(self) -> dict[str, str]:
        """Return this process's environment plus the message, for a child process."""
        return {**os.environ, _VARIABLE: str(self.run)}


def _terminate_at_end_of_input() -> None:
    # Bypasses sys.stdin's buffer: a daemon thread that held its lock would block the interpreter's exit.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
