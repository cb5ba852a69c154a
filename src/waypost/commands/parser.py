"""The parser of the command line; suggests the known option or command for a misspelt one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from waypost.checking.arguments import nearest

__all__ = ["CommandParser"]

_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from ([^)]*)\)")
_WORD = re.compile(r"[\w-]+")
_OPTION = re.compile(r"--[a-z][a-z-]*")


class CommandParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` for a command and, since subparsers have their parent's class, its subcommands.

    A command that takes unknown words sets the default ``take_more``, which is called with them.
    """

    def parse_known_args(  # type: ignore[override]  # the overloads of the base class differ in the namespace only
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the command line; exit with 2 for an option that the command does not have.

        Args:
            args: The words; ``None`` for those of this process.
            namespace: The object to take the values; ``None`` for a new one.

        Returns:
            The values, and the words left over.
        """
        options, more = super().parse_known_args(args, namespace)
        if more and not hasattr(options, "take_more"):
            known = _OPTION.findall(self.format_help())
            meant = [found for word in more if word.startswith("--") and (found := nearest(word, known))]
            told = f"unrecognized arguments: {' '.join(more)}"
            self.error(f"{told}; did you mean {meant[0]}?" if meant else told)
        return options, more

    def error(self, message: str) -> NoReturn:
        """Print the command's usage and the error; exit with 2.

        Args:
            message: The error.
        """
        if found := _INVALID_CHOICE.search(message):
            meant = nearest(found[1], _WORD.findall(found[2]))
            message += f"; did you mean {meant}?" if meant else ""
        super().error(message)
