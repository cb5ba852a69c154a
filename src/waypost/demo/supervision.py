"""What the supervisor tells the process it starts: through the environment, and by a pipe that ends with it."""

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
    """Says that this process has a supervisor, which starts it again when it is killed.

    Attributes:
        run: How often the service was started before, 0 for the first time.
    """

    run: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Supervision | None:
        """Read what the supervisor has said; ``None`` if there is no supervisor."""
        run = environment.get(_VARIABLE)
        return None if run is None else cls(int(run))

    def end_with_supervisor(self) -> None:
        """Stop this process gracefully when the supervisor is gone, however it went.

        The supervisor holds the other end of this process's standard input and never writes to it.
        """
        threading.Thread(target=_terminate_at_end_of_input, name="waypost-demo-supervision", daemon=True).start()

    def environment(self) -> dict[str, str]:
        """Return this process's environment with this added, for a process to be started."""
        return {**os.environ, _VARIABLE: str(self.run)}


def _terminate_at_end_of_input() -> None:
    # Not through sys.stdin's buffer: its lock, held by a daemon thread, would stop the interpreter from ending.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
