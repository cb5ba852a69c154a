"""``waypost api-key``: makes keys of the HTTP API."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, get_args

from waypost.errors import ConfigurationError

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PATTERNS = ("queues", "rooms", "namespaces")


def add(subcommands: Subcommands) -> None:
    """Add ``api-key`` and its subcommand to the command line."""
    parser = subcommands.add_parser(
        "api-key", help="make a key for the HTTP API", description="Make keys for the HTTP API."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    new = commands.add_parser(
        "new",
        help="print a new key, and its line for the file of keys",
        description="Print a new key, and its line for the file of keys. Nothing but this output has the key.",
    )
    new.add_argument("name", help="the key's name: letters, digits, - and _")
    new.add_argument(
        "--scope", action="append", required=True, metavar="SCOPE", help="what the key may do; repeatable"
    )
    for kind in _PATTERNS:
        new.add_argument(
            f"--{kind}",
            action="append",
            metavar="PATTERN",
            help=f"the {kind} that it may use, all by default; repeatable",
        )
    new.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> int:
    from waypost.operations.http.api_keys import ApiKey, Scope, digest_of, new_secret

    if not _NAME.fullmatch(options.name):
        raise ConfigurationError("name", options.name, "letters, digits, - and _")
    for scope in options.scope:
        if scope not in get_args(Scope):
            raise ConfigurationError("--scope", scope, f"one of {', '.join(get_args(Scope))}")
    secret = new_secret()
    patterns = {kind: given for kind in _PATTERNS if (given := getattr(options, kind)) is not None}
    line = {"sha256": digest_of(secret), "scopes": options.scope, **patterns}
    ApiKey(name=options.name, **line)
    shown = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in line.items())
    print(f"key   {secret}")
    print(f"line  {options.name} = {{{shown}}}")
    return 0
