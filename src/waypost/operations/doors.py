"""The ASGI applications of a server for those who run the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike
from typing import Protocol

from waypost.checking.arguments import COUNT, check
from waypost.checking.constraints import FilePath
from waypost.checking.rules import rule_of
from waypost.operations.health import Health
from waypost.operations.http.api_keys import ApiKey, HasKeys
from waypost.operations.http.key_file import KeyFile, KnownKeys
from waypost.operations.http_api.application import make_api
from waypost.operations.http_api.calls import Inside, Service
from waypost.operations.http_api.repeats import Repeats
from waypost.operations.metrics.family import Reading
from waypost.operations.metrics.page import MetricsPage
from waypost.operations.metrics.survey import Survey
from waypost.server.hub import Hub
from waypost.storage.base import Store
from waypost.transports.http_answer import AsgiApplication

__all__ = ["ForOperators", "api_with"]

_KEYS = rule_of(FilePath | Sequence[ApiKey])


class ForOperators(Service, Protocol):
    """The methods of a server that make applications for those who run the service."""

    _hub: Hub

    def api(
        self, *, keys: str | PathLike[str] | Sequence[ApiKey], max_body_bytes: int = 1_000_000
    ) -> AsgiApplication:
        """Make an ASGI application with which programs in any language emit, fill queues, and look at them.

        Mount it, as ``app.mount("/api", io.api(keys="keys.toml"))``, on an address that the public can't reach.

        Args:
            keys: The keys that requests must have: a TOML file, which is read again when it has changed, or
                a list of `ApiKey`.
            max_body_bytes: The largest body of a request that is accepted, from 1.

        Returns:
            The ASGI application.

        Raises:
            ConfigurationError: The file can't be read, or an argument has a value that it does not accept.
        """
        check("keys", keys, _KEYS)
        check("max_body_bytes", max_body_bytes, COUNT)
        source = KeyFile(keys) if isinstance(keys, str | PathLike) else KnownKeys(keys)
        return api_with(self, source, max_body_bytes)

    def metrics(self, key: str | None = None) -> MetricsPage:
        """Make an ASGI application that shows the server's numbers to Prometheus: ``app.mount("/metrics", …)``.

        It needs the extra ``waypost[metrics]``. In a cluster each server shows the sums over all servers. A scrape
        reads from the store what only that knows, such as what queues keep, and waits a second for it at most.

        Args:
            key: The key that a request has to bring as ``Authorization: Bearer KEY``. ``None`` lets everybody read
                who reaches the path.

        Returns:
            The ASGI application. It answers each GET, whatever the path.

        Raises:
            ConfigurationError: The key is no text, or empty; or prometheus-client is not installed.
        """
        hub, name_of = self._hub, self._hub.directory.counted_as

        def store() -> Store | None:
            # A page may also be served by another event loop than the server's.
            is_open = hub.readiness().phase == "running" and hub.services.own_loop.is_here
            return hub.services.store if is_open else None

        survey = Survey(store, hub.services.queues.label, name_of, hub.beside)

        async def read() -> Reading:
            surveyed = await survey.ask()
            return Reading(self.state(), name_of, surveyed, asyncio.get_running_loop().time())

        return MetricsPage(read, key)

    def health(self, *, key: str | None = None) -> Health:
        """Make an ASGI application for probes, to be mounted: ``app.mount("/health", io.health())``.

        ``/livez`` answers 200 while the event loop turns. ``/readyz`` answers 200 if `Readiness.is_ready`, else 503.
        A probe opens no session and does not reach the store.

        Args:
            key: The key that a probe sends as ``Authorization: Bearer KEY`` to get `Readiness` as JSON; without it a
                probe gets the status alone. At least 16 printable ASCII characters. ``None`` if nobody gets it.

        Returns:
            The ASGI application. It answers before the start and after the stop too.

        Raises:
            ConfigurationError: The key is too short, or has other characters.
        """
        return Health(self._hub.readiness, key)


def api_with(server: ForOperators, keys: HasKeys, max_body_bytes: int = 1_000_000) -> AsgiApplication:
    """Make the application of `ForOperators.api` with another source of keys.

    Args:
        server: The server.
        keys: The keys.
        max_body_bytes: The largest body of a request that is accepted, from 1.
    """
    hub = server._hub  # noqa: SLF001  # its own kind
    inside = Inside(hub.directory.get, Repeats(lambda: hub.services.store))
    return make_api(server, inside, keys, max_body_bytes)
