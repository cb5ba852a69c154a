"""Asks the user to confirm what can't be undone."""

from __future__ import annotations

import sys

__all__ = ["ask"]


def ask(question: str, *, yes: bool) -> int:
    """Ask the user to confirm an action that can't be undone.

    Args:
        question: The action, as a sentence without its question mark.
        yes: Whether the user has confirmed it already.

    Returns:
        0 if the command may continue, else its exit code.
    """
    if yes:
        return 0
    if not sys.stdin.isatty():
        told = f"can't ask whether to {question}, because stdin is no terminal: add --yes to confirm"
        print(f"waypost: {told}", file=sys.stderr)
        return 2
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return 0
    print("nothing was changed", file=sys.stderr)
    return 1
