"""Calls the application's functions that decide on origins: one that raises admits nobody, and is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waypost.protocol.allowed_origins import Allowed, OriginRule
from waypost.server.calling.faults import fault
from waypost.server.watching.hooks import Hooks, report_failure

__all__ = ["guard_rules"]

_OPTION = "cors_allowed_origins"


def guard_rules(allowed: Allowed, hooks: Hooks) -> Allowed:
    """Return the rules of the option ``cors_allowed_origins``, with functions that never raise.

    Args:
        allowed: The option's value.
        hooks: The observers of exceptions.
    """
    if isinstance(allowed, Sequence) and not isinstance(allowed, str):
        return [_guarded(rule, hooks) for rule in allowed]
    return _guarded(allowed, hooks) if callable(allowed) else allowed


def _guarded(rule: OriginRule, hooks: Hooks) -> OriginRule:
    return _ask(rule, hooks) if callable(rule) else rule


def _ask(function: Callable[[str], bool], hooks: Hooks) -> Callable[[str], bool]:
    def ask(origin: str) -> bool:
        try:
            return bool(function(origin))
        except BaseException as error:  # noqa: BLE001  # reported; without an answer the page is not admitted
            report_failure(hooks, _OPTION, "", "", fault(error))
            return False

    return ask
