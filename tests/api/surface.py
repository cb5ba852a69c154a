"""The public surface as it is at run time and in the source: names, members, annotations."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args, get_origin

MODULES = tuple(import_module(name) for name in ("waypost", "waypost.sync", "waypost.testing"))

_CALLED = frozenset(
    ("__call__", "__iter__", "__next__", "__aiter__", "__anext__", "__await__", "__enter__", "__aenter__")
)
"""Special methods whose results users hold."""


def exported() -> dict[str, Any]:
    """Return everything that is public, by its full name."""
    return {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}


def public_classes() -> dict[str, type]:
    """Return the public classes, by their full names."""
    return {name: value for name, value in exported().items() if inspect.isclass(value)}


def own_bases(owner: type) -> list[type]:
    """Return a class and those of its bases that are Waypost's."""
    return [one for one in owner.__mro__ if one.__module__.startswith("waypost")]


def is_public(name: str) -> bool:
    """Tell whether users are meant to use a name."""
    return not name.startswith("_")


def public_members(owner: type) -> set[str]:
    """Return what users see on an object of a class, without an underscore: on the class and set by ``__init__``."""
    found = {name for one in own_bases(owner) for name in vars(one)}
    found |= {name for one in own_bases(owner) for name in vars(one).get("__annotations__", {})}
    found |= {attribute.name for attribute in instance_attributes(owner)}
    return {name for name in found if is_public(name)}


@dataclass(frozen=True)
class Attribute:
    """What ``__init__`` sets on an object.

    Attributes:
        name: Its name.
        annotation: Its type as the source says, ``None`` if it says nothing.
        module: The module it is set in.
    """

    name: str
    annotation: str | None
    module: str


def instance_attributes(owner: type) -> Iterator[Attribute]:
    """Give what the ``__init__`` of a class and its bases set on ``self``."""
    for one in own_bases(owner):
        function = vars(one).get("__init__")
        if not inspect.isfunction(function) or function.__module__ != one.__module__:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError):  # made by dataclass
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign):
                yield from _on_self(node.target, ast.unparse(node.annotation), one.__module__)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from _on_self(target, _annotation_of(node.value, tree), one.__module__)


def _on_self(target: ast.expr, annotation: str | None, module: str) -> Iterator[Attribute]:
    for one in target.elts if isinstance(target, ast.Tuple) else [target]:
        if isinstance(one, ast.Starred):
            one = one.value
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
            yield Attribute(one.attr, annotation, module)


def _annotation_of(value: ast.expr, function: ast.Module) -> str | None:
    """Return the type of an argument that is stored as it came."""
    definition = function.body[0]
    assert isinstance(definition, ast.FunctionDef)
    for argument in (*definition.args.args, *definition.args.kwonlyargs):
        if isinstance(value, ast.Name) and value.id == argument.arg and argument.annotation is not None:
            return ast.unparse(argument.annotation)
    return None


@dataclass(frozen=True)
class Annotation:
    """A type that the public surface names.

    Attributes:
        where: What it is the type of, such as ``"waypost.Server.of(name)"``.
        type: The type.
    """

    where: str
    type: Any


def signature_types() -> Iterator[Annotation]:
    """Give every type in the signatures and attributes of everything that is public."""
    for name, value in exported().items():
        if inspect.isclass(value):
            yield from _of_class(name, value)
        elif inspect.isfunction(value):
            yield from _of_function(name, inspect.unwrap(value))


def _of_class(name: str, owner: type) -> Iterator[Annotation]:
    for attribute in instance_attributes(owner):
        if is_public(attribute.name) and attribute.annotation is not None:
            yield Annotation(f"{name}.{attribute.name}", resolve(attribute.annotation, attribute.module))
    for one in own_bases(owner):
        for attribute_name, annotation in vars(one).get("__annotations__", {}).items():
            if is_public(attribute_name):
                yield Annotation(f"{name}.{attribute_name}", resolve(annotation, one.__module__))
        for member_name, member in vars(one).items():
            if is_public(member_name) or member_name in _CALLED or _is_made_by_users(owner, member_name):
                function = _function(member)
                if function is not None:
                    yield from _of_function(f"{name}.{member_name}", function)


def _is_made_by_users(owner: type, member_name: str) -> bool:
    """Tell whether a member is the ``__init__`` of a class whose docstring says how to call it."""
    return member_name == "__init__" and "Args:" in (owner.__doc__ or "")


def _function(member: object) -> Callable[..., Any] | None:
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    member = inspect.unwrap(member) if callable(member) else None
    return member if inspect.isfunction(member) and member.__module__.startswith("waypost") else None


def _of_function(where: str, function: Callable[..., Any]) -> Iterator[Annotation]:
    for name, annotation in function.__annotations__.items():
        yield Annotation(f"{where}({name})", resolve(annotation, function.__module__))


def resolve(annotation: Any, module: str) -> Any:
    """Turn an annotation into a type, also where its names are imported for types only."""
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, dict(_names_in(sys.modules[module])))


@cache
def _names_in(module: ModuleType) -> dict[str, Any]:
    assert module.__file__ is not None
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            origin = import_module(node.module)
            for alias in node.names:
                if not hasattr(origin, alias.name):
                    import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(origin, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported = import_module(alias.name)
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = imported if alias.asname else sys.modules[first]
    return {**found, **vars(module)}


def classes_in(annotation: Any) -> Iterator[type]:
    """Give the classes that a type is made of."""
    if isinstance(annotation, list | tuple):
        for one in annotation:
            yield from classes_in(one)
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return
    if isinstance(annotation, TypeVar) and annotation.__bound__ is not None:
        yield from classes_in(annotation.__bound__)
    if isinstance(origin, type):
        yield origin
    elif isinstance(annotation, type):
        yield annotation
    yield from classes_in(arguments)


def raised_names(text: str) -> Iterator[str]:
    """Give the names of the errors that a docstring's "Raises:" lists."""
    lines = iter(inspect.cleandoc(text).splitlines())
    for line in lines:
        if line.strip() == "Raises:":
            depth = len(line) - len(line.lstrip()) + 4
            for entry in lines:
                if entry.strip() and len(entry) - len(entry.lstrip()) < depth:
                    break
                name, colon, _ = entry.strip().partition(":")
                if colon and name.isidentifier() and len(entry) - len(entry.lstrip()) == depth:
                    yield name


def docstrings() -> Iterator[tuple[str, str]]:
    """Give every docstring of the public surface, and what it is of."""
    for name, value in exported().items():
        if inspect.isfunction(value):
            yield name, value.__doc__ or ""
        elif inspect.isclass(value):
            yield name, value.__doc__ or ""
            for one in own_bases(value):
                for member_name, member in vars(one).items():
                    if is_public(member_name) and (function := _function(member)) is not None:
                        yield f"{name}.{member_name}", function.__doc__ or ""
