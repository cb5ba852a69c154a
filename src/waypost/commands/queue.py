"""``waypost queue``: inspects and changes the queues of a store, with or without a running server."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from waypost.commands import human
from waypost.commands.queue_filters import add_filters
from waypost.storage.queue_records import FromPosition, FromTime, Place

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]

_MESSAGES = 10
_LETTERS = 100


def add(subcommands: Subcommands) -> None:
    """Add ``queue`` and its subcommands to the command line."""
    parser = subcommands.add_parser(
        "queue",
        help="inspect and change a store's queues",
        description="Inspect and change the queues of a store (a file, or PostgreSQL), with or without a server.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_looking(commands)
    _add_redrive(commands)
    _add_purge(commands)
    _add_seek(commands)
    _add_pause(commands)
    _add_cancel(commands)


def _add_looking(commands: Subcommands) -> None:
    ls = _command(commands, "ls", "list the queues", of_queue=False)
    ls.add_argument("--match", metavar="PATTERN", help='only queues whose names match, such as "driver:*"')
    _command(commands, "info", "show a queue and its consumers")

    peek = _command(commands, "peek", "show messages without delivering them")
    peek.add_argument(
        "--consumer",
        type=human.name,
        help="only messages that this consumer has not acknowledged, with its attempts",
    )
    _add_page(peek, _MESSAGES, "show messages after this offset")

    dead = _command(commands, "dead", "show dead letters")
    add_filters(dead)
    dead.add_argument("--history", action="store_true", help="show each attempt (JSON always does)")
    _add_page(dead, _LETTERS, "show dead letters after this number")


def _add_redrive(commands: Subcommands) -> None:
    redrive = _command(commands, "redrive", "deliver dead letters again, each to the consumer that gave it up")
    add_filters(redrive)
    redrive.add_argument("--rate", type=human.rate, metavar="N", help="this many per second (default: all at once)")


def _add_purge(commands: Subcommands) -> None:
    purge = _command(commands, "purge", "remove messages, acknowledged or not, or dead letters", asks=True)
    purge.add_argument("--upto", type=human.count, metavar="OFFSET", help="only messages up to this offset")
    purge.add_argument("--dead", action="store_true", help="remove dead letters, and no messages")
    add_filters(purge)


def _add_seek(commands: Subcommands) -> None:
    seek = _command(commands, "seek", "move a consumer", asks=True)
    seek.add_argument("consumer", type=human.name, help="the consumer's name")
    seek.add_argument("place", type=_place, help="oldest, new, an offset, a time (ISO 8601), or 2h for 2 hours ago")


def _add_pause(commands: Subcommands) -> None:
    pause = _command(commands, "pause", "stop the deliveries of a queue or to one consumer; emitting continues")
    pause.add_argument("--consumer", type=human.name, help="only this consumer")
    end = pause.add_mutually_exclusive_group()
    end.add_argument("--for", dest="duration", type=human.duration, metavar="DURATION", help="for 15m, 2h, 1d")
    end.add_argument("--until", type=human.point, metavar="TIME", help="until a time (ISO 8601)")
    resume = _command(commands, "resume", "end a pause")
    resume.add_argument("--consumer", type=human.name, help="only this consumer")


def _add_cancel(commands: Subcommands) -> None:
    cancel = _command(commands, "cancel", "remove a message with a delay that is not due yet")
    cancel.add_argument("id", type=human.name, help="the message's id")


def _add_page(parser: argparse.ArgumentParser, most: int, meaning: str) -> None:
    parser.add_argument("--after", type=human.offset, default=0, metavar="N", help=meaning)
    parser.add_argument(
        "--limit", type=human.count, default=most, metavar="N", help="the most to show (default %(default)s)"
    )


def _command(
    commands: Subcommands, name: str, purpose: str, *, of_queue: bool = True, asks: bool = False
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        commands: The parsers of the group.
        name: The subcommand's name.
        purpose: Its help text, which begins with a verb in lower case.
        of_queue: Whether it takes a queue's name.
        asks: Whether it asks for confirmation.
    """
    parser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.add_argument("store", help="the store's file")
    if of_queue:
        parser.add_argument("queue", type=human.name, help="the queue's name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if asks:
        parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=partial(_run, name))
    return parser


def _run(name: str, options: argparse.Namespace) -> int:
    from waypost.commands import queue_changing as changing
    from waypost.commands import queue_looking as looking
    from waypost.commands.queue_visit import run

    commands = {
        "ls": looking.ls,
        "info": looking.info,
        "peek": looking.peek,
        "dead": looking.dead,
        "redrive": changing.redrive,
        "purge": changing.purge,
        "seek": changing.seek,
        "pause": changing.pause,
        "resume": changing.resume,
        "cancel": changing.cancel,
    }
    return run(commands[name], options)


def _place(text: str) -> Place:
    if text == "oldest":
        return "oldest"
    if text == "new":
        return "new"
    if text.isdecimal():
        return FromPosition(human.offset(text))
    try:
        return FromTime(human.moment(text))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected oldest, new, an offset, a time such as 2026-11-24T08:00, or a duration such as 2h"
        ) from error
