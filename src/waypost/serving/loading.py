"""Finds the application that ``waypost serve module:name`` names, and the Waypost server in it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waypost.application import Server
from waypost.checking.layers import giving
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.serving.settings import ServeSettings

__all__ = ["find_server", "load", "load_served"]

_STORE = rule_of(str)


def load_served(application: str, settings: ServeSettings) -> tuple[Any, Server]:
    """Import an application with the options that are given outside of its code, and find the server in it.

    They are the options of each `Server` that the application makes while it is imported; the store is that of the
    one that is served.

    Args:
        application: The application, as for `load`.
        settings: The options.

    Returns:
        The application and the server.

    Raises:
        ConfigurationError: There is no such application, no server in it, or an option is not accepted.
        Exception: Any error that the module's own code raises.
    """
    store = settings.given.get("store")
    with giving({name: one for name, one in settings.given.items() if name != "store"}):
        app = load(application)
        named = settings.serve.options.server
        io = find_server(app if named is None else load(named, "server"))
    if store is not None:
        try:
            io.use_store(str(store.read(_STORE)))
        except ConfigurationError as error:
            raise ConfigurationError(store.shown, error.value, error.expected, suggestion=error.suggestion) from error
    return app, io


def load(target: str, option: str = "application") -> Any:
    """Import the object that ``module:name`` names.

    The current directory is searched first, as ``python -m`` does.

    Args:
        target: A module's dotted name, a colon, and a name in that module, which may be dotted too.
        option: What names it, for errors.

    Returns:
        The object.

    Raises:
        ConfigurationError: The text has another form, or the module or the name does not exist.
        Exception: Any error that the module's own code raises.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ConfigurationError(option, target, "module:name, as in main:io")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A failed import inside the user's module keeps its traceback: its author needs it.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(option, target, f"a module; there is none named {error.name}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(option, target, f"a name in {module_name}; there is no {name}")
        found = getattr(found, name)
    return found


def find_server(app: Any) -> Server:
    """Find the Waypost server in an ASGI application.

    The search covers the application itself, its ``server`` (of `Server.asgi`), its ``app`` (a middleware's inner
    application) and its ``routes`` (the mounts of Starlette and FastAPI).

    Args:
        app: A `waypost.Server`, or an ASGI application that contains one.

    Returns:
        The server.

    Raises:
        ConfigurationError: The application contains no server, or several.
    """
    servers = list({id(server): server for server in _servers_in(app, set())}.values())
    if len(servers) != 1:
        expected = "a waypost.Server, or an ASGI application that holds exactly one"
        raise ConfigurationError(
            "application", app, f"{expected}; it holds {len(servers) or 'none'}; name it by --server"
        )
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
