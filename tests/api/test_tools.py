"""Type checkers and editors see the public classes as they are at run time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest

from tests.api.surface import MODULES, public_classes, public_members
from tests.api.tools import (
    Program,
    has_docstring_in_jedi,
    names_by_jedi,
    names_in_module_by_jedi,
    types_by_mypy,
    types_by_pyright,
)

# How the members of these look is Python's own matter.
NOT_LOOKED_AT = (dict, Enum, BaseException)
CLASSES = {
    f"{name}[object]" if getattr(owner, "__parameters__", ()) else name: owner
    for name, owner in public_classes().items()
    if not issubclass(owner, NOT_LOOKED_AT)
}
MEMBERS = {name: public_members(owner) for name, owner in CLASSES.items()}
METHODS = {
    f"{name}.{member}"
    for name, owner in CLASSES.items()
    for member in MEMBERS[name]
    if inspect.isfunction(getattr(owner, member, None))
}


def all_members() -> set[str]:
    return {f"{owner}.{name}" for owner, names in MEMBERS.items() for name in names}


def of_other_bases(owner: type) -> set[str]:
    """Return the names that come from classes that are not Waypost's."""
    return {name for one in owner.__mro__ if not one.__module__.startswith("waypost") for name in dir(one)}


def vague(types: dict[str, str]) -> Iterator[str]:
    """Give the methods of whose signature a tool knows nothing."""
    for name, found in types.items():
        if "Unknown" in found or (name in METHODS and found == "Any"):
            yield f"{name}: {found}"


def test_there_is_something_to_look_at() -> None:
    assert {"waypost.Server.emit", "waypost.Socket.call", "waypost.sync.Client.emit"} <= METHODS
    assert len(all_members()) > 300


def test_mypy_sees_every_member(tmp_path: Path) -> None:
    types = types_by_mypy(Program(MEMBERS), tmp_path)
    assert all_members() - types.keys() == set()
    assert list(vague(types)) == []


@pytest.mark.node
def test_pyright_sees_every_member(tmp_path: Path) -> None:
    types = types_by_pyright(Program(MEMBERS), tmp_path)
    assert all_members() - types.keys() == set()
    assert list(vague(types)) == []


@pytest.mark.parametrize("owner", CLASSES)
def test_jedi_offers_every_member_and_no_other(owner: str) -> None:
    assert names_by_jedi(owner) - of_other_bases(CLASSES[owner]) == MEMBERS[owner] - of_other_bases(CLASSES[owner])


@pytest.mark.parametrize("name", ["waypost.Server.emit", "waypost.Namespace.to", "waypost.sync.Client.call"])
def test_jedi_finds_docstrings(name: str) -> None:
    owner, _, member = name.rpartition(".")
    assert has_docstring_in_jedi(owner, member)


@pytest.mark.parametrize("module", [module.__name__ for module in MODULES])
def test_jedi_offers_every_name_of_a_module(module: str) -> None:
    found = next(one for one in MODULES if one.__name__ == module)
    assert set(found.__all__) <= names_in_module_by_jedi(module)
