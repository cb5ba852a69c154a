"""Looks for what would be wrong if an application were served: its store, its addresses, its files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias

from waypost.application import Server, options_of
from waypost.errors import ConfigurationError, shorten
from waypost.serving.options import ServeOptions
from waypost.serving.settings import ServeSettings, known_options
from waypost.serving.side_app import side_app
from waypost.serving.sides import sides_of
from waypost.serving.wiring import wire_of
from waypost.storage.inspecting import inspect_store
from waypost.storage.specs import shown_spec
from waypost.transports.uvicorn_runner import bind

__all__ = ["Finding", "OptionShown", "findings", "options_shown"]

_Weight: TypeAlias = Literal["problem", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding.

    Attributes:
        weight: ``"problem"``: it would not serve. ``"warning"``: something is probably not meant so. ``"note"``: what
            else one should know.
        about: The option that it is about.
        text: The finding, in words.
    """

    weight: _Weight
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class OptionShown:
    """An option for people.

    Attributes:
        name: Its name.
        value: Its value, short and without secrets.
        place: Where the value comes from.
    """

    name: str
    value: str
    place: str


def options_shown(io: Server, settings: ServeSettings) -> list[OptionShown]:
    """Return all options, those of the command first, then those of the server."""
    rules = known_options()
    store, place = _store_of(io, settings)
    servers = {**options_of(io).places(), "store": (store, place)}
    shown = [("store", shown_spec(store), place)]
    for name, (value, where) in {**settings.serve.places(), **servers}.items():
        if name != "store":
            shown.append((name, "***" if rules[name].is_secret else _shown(value), where))
    return [OptionShown(*one) for one in shown]


def _store_of(io: Server, settings: ServeSettings) -> tuple[str | PathLike[str], str]:
    given = settings.given.get("store")
    if given is None:
        return options_of(io).places()["store"]
    return str(given.value), given.place_shown


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value if value else '""'
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if callable(value) and name else shorten(value)


async def findings(io: Server, settings: ServeSettings, workers: int) -> list[Finding]:
    """Look for what would be wrong. Nothing is changed, and a server may run.

    Args:
        io: The server.
        settings: The options that are given outside of the code.
        workers: The number of processes.
    """
    found = [Finding("warning", "environment", told) for told in settings.unknown]
    spec, _ = _store_of(io, settings)
    store = await inspect_store(spec, io.options.disk_reserve_bytes)
    found += [Finding("problem", "store", told) for told in store.problems]
    found += [Finding("note", "store", told) for told in store.notes]
    if workers > 1 and spec == "memory:" and settings.serve.options.emitter_socket is None:
        told = "other programs can't emit into the memory of workers without this option"
        found.append(Finding("note", "emitter_socket", told))
    return [*found, *_parts(io, settings.serve.options), *_addresses(settings.serve.options)]


def _parts(io: Server, serve: ServeOptions) -> Iterator[Finding]:
    for part in (part for side in sides_of(serve) for part in side.parts):
        try:
            side_app(io, (part,), serve)
        except ConfigurationError as error:
            yield Finding("problem", part, str(error))


def _addresses(serve: ServeOptions) -> Iterator[Finding]:
    try:
        wire_of(serve).check()
    except ConfigurationError as error:
        yield Finding("problem", "certfile", str(error))
    if serve.uds is not None:
        if not os.access(os.path.dirname(serve.uds) or ".", os.W_OK | os.X_OK):
            yield Finding("problem", "uds", f"{serve.uds}: its folder does not exist, or can't be written to")
    elif serve.port:
        yield from _address("port", serve.host, serve.port)
    for side in sides_of(serve):
        yield from _address(side.parts[0], *side.address)


def _address(about: str, host: str, port: int) -> Iterator[Finding]:
    try:
        for listener in bind(host, port):
            listener.close()
    except ConfigurationError as error:
        cause = error.__cause__
        is_used = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        yield Finding("note" if is_used else "problem", about, f"{error.value}: expected {error.expected}")
