"""How the options of ``waypost serve`` make connections."""

from __future__ import annotations

from waypost.serving.options import ServeOptions
from waypost.transports.wire import Wire

__all__ = ["wire_of"]


def wire_of(serve: ServeOptions) -> Wire:
    """Return how connections are made.

    Args:
        serve: The options.
    """
    return Wire(certfile=serve.certfile, keyfile=serve.keyfile, logs_requests=serve.access_log)
