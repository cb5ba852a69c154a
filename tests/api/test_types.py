"""Every type that the public surface takes, returns or raises is public."""

from __future__ import annotations

import builtins

import waypost
import waypost.errors
from tests.api.surface import classes_in, docstrings, exported, raised_names, signature_types


def test_every_type_in_a_signature_is_exported() -> None:
    public = {id(value) for value in exported().values()}
    walked = 0
    hidden: dict[str, str] = {}
    for annotation in signature_types():
        walked += 1
        for one in classes_in(annotation.type):
            if one.__module__.startswith("waypost") and id(one) not in public:
                hidden[f"{one.__module__}.{one.__qualname__}"] = annotation.where
    assert walked > 500
    assert hidden == {}


def test_every_error_in_a_docstring_is_exported() -> None:
    walked = 0
    hidden: dict[str, str] = {}
    for where, text in docstrings():
        for name in raised_names(text):
            walked += 1
            if name not in waypost.__all__ and not hasattr(builtins, name):
                hidden[name] = where
    assert walked > 100
    assert hidden == {}


def test_every_error_is_exported() -> None:
    errors = {name for name in waypost.errors.__all__ if isinstance(getattr(waypost.errors, name), type)}
    assert errors <= set(waypost.__all__)


def test_everything_public_has_a_docstring() -> None:
    assert [where for where, text in docstrings() if not text] == []
