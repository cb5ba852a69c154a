"""The settings with which a worker process is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

__all__ = ["WorkerSettings"]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings with which a worker process is started.

    Attributes:
        application: The application, as ``module:name``.
        number: The worker's number, which no other one ever has.
        channel: The descriptor of the channel to its parent.
        lifeline: The descriptor of the pipe that ends with its parent.
        listeners: The descriptors of its listening sockets.
        words: What the command line gives for options, by their names. The environment is inherited, and a file is
            read again.
        arguments: What ``sys.argv`` is in the parent, for applications that look.
    """

    application: str
    number: int
    channel: int = -1
    lifeline: int = -1
    listeners: Sequence[int] = ()
    words: Mapping[str, str]
    arguments: Sequence[str]

    def encode(self) -> str:
        """Return them as a word of a command line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, word: str) -> WorkerSettings:
        """Return what `encode` made a word of."""
        return msgspec.json.decode(word, type=cls)
