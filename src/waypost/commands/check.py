"""``waypost check``: shows the options of a server and where they come from, and finds what would be wrong."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from waypost.commands.serve_flags import add_serve_flags, words_of

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]


def add(subcommands: Subcommands) -> None:
    """Add ``check`` to the command line."""
    parser = subcommands.add_parser(
        "check",
        help="show a server's options and where they come from, and what would be wrong",
        description="Show all options with which `waypost serve` would serve an application, where each comes from,"
        " and what would be wrong. It takes the words of `waypost serve`, and serves nothing.",
        epilog="The exit code is 1 if it could not serve, and 2 if an option has a value that is not accepted.",
    )
    add_serve_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    import asyncio

    from waypost.commands.output import Column, print_json, print_table
    from waypost.serving.checkup import OptionShown, findings, options_shown
    from waypost.serving.loading import load_served
    from waypost.serving.settings import gather
    from waypost.text import printable
    from waypost.workers.count import workers_of

    settings = gather(words_of(options))
    workers = workers_of(settings.serve.options)
    _, io = load_served(options.application, settings)
    shown = options_shown(io, settings)
    found = asyncio.run(findings(io, settings, workers))
    has_problems = any(one.weight == "problem" for one in found)
    if options.json:
        print_json(
            {
                "options": {one.name: {"value": one.value, "from": one.place} for one in shown},
                "findings": [{"weight": one.weight, "about": one.about, "text": one.text} for one in found],
            }
        )
        return int(has_problems)
    columns: list[Column[OptionShown]] = [
        Column("option", lambda one: one.name),
        Column("value", lambda one: printable(one.value)),
        Column("from", lambda one: printable(one.place)),
    ]
    print_table(columns, shown)
    print()
    for one in found:
        print(f"{one.weight}: {one.about}: {printable(one.text)}")
    print("it could not serve" if has_problems else "no problems")
    return int(has_problems)
