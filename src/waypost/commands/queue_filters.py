"""The command-line options that select dead letters; `queue_letters` reads the letters that match.

The options have their own file because each start of the program builds them, and `queue_letters` imports much more.
"""

from __future__ import annotations

import argparse

from waypost.commands import human

__all__ = ["add_filters"]


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that select dead letters.

    Args:
        parser: The command's parser.
    """
    group = parser.add_argument_group("filters for dead letters (a letter must match all of them)")
    group.add_argument("--consumer", type=human.name, help="only letters of this consumer")
    group.add_argument("--reason", metavar="TEXT", help="only letters whose reason contains this text")
    group.add_argument("--event", help="only letters with this event")
    group.add_argument(
        "--since", type=human.moment, metavar="WHEN", help="only later deaths: a time, or 2h for 2 hours ago"
    )
    group.add_argument("--until", type=human.moment, metavar="WHEN", help="only earlier deaths")
    group.add_argument("--id", type=human.name, help="only letters of the message with this id")
    group.add_argument("--key", type=human.name, help="only letters of messages with this key")
    group.add_argument(
        "--number",
        type=human.count,
        action="append",
        metavar="N",
        help="only the letter with this number; repeatable",
    )
