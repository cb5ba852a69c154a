"""Tools for the tests of applications: a server on a free port or in memory, and clients that are connected to it.

The functions are context managers. `waypost.testing.fixtures` offers them as pytest fixtures.
"""

from __future__ import annotations

from waypost.testing.engine import EngineApplication, EngineClient
from waypost.testing.serving import serve, serve_in_memory, serve_in_thread
from waypost.testing.site import Site, ThreadSite

__all__ = ["EngineApplication", "EngineClient", "Site", "ThreadSite", "serve", "serve_in_memory", "serve_in_thread"]
