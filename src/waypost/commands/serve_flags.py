"""The flags of ``waypost serve`` and ``waypost check``: one for each option of the command, made from its field."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import Field, fields
from functools import partial

from waypost.checking.arguments import check
from waypost.checking.options import rules_of
from waypost.checking.reading import read_text
from waypost.checking.rules import Rule
from waypost.errors import ConfigurationError
from waypost.serving.options import ServeOptions

__all__ = ["add_serve_flags", "words_of"]

_SERVERS = ("store", "trusted_proxies")
"""Options of servers that have a flag, too."""


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the application, and a flag for each option.

    A flag that is not given leaves nothing: the environment, a file or a default may have the option.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "application", metavar="module:name", help="a waypost.Server, or an ASGI application that contains one"
    )
    parser.add_argument(
        "--store",
        default=argparse.SUPPRESS,
        help="use this store instead of the application's: a path, memory:, or postgresql://user@host:5432/database",
    )
    parser.add_argument(
        "--proxy",
        action="append",
        dest="trusted_proxies",
        metavar="ADDRESS",
        default=argparse.SUPPRESS,
        help="believe what a proxy at this address, or in this network, says of clients; may be repeated",
    )
    rules = rules_of(ServeOptions)
    for field in fields(ServeOptions):
        _add_flag(parser, field, rules[field.name])


def _add_flag(parser: argparse.ArgumentParser, field: Field[object], rule: Rule) -> None:
    flag = "--" + field.name.replace("_", "-")
    purpose: str = field.metadata["help"]
    if isinstance(field.default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=purpose)
        return
    shown = "" if field.default is None else f" (default {field.default})"
    parser.add_argument(
        flag,
        type=_reader(rule),
        default=argparse.SUPPRESS,
        metavar=field.metadata["metavar"] or "|".join(rule.known) or None,
        help=f"{purpose}{shown}".replace("%", "%%"),
    )


def _reader(rule: Rule) -> Callable[[str], str]:
    return partial(_checked, rule)


def _checked(rule: Rule, text: str) -> str:
    try:
        check("", read_text(text, rule), rule)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("=")) from error
    return text


def words_of(options: argparse.Namespace) -> dict[str, str]:
    """Return what the command line gives for options, as texts by the options' names."""
    names = (*_SERVERS, *(field.name for field in fields(ServeOptions)))
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in given.items()}
