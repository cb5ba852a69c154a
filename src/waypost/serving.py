"""Finds the application that ``waypost serve module:name`` names, and the Waypost server in it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waypost import Server
from waypost.errors import ConfigurationError

__all__ = ["find_server", "load"]


def load(target: str) -> Any:
    """Import what ``module:name`` names; the current directory is looked in first.

    Args:
        target: A module's dotted name, a colon, and a name in it, which may be dotted too.

    Returns:
        The object.

    Raises:
        ConfigurationError: The text is not of that form, or there is no such module or name.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ConfigurationError("application", target, "module:name, as in main:io")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is the module that was asked for; one that it imports in vain is its author's to see in full.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError("application", target, f"a module; there is none named {error.name}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError("application", target, f"a name in {module_name}; there is no {name}")
        found = getattr(found, name)
    return found


def find_server(app: Any) -> Server:
    """Find the Waypost server in an ASGI application.

    Looks at the application itself, at its ``server`` (what ``io.asgi(app)`` returns has one), at what a
    middleware wraps (``app``), and at its routes and mounts (``routes``: Starlette, FastAPI).

    Args:
        app: A `waypost.Server`, or an ASGI application that holds one.

    Returns:
        The server.

    Raises:
        ConfigurationError: There is none in it, or there are several.
    """
    servers = list({id(server): server for server in _servers_in(app, set())}.values())
    if len(servers) != 1:
        expected = "a waypost.Server, or an ASGI application that holds exactly one"
        raise ConfigurationError("application", app, f"{expected}; it holds {len(servers) or 'none'}")
    return servers[0]


def _servers_in(node: Any, seen: set[int]) -> Iterator[Server]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Server):
        yield node
        return
    for name in ("server", "app"):
        inner = getattr(node, name, None)
        if isinstance(inner, Server) or callable(inner):
            yield from _servers_in(inner, seen)
    routes = getattr(node, "routes", None)
    for route in routes if isinstance(routes, list | tuple) else ():
        yield from _servers_in(route, seen)
