"""For the tests of applications: a server on a free port, or in memory, and clients that are connected to it.

As context managers they are `serve` and `serve_in_memory`, as pytest fixtures in `waypost.testing.fixtures`.
"""

from __future__ import annotations

from waypost.testing.serving import serve, serve_in_memory
from waypost.testing.site import Site

__all__ = ["Site", "serve", "serve_in_memory"]
