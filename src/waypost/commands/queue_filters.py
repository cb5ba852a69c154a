"""The options of the command line that say which dead letters are meant; `queue_letters` finds them.

Apart from it because every start of the program builds its options, and the letters need much more to be imported.
"""

from __future__ import annotations

import argparse

from waypost.commands import human

__all__ = ["add_filters"]


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which dead letters are meant."""
    group = parser.add_argument_group("which dead letters (all of these must fit)")
    group.add_argument("--consumer", help="those of this consumer")
    group.add_argument("--reason", metavar="TEXT", help="those whose reason contains this text")
    group.add_argument("--event", help="those with this event")
    group.add_argument(
        "--since", type=human.moment, metavar="WHEN", help="those that died since then: a time, or 2h for 2 hours ago"
    )
    group.add_argument("--until", type=human.moment, metavar="WHEN", help="those that died before")
    group.add_argument("--id", help="those of the message with this id")
    group.add_argument("--key", help="those of messages with this key")
    group.add_argument(
        "--number", type=human.count, action="append", metavar="N", help="the one with this number; repeatable"
    )
