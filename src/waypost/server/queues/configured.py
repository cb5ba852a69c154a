"""The options of each queue: the server's, and what was configured for it alone."""

from __future__ import annotations

from collections.abc import Iterable

from waypost.errors import ConfigurationError
from waypost.logs import fields, get_logger
from waypost.server.queues.options import QueueOptions, QueueSettings, decode_settings, with_settings
from waypost.storage.queue_records import Configuration

__all__ = ["Configured"]

logger = get_logger("waypost.queue")


class Configured:
    """The options of all queues. A queue without options of its own has the server's.

    Args:
        defaults: The server's options for queues.
    """

    __slots__ = ("_defaults", "_options", "_settings")

    def __init__(self, defaults: QueueOptions) -> None:
        self._defaults = defaults
        self._settings: dict[str, QueueSettings] = {}
        self._options: dict[str, QueueOptions] = {}

    def of(self, queue: str) -> QueueOptions:
        """Return a queue's options."""
        return self._options.get(queue, self._defaults)

    def settings(self, queue: str) -> QueueSettings:
        """Return the options that were configured for a queue alone."""
        return self._settings.get(queue, QueueSettings())

    def with_changes(self, queue: str, changes: QueueSettings) -> tuple[QueueSettings, QueueOptions]:
        """Return a queue's settings and options as they would be after some changes.

        Raises:
            ConfigurationError: No option has that name, or a value is impossible.
        """
        settings: QueueSettings = {**self.settings(queue), **changes}
        return settings, with_settings(self._defaults, **settings)

    def keep(self, queue: str, settings: QueueSettings) -> None:
        """Set the options of a queue; empty settings give it the server's options again.

        Raises:
            ConfigurationError: A value is impossible; nothing changes then.
        """
        if settings:
            self._options[queue] = with_settings(self._defaults, **settings)
            self._settings[queue] = settings
        else:
            self._settings.pop(queue, None)
            self._options.pop(queue, None)

    def take(self, stored: Configuration) -> None:
        """Set the options of a queue from the store, where another version or program may have written them.

        Unusable settings are logged, and the queue keeps the options it had.
        """
        try:
            settings = decode_settings(stored.settings)
            self.keep(stored.queue, settings)
            if settings.get("max_deliveries") is not None:
                logger.warning(
                    "queue %r: max_deliveries is configured for it, which the next release will not know; "
                    "configure(max_deliveries=None, max_failures=…, max_losses=…) takes its place",
                    stored.queue,
                    extra=fields(queue=stored.queue),
                )
        except ConfigurationError as problem:
            logger.error(
                "queue %r: what is configured in the store can't be used; it goes on with %s: %s",
                stored.queue, "the options it had" if stored.queue in self._settings else "the server's", problem,
                extra=fields(queue=stored.queue),
            )  # fmt: skip

    def load(self, configurations: Iterable[Configuration]) -> None:
        """Set the options of all queues from the store."""
        self._settings.clear()
        self._options.clear()
        for one in configurations:
            self.take(one)
