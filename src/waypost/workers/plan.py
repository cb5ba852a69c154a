"""The plan of what several workers serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of what the workers serve.

    Attributes:
        application: The application, as ``module:name``.
        words: What the command line gives for options, by their names.
        emitter_socket: The unix socket on which programs without a server are served; ``None`` for none.
        code: Yields a file whenever the code has changed, so that new workers are to start; ``None`` for never.
        announce: Called with the first address, the store's description, and the workers' process ids, once all
            accept clients.
    """

    application: str
    words: Mapping[str, str]
    announce: Callable[[str, str, Sequence[int]], None]
    emitter_socket: str | None = None
    code: Callable[[], AsyncIterator[Path]] | None = None
