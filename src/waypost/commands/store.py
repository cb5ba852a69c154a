"""``waypost store``: backs a file up, puts it back, copies between kinds of stores, and looks for damage."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from waypost.errors import ConfigurationError

if TYPE_CHECKING:
    from waypost.commands.common import Subcommands

__all__ = ["add"]


def add(subcommands: Subcommands) -> None:
    """Add ``store`` and its subcommands to the command line."""
    parser = subcommands.add_parser(
        "store",
        help="back up, restore and check a store",
        description="Back up, restore and check a store's file.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    backup = _command(commands, "backup", "copy a store's file, while a server runs or not")
    backup.add_argument("copy", help="the copy, a file that does not exist yet")
    restore = _command(commands, "restore", "put a copy in the place of a store's file; no server may run on it")
    restore.add_argument("copy", help="the copy")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    copy = commands.add_parser(
        "copy",
        help="copy a store between an SQLite file and PostgreSQL; no server may use either of them",
        description="Copy a store between an SQLite file and PostgreSQL, all of it or nothing. "
        "No server may use either of them. Clients that come to the copy go on where they were.",
    )
    copy.add_argument("source", help="the store that is copied: a file, or a PostgreSQL URL")
    copy.add_argument("target", help="the copy: a file that does not exist yet, or the URL of a database without one")
    copy.add_argument("--json", action="store_true", help="print JSON")
    copy.set_defaults(run=_copy)
    check = _command(commands, "check", "look for damage in all of a store's file, while a server runs or not")
    check.epilog = "The exit code is 1 if there is damage."


def _command(commands: Subcommands, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.add_argument("store", help="the store's file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=partial(_run, name))
    return parser


def _run(name: str, options: argparse.Namespace) -> int:
    from waypost.storage.choose import file_of_store, is_database, shown_spec

    if is_database(options.store):
        expected = "a file; PostgreSQL's own tools copy its databases (pg_dump), and `waypost db check` looks at one"
        raise ConfigurationError("store", shown_spec(options.store), expected)
    file = file_of_store(options.store)
    if file is None:
        raise ConfigurationError("store", options.store, "a file: what is in memory is gone with its process")
    # Two names of one file must not get it two owners.
    path = Path(os.path.realpath(file))
    return {"backup": _backup, "restore": _restore, "check": _check}[name](path, options)


def _copy(options: argparse.Namespace) -> int:
    import asyncio

    from waypost.commands.output import Progress, tell

    try:
        from waypost.storage.copying.copy import copy_store
    except ImportError as error:
        expected = "asyncpg to be installed for a store on PostgreSQL: pip install waypost[postgres]"
        raise ConfigurationError("store", "postgresql:…", expected) from error
    with Progress("copying events and rows", None) as progress:
        copied = asyncio.run(copy_store(options.source, options.target, progress.reach))
    rows = ", ".join(f"{number:,} of {table}" for table, number in copied.rows.items() if number)
    namespaces = "1 namespace" if copied.journals == 1 else f"{copied.journals:,} namespaces"
    told = f"copied {namespaces} with {copied.entries:,} events and sessions"
    if rows:
        told += f"; rows: {rows}"
    tell(options, told, {"journals": copied.journals, "entries": copied.entries, "rows": copied.rows})
    return 0


def _backup(path: Path, options: argparse.Namespace) -> int:
    from waypost.commands.human import size
    from waypost.commands.output import Progress, tell
    from waypost.storage.sqlite.copies import back_up

    copy = Path(os.path.realpath(options.copy))
    with Progress("copying pages", None) as progress:
        copied = back_up(path, copy, progress.reach)
    tell(options, f"{options.copy}: {size(copied)}", {"copy": str(copy), "bytes": copied})
    return 0


def _restore(path: Path, options: argparse.Namespace) -> int:
    from waypost.commands.asking import ask
    from waypost.commands.human import size
    from waypost.commands.output import Progress, tell
    from waypost.storage.sqlite.copies import restore

    replaced = "replace" if path.exists() else "make"
    refusal = ask(f"{replaced} {options.store} with {options.copy}", yes=options.yes)
    if refusal:
        return refusal
    with Progress("copying pages", None) as progress:
        copied = restore(path, Path(os.path.realpath(options.copy)), progress.reach)
    told = f"{options.store}: {size(copied)}; all clients start anew when a server opens it"
    tell(options, told, {"store": str(path), "bytes": copied})
    return 0


def _check(path: Path, options: argparse.Namespace) -> int:
    from waypost.commands.output import Progress, tell
    from waypost.storage.sqlite.copies import check
    from waypost.text import printable

    with Progress("checking tables", None) as progress:
        problems = check(path, progress.reach)
    lines = [f"{options.store}: {printable(problem)}" for problem in problems] or [f"{options.store}: no damage"]
    tell(options, "\n".join(lines), {"store": str(path), "problems": problems})
    return 1 if problems else 0
