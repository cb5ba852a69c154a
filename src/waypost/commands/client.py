"""``waypost emit``, ``waypost call`` and ``waypost listen``: a client of any Socket.IO server, in a terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from waypost.commands.common import add_log_level
from waypost.log_settings import LogSettings

if TYPE_CHECKING:
    from waypost.client import Client
    from waypost.commands.common import Subcommands

__all__ = ["add"]

_JSON_BEGINS = ('"', "[", "{")


def add(subcommands: Subcommands) -> None:
    """Add ``emit``, ``call`` and ``listen`` to the command line."""
    parser = subcommands.add_parser("emit", help="send an event", description="Send an event to a server.")
    _add_event(parser)
    parser.set_defaults(run=_emit, take_more=partial(_take_more, parser))
    parser = subcommands.add_parser(
        "call",
        help="send an event and print the answer",
        description="Send an event to a server, and print the acknowledgement as JSON.",
    )
    _add_event(parser)
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="how long to wait (default 60)")
    parser.set_defaults(run=_call, take_more=partial(_take_more, parser))
    parser = subcommands.add_parser(
        "listen",
        help="print what a server sends",
        description="Print the events of a server, until Ctrl-C. Reconnects by itself.",
    )
    _add_connection(parser)
    parser.add_argument("--event", action="append", metavar="EVENT", help="print only this event; may be repeated")
    parser.add_argument(
        "--consume", action="store_true", help="acknowledge each printed event, as a queue's consumer does"
    )
    parser.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    parser.set_defaults(run=_listen)


def _add_event(parser: argparse.ArgumentParser) -> None:
    _add_connection(parser)
    parser.add_argument("event", metavar="EVENT", help="the event's name")
    parser.add_argument("arguments", metavar="JSON", nargs="*", type=_json, help="its arguments, each as JSON")


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the server; a path in it is the namespace")
    parser.add_argument("--namespace", help="the namespace (default: the URL's path)")
    parser.add_argument("--auth", type=_json, metavar="JSON", help="the auth payload for the server: an object")
    parser.add_argument(
        "--header", action="append", type=_header, metavar="'NAME: VALUE'", help="an HTTP header; may be repeated"
    )
    parser.add_argument("--transport", choices=("websocket", "polling"), help="use only this transport")
    parser.add_argument("--path", default="/socket.io/", help="the path that the server serves (default %(default)s)")
    add_log_level(parser, default="error")


def _take_more(parser: argparse.ArgumentParser, options: argparse.Namespace, words: list[str]) -> None:
    """Add the words that argparse left over: arguments of an event that follow an option."""
    unknown = [word for word in words if word.startswith("-") and not word[1:2].isdigit()]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        options.arguments += map(_json, words)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def _emit(options: argparse.Namespace) -> int:
    client = _client(options, reconnection=False)

    async def emit() -> None:
        async with client:
            await client.emit(options.event, *options.arguments)

    _run(emit(), options)
    return 0


def _call(options: argparse.Namespace) -> int:
    from waypost.commands.printing import to_json

    client = _client(options, reconnection=False)

    async def call() -> Any:
        async with client:
            return await client.call(options.event, *options.arguments, timeout_s=options.timeout)

    print(to_json(_run(call(), options)))
    return 0


def _listen(options: argparse.Namespace) -> int:
    from waypost.commands.listening import listen

    client = _client(options, reconnection=True)
    try:
        code: int = _run(listen(client, options.event or (), consumes=options.consume, as_json=options.json), options)
        return code
    except KeyboardInterrupt:
        return 0  # Ctrl-C is the normal end of listening


def _client(options: argparse.Namespace, *, reconnection: bool) -> Client:
    from waypost.client import Client

    return Client(
        options.url,
        namespace=options.namespace,
        auth=options.auth,
        headers=dict(options.header or ()),
        transports=("websocket", "polling") if options.transport is None else (options.transport,),
        path=options.path,
        reconnection=reconnection,
    )


def _run(coroutine: Coroutine[Any, Any, Any], options: argparse.Namespace) -> Any:
    import asyncio

    LogSettings(level=options.log_level).apply()
    return asyncio.run(coroutine)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        hint = str(error) if text[:1] in _JSON_BEGINS else "a text is written '\"so\"'"
        raise argparse.ArgumentTypeError(f"not JSON: {text!r}; {hint}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"not a header: {text!r}; a header is written 'Name: value'")
    return name.strip(), value.strip()
