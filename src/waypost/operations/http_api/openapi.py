"""The description of the HTTP API, made from the types of its requests and answers.

Source: OpenAPI Specification 3.1.1.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from waypost.operations.http_api.answers import Problem, Published
from waypost.operations.http_api.bodies import MOST_ID_CHARACTERS

__all__ = ["Described", "document"]

_REFERENCE: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_ATTRIBUTE: Final = re.compile(r"^ {4}(\w+): ((?:.|\n {8})+)", re.MULTILINE)
_ABOUT: Final = (
    "Programs in any language emit to the clients of a Waypost service, fill its queues, and look at them. Each "
    "request has a key as `Authorization: Bearer KEY`; errors are application/problem+json with a stable code."
)
_REFUSALS: Final = {
    "400": "The request can't be read.",
    "401": "It has no key that is known.",
    "403": "The key may not do this, or not with that name.",
    "404": "There is no such path, namespace or consumer.",
    "422": "A member or a value does not fit.",
    "429": "The key has made too many requests.",
    "503": "The store did not take it, or does not know whether it did.",
}
_REFUSALS_OF_BODIES: Final = {
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
}


class Described(NamedTuple):
    """An operation.

    Attributes:
        method: The method.
        path: The path.
        name: A unique name.
        summary: What it does.
        scope: What the key must be for; ``None`` if each key may do it.
        answer: The type of its answer; ``None`` for a JSON document.
        body: The type of the request's body; ``None`` without one.
        query: The type of the query; ``None`` without one.
        takes_id: Whether an ``Idempotency-Key`` counts.
    """

    method: str
    path: str
    name: str
    summary: str
    scope: str | None
    answer: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    takes_id: bool


def document(operations: Sequence[Described]) -> dict[str, Any]:
    """Return the description of an API as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Waypost HTTP API", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/api"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": _shared_responses(),
            "schemas": _schemas(operations),
        },
    }


def _operation(one: Described) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"The key needs the scope `{one.scope}`." if one.scope else "Each key may do this.",
        "parameters": [*_path_parameters(one.path), *_query_parameters(one.query), *_id_parameters(one)],
    }
    if one.body is not None:
        is_needed = bool(_required(one.body))
        described["requestBody"] = {"required": is_needed, "content": {_JSON: {"schema": _reference(one.body)}}}
    described["responses"] = _responses(one)
    return described


def _responses(one: Described) -> dict[str, Any]:
    schema = {"type": "object"} if one.answer is None else _reference(one.answer)
    answers: dict[str, Any] = {"200": {"description": "It was done.", "content": {_JSON: {"schema": schema}}}}
    if one.answer is Published:
        answers["200"]["description"] = "The queue had accepted that id before."
        answers["201"] = {"description": "The message is stored.", "content": {_JSON: {"schema": schema}}}
    refusals = _REFUSALS | (_REFUSALS_OF_BODIES if one.body is not None else {})
    return answers | {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(refusals)}


def _shared_responses() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _reference(Problem)}}
    refusals = _REFUSALS | _REFUSALS_OF_BODIES
    shared: dict[str, Any] = {
        status: {"description": why, "content": content} for status, why in sorted(refusals.items())
    }
    for status in ("429", "503"):
        shared[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return shared


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(query: type[msgspec.Struct] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    (_, components) = msgspec.json.schema_components((query,))
    described = _with_sentences(components[query.__name__], query)
    return [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": _one_type(schema)}
        for name, schema in described["properties"].items()
    ]


def _one_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field of a query, in which nothing stands for null."""
    types = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return types[0] if types else schema


def _id_parameters(one: Described) -> list[dict[str, Any]]:
    if not one.takes_id:
        return []
    about = "The id of the request, instead of `id` in the body: repeat a request with the same one."
    schema = {"type": "string", "minLength": 1, "maxLength": MOST_ID_CHARACTERS, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    return [{"name": "Idempotency-Key", "in": "header", "description": about, "schema": schema}]


def _schemas(operations: Sequence[Described]) -> dict[str, Any]:
    roots = [kind for one in operations for kind in (one.answer, one.body) if kind is not None]
    _, components = msgspec.json.schema_components((*roots, Problem), ref_template=_REFERENCE)
    kinds = {kind.__name__: kind for kind in _all_kinds(roots)} | {"Problem": Problem}
    return {name: _with_sentences(schema, kinds.get(name)) for name, schema in sorted(components.items())}


def _all_kinds(roots: Sequence[type]) -> list[type]:
    """Return the types of objects that types are made of."""
    found: dict[type, None] = {}
    waiting: list[Any] = [msgspec.inspect.type_info(one) for one in roots]
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
            if info.cls in found:
                continue
            found[info.cls] = None
            waiting += [field.type for field in info.fields]
        for name in ("types", "item_type", "type", "value_type"):
            inner = getattr(info, name, ())
            waiting += inner if isinstance(inner, tuple) else [inner]
    return [*found]


def _with_sentences(schema: dict[str, Any], kind: type | None) -> dict[str, Any]:
    """Return a schema whose descriptions are those of the type's docstring."""
    text = inspect.cleandoc((kind.__doc__ or "") if kind is not None else "")
    about, _, attributes = text.partition("\n\nAttributes:\n")
    sentences = {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(attributes)}
    described = {**schema, "description": " ".join(about.split())}
    described["properties"] = {
        name: _sentence(one, sentences.get(name) or sentences.get(f"{name}_"))
        for name, one in schema.get("properties", {}).items()
    }
    return described


def _sentence(schema: Mapping[str, Any], sentence: str | None) -> dict[str, Any]:
    if sentence is None:
        return {**schema}
    plain = sentence.replace("``None``", "null").replace("``", "`")
    return {**schema, "description": plain}


def _reference(kind: type) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def _required(kind: type[msgspec.Struct]) -> list[str]:
    return [one.name for one in msgspec.structs.fields(kind) if one.required]
