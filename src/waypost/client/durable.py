"""The client's files on disk, if its options name any: one file for all namespaces, or two."""

from __future__ import annotations

from pathlib import Path

from waypost.client.answers import HandledMessages, MemoryHandledMessages
from waypost.client.handled_file import FileHandledMessages
from waypost.client.options import Options
from waypost.client.outbox import Outbox
from waypost.client.state_file import StateFile

__all__ = ["Durable"]


class Durable:
    """A client's files.

    Args:
        options: The client's options. ``outbox`` names one file; ``state`` names another or the same.
    """

    __slots__ = ("_options", "_outbox", "_state")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._outbox = None if options.outbox is None else StateFile(options.outbox)
        self._state = self._outbox
        if options.state is not None:
            state = StateFile(options.state)
            if self._outbox is None or Path(state.name) != Path(self._outbox.name):
                self._state = state

    def outbox(self, namespace: str) -> Outbox | None:
        """Make a namespace's outbox; ``None`` if the options name no file for it."""
        if self._outbox is None:
            return None
        return Outbox(
            self._outbox,
            namespace,
            max_events=self._options.outbox_max_events,
            max_bytes=self._options.outbox_max_bytes,
        )

    def handled(self, namespace: str) -> HandledMessages:
        """Make the store of a namespace's handled messages: in the file, or in memory without one."""
        return MemoryHandledMessages() if self._state is None else FileHandledMessages(self._state, namespace)

    async def open(self) -> None:
        """Open the files, so that errors occur now.

        Raises:
            ConfigurationError: A file can't be opened.
            StorageError: A file is in use, damaged, or can't be read.
        """
        for file in self._files:
            await file.run(lambda _: None)

    async def close(self) -> None:
        """Close the files; the next use opens them again."""
        for file in self._files:
            await file.close()

    @property
    def _files(self) -> list[StateFile]:
        return [file for file in dict.fromkeys((self._outbox, self._state)) if file is not None]
