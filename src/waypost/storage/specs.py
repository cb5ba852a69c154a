"""The texts that name stores: files, memory, databases."""

from __future__ import annotations

import re
from os import PathLike, fspath
from os.path import realpath

from waypost.checking.arguments import check
from waypost.checking.constraints import FilePath
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.storage.database_address import SCHEMES, parse_address

__all__ = ["check_store", "file_of_store", "is_database", "shown_spec", "whole_spec"]

_EXPECTED = (
    'a file\'s path, "sqlite:" and a file\'s path, "memory:", or "postgresql://user@host/database" and the like'
)

_FILE = rule_of(FilePath)

# One letter is a drive of Windows and not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)


def whole_spec(spec: str | PathLike[str]) -> str:
    """Return the text that names a store from everywhere.

    That is ``"memory:"``, ``sqlite:`` and the file's whole path, or the URL of a database, with its password.

    Args:
        spec: A text that names a store; a `pathlib.Path` is always a file's.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        check_store(spec)
        return fspath(spec)
    path = file_of_store(spec)
    return "memory:" if path is None else f"sqlite:{realpath(path)}"


def shown_spec(spec: str | PathLike[str]) -> str:
    """Return the text that names a store, for people: without a password.

    Raises:
        ConfigurationError: The text names no store.
    """
    return parse_address(fspath(spec)).shown if is_database(spec) else whole_spec(spec)


def is_database(spec: str | PathLike[str]) -> bool:
    """Return whether a text is the URL of a database: each process opens it by itself, as a node of one service."""
    return isinstance(spec, str) and spec.partition(":")[0].lower() in SCHEMES


def check_store(spec: str | PathLike[str]) -> None:
    """Check a text that names a store; see `make_store`.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        parse_address(fspath(spec))
    else:
        file_of_store(spec)


def file_of_store(spec: str | PathLike[str]) -> str | None:
    """Return the path of the file that a text names, ``None`` for a store that is no file.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        check_store(spec)
        return None
    if not isinstance(spec, str):
        check("store", spec, _FILE)
        return fspath(spec)
    scheme, path = "sqlite", spec
    if found := _SCHEME.fullmatch(spec):
        scheme, path = found[1].lower(), found[2]
    if scheme == "memory" and not path:
        return None
    # "sqlite://x" means different files to different programs; ":memory:" is SQLite's word for "memory:".
    if scheme != "sqlite" or not path or path.startswith("//") or path == ":memory:":
        # The rest of a URL may hold a password.
        raise ConfigurationError("store", f"{found[1]}:…" if found else spec, _EXPECTED)
    return path
