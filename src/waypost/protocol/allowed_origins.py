"""The foreign origins whose pages may connect, as an application lists them.

A rule is an origin (``https://app.example.com``), an origin with a wildcard for its subdomains
(``https://*.example.com``) or its port (``http://localhost:*``), ``null``, a compiled pattern, or a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from waypost.protocol.origins import Origin, parse_origin

__all__ = ["NO_SITE", "Allowed", "AllowedOrigins", "OriginRule", "is_rule", "suggest_rules"]

OriginRule: TypeAlias = str | re.Pattern[str] | Callable[[str], bool]
"""One rule, as an application writes it."""

Allowed: TypeAlias = Literal["*"] | OriginRule | Iterable[OriginRule] | None
"""All rules: ``None`` for no foreign origin, ``"*"`` for all origins."""

NO_SITE = "null"
"""The origin of pages without a site, such as local files and sandboxed frames."""

_ANY_LABEL = "*."
_ANY_PORT = ":*"
_STAND_IN = ":1"


class AllowedOrigins:
    """Decides by the application's rules.

    Args:
        allowed: The rules.

    Attributes:
        is_none: Whether no foreign origin is allowed.
        is_any: Whether all origins are.
    """

    __slots__ = ("_exact", "_functions", "_patterns", "_ports", "_subdomains", "is_any", "is_none")

    def __init__(self, allowed: Allowed) -> None:
        self.is_none = allowed is None
        self.is_any = allowed == "*"
        self._exact: set[Origin | str] = set()
        self._ports: set[tuple[str, str]] = set()
        self._subdomains: list[tuple[str, str, int | None, bool]] = []
        self._patterns: list[re.Pattern[str]] = []
        self._functions: list[Callable[[str], bool]] = []
        if not (self.is_none or self.is_any):
            for rule in _each(allowed):
                self._add(rule)

    def _add(self, rule: OriginRule) -> None:
        if isinstance(rule, re.Pattern):
            self._patterns.append(rule)
        elif not isinstance(rule, str):
            self._functions.append(rule)
        elif rule == NO_SITE:
            self._exact.add(rule)
        elif (parsed := _parse(rule)) is not None:
            (scheme, host, port), any_label, any_port = parsed
            if any_label:
                self._subdomains.append((scheme, "." + host, port, any_port))
            elif any_port:
                self._ports.add((scheme, host))
            else:
                self._exact.add((scheme, host, port))

    def admits(self, text: str) -> bool:
        """Return whether pages of an origin may connect.

        Args:
            text: The request's ``Origin`` header, as it came.
        """
        if self.is_any or self.is_none:
            return self.is_any
        origin = parse_origin(text)
        if origin is None:
            is_listed = text in self._exact
        else:
            scheme, host, port = origin
            is_listed = (
                origin in self._exact
                or (scheme, host) in self._ports
                or any(
                    scheme == its_scheme and host.endswith(tail) and host != tail and (any_port or port == its_port)
                    for its_scheme, tail, its_port, any_port in self._subdomains
                )
            )
        # A pattern matches the whole origin: one that is found somewhere in it would admit too many.
        return (
            is_listed
            or any(pattern.fullmatch(text) for pattern in self._patterns)
            or any(function(text) for function in self._functions)
        )


def is_rule(value: object) -> bool:
    """Return whether text is an origin, one with a wildcard, or ``null``."""
    return isinstance(value, str) and (value == NO_SITE or _parse(value) is not None)


def suggest_rules(value: object) -> str | None:
    """Return what was probably meant by rules that are refused: without path and control characters, as a list.

    Args:
        value: The option's value.

    Returns:
        The option's value as one writes it; ``None`` if nothing is close.
    """
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple | set) else []
    if texts == ["*"]:
        return '"*"'
    mended = [_mend(text) for text in texts if isinstance(text, str)]
    if len(mended) != len(texts) or not all(map(is_rule, mended)):
        return None
    return "[" + ", ".join(f'"{text}"' for text in mended) + "]" if mended else None


def _mend(text: str) -> str:
    text = "".join(character for character in text if character.isprintable()).strip()
    scheme, mark, rest = text.partition("://")
    return scheme + mark + re.split(r"[/?#]", rest, maxsplit=1)[0] if mark else f"https://{text.strip('/')}"


def _each(allowed: object) -> list[OriginRule]:
    is_one = isinstance(allowed, str | re.Pattern) or callable(allowed)
    return [allowed] if is_one else list(allowed)  # type: ignore[list-item, call-overload]  # told apart just above


def _parse(rule: str) -> tuple[Origin, bool, bool] | None:
    """Split a rule into its origin without wildcards, and whether any subdomain and any port is meant."""
    any_port = rule.endswith(_ANY_PORT)
    scheme, mark, rest = (rule.removesuffix(_ANY_PORT) + _STAND_IN if any_port else rule).partition("://")
    any_label = rest.startswith(_ANY_LABEL)
    rest = rest.removeprefix(_ANY_LABEL)
    origin = None if "*" in rest else parse_origin(scheme + mark + rest)
    # A public suffix alone, such as *.com, would admit everybody.
    if origin is None or (any_label and "." not in rest):
        return None
    return origin, any_label, any_port
