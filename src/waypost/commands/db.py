"""``waypost db``: the schema of a store on PostgreSQL."""

from __future__ import annotations

import argparse
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from waypost.errors import ConfigurationError

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]

_T = TypeVar("_T")

_PURPOSES = {
    "migrate": "make the schema in a database, or bring it to this version; servers may run",
    "check": "tell whether a server could start on it, and which ones use it",
    "drop": "remove the schema with all that is in it",
    "restored": "say that the database was restored from a copy, before servers start on it: all clients start anew",
    "adopt": "say that the database has moved to another server, or was upgraded, and has lost nothing",
}


def add(subcommands: Subcommands) -> None:
    """Add ``db`` and its subcommands to the command line."""
    parser = subcommands.add_parser(
        "db",
        help="make, check and remove the schema of a store on PostgreSQL",
        description='Work on the schema "waypost" of a store on PostgreSQL.',
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    made = {name: _command(commands, name, purpose) for name, purpose in _PURPOSES.items()}
    made["migrate"].add_argument(
        "--grant", metavar="ROLE", help="let this role of the database emit and publish, and do nothing else"
    )
    made["check"].epilog = "The exit code is 1 if a server could not start on it."
    for name in ("drop", "restored"):
        made[name].add_argument("--yes", action="store_true", help="do not ask")


def _command(commands: Subcommands, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.add_argument("store", help='the store: "postgresql://user@host:5432/database"')
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=partial(_run, name))
    return parser


def _run(name: str, options: argparse.Namespace) -> int:
    from waypost.storage.database_address import EXPECTED_ADDRESS, SCHEMES, parse_address

    if options.store.partition(":")[0] not in SCHEMES:
        raise ConfigurationError("store", options.store, EXPECTED_ADDRESS)
    shown = parse_address(options.store).shown
    try:
        from waypost.storage.postgres import administration  # noqa: F401 - whether asyncpg is there
    except ImportError as error:
        raise ConfigurationError("store", shown, "asyncpg to be installed: pip install waypost[postgres]") from error
    commands = {"migrate": _migrate, "check": _check, "drop": _drop, "restored": _restored, "adopt": _adopt}
    return commands[name](shown, options)


def _wait(doing: str, work: Coroutine[Any, Any, _T]) -> _T:
    # Not at the top: no other command should wait for these imports.
    import asyncio

    from waypost.commands.output import waiting

    return asyncio.run(waiting(doing, work))


def _migrate(shown: str, options: argparse.Namespace) -> int:
    from waypost.commands.output import tell
    from waypost.storage.postgres.administration import migrate_schema

    before, now = _wait("bringing the schema to this version", migrate_schema(options.store, options.grant))
    told = f"{shown}: the schema is of version {now}"
    if not before:
        told = f"{shown}: made the schema, of version {now}"
    elif before < now:
        told = f"{shown}: brought the schema from version {before} to {now}"
    if options.grant:
        told += f"; role {options.grant} may emit and publish"
    tell(options, told, {"store": shown, "before": before, "version": now, "granted": options.grant})
    return 0


def _check(shown: str, options: argparse.Namespace) -> int:
    from waypost.commands.output import tell
    from waypost.storage.postgres.administration import check
    from waypost.text import printable

    found = _wait("checking the schema", check(options.store))
    lines = [*found.problems] or [f"the schema is of version {found.version}, which this Waypost can use"]
    if found.version:
        number = "1 server uses" if len(found.servers) == 1 else f"{len(found.servers)} servers use"
        lines.append(f"{number} it: {', '.join(found.servers)}" if found.servers else "no server uses it")
    if found.aside:
        lines.append(f"{found.aside} writes of other programs could not be done: see the table waypost.outbox_bad")
    result = {
        "store": shown,
        "version": found.version,
        "expected": found.expected,
        "problems": [*found.problems],
        "servers": [*found.servers],
        "aside": found.aside,
    }
    tell(options, "\n".join(f"{shown}: {printable(line)}" for line in lines), result)
    return 1 if found.problems else 0


def _drop(shown: str, options: argparse.Namespace) -> int:
    from waypost.commands.asking import ask
    from waypost.commands.output import tell
    from waypost.storage.postgres.administration import drop

    if refusal := ask(f'remove the schema "waypost" from {shown}, with all that is in it', yes=options.yes):
        return refusal
    _wait("removing the schema", drop(options.store))
    tell(options, f"{shown}: the schema is gone", {"store": shown})
    return 0


def _restored(shown: str, options: argparse.Namespace) -> int:
    from waypost.commands.asking import ask
    from waypost.commands.output import tell
    from waypost.storage.postgres.administration import mark_restored

    if refusal := ask(f"end all sessions in {shown}, so that all clients start anew", yes=options.yes):
        return refusal
    _wait("ending sessions", mark_restored(options.store))
    tell(options, f"{shown}: noted; all clients start anew", {"store": shown})
    return 0


def _adopt(shown: str, options: argparse.Namespace) -> int:
    from waypost.commands.output import tell
    from waypost.storage.postgres.administration import adopt

    _wait("adopting the database", adopt(options.store))
    tell(options, f"{shown}: noted; sessions go on", {"store": shown})
    return 0
