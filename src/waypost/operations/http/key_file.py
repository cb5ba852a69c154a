"""Reads keys from a TOML file, and again when the file has changed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from waypost.errors import ConfigurationError
from waypost.logs import get_logger
from waypost.operations.http.api_keys import ApiKey
from waypost.operations.http.problems import Problem

__all__ = ["KeyFile", "KnownKeys"]

logger = get_logger("waypost.operations")


class KnownKeys:
    """Keys that do not change.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    def keys(self) -> Sequence[ApiKey]:
        """Return the keys."""
        return self._keys


class KeyFile:
    """A file of keys: ``shop = {sha256 = "…", scopes = ["emit"]}``, a line each.

    Args:
        path: The file.
        may_come_later: Whether a file that can't be read, or has a wrong line, is only logged. Nobody gets in until
            it is mended.

    Raises:
        ConfigurationError: It can't be read, or a line is no key, and it may not come later.
    """

    def __init__(self, path: str | PathLike[str], *, may_come_later: bool = False) -> None:
        self._path = os.fspath(path)
        self._mark = self._look()
        self._keys: tuple[ApiKey, ...] | None = None
        try:
            self._keys = self._read()
        except ConfigurationError as error:
            if not may_come_later:
                raise
            logger.error("the HTTP API lets nobody in until its keys can be read: %s", error)

    def keys(self) -> Sequence[ApiKey]:
        """Return the keys that the file has now.

        If the file has become wrong, or was removed, that is logged once, and the keys of before stay valid.

        Raises:
            Problem: The file could never be read.
        """
        mark = self._look()
        if mark != self._mark:
            self._mark = mark
            try:
                self._keys = self._read()
            except ConfigurationError as error:
                kept = "nobody gets in" if self._keys is None else "the keys of before stay valid"
                logger.error("%s: %s", kept, error)
            else:
                logger.info("read %d keys from %s, which has changed", len(self._keys), self._path)
        if self._keys is None:
            raise Problem(
                503, "keys_unreadable", "the service can't read its keys; its log says why", retry_after_s=5
            )
        return self._keys

    def _look(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._path)
        except OSError:  # what is wrong with it, `_read` says
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[ApiKey, ...]:
        try:
            with open(self._path, "rb") as file:
                lines: Mapping[str, Any] = tomllib.load(file)
        except OSError as error:
            raise ConfigurationError("keys", self._path, f"a file that can be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            expected = f'lines such as shop = {{sha256 = "…", scopes = ["emit"]}} ({error})'
            raise ConfigurationError("keys", self._path, expected) from error
        return tuple(self._key(name, line) for name, line in lines.items())

    def _key(self, name: str, line: object) -> ApiKey:
        if not isinstance(line, dict) or not line.keys() >= {"sha256", "scopes"}:
            expected = f'{name} = {{sha256 = "…", scopes = ["emit"]}}'
            raise ConfigurationError("keys", self._path, expected)
        return ApiKey(**{**line, "name": name})
