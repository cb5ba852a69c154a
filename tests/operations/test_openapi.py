"""docs/openapi.json describes the API as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import waypost
from tests.operations.places import serving
from waypost.operations.http_api.answers import QueueNumbers
from waypost.operations.http_api.application import OPERATIONS, describe_api
from waypost.server.queues.queue_info import QueueInfo

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_file_is_what_the_types_say() -> None:
    """After a change: ``make openapi``."""
    assert FILE.read_bytes() == describe_api(), "docs/openapi.json is out of date: run `make openapi`"


async def test_the_api_serves_it() -> None:
    async with serving(waypost.Server()) as place:
        assert await place.ask("GET", "/openapi.json") == (200, json.loads(FILE.read_bytes()))
        assert (await place.ask("GET", "/openapi.json", secret=None))[0] == 401


@pytest.mark.parametrize(("method", "path"), [(one.method, one.path) for one in OPERATIONS])
def test_each_operation_says_what_it_is(method: str, path: str) -> None:
    described = json.loads(FILE.read_bytes())
    operation = described["paths"][path][method.lower()]
    assert operation["summary"]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]
    for one in references(operation):
        kind, name = one.removeprefix("#/components/").split("/")
        assert described["components"][kind][name]


def test_each_member_has_a_sentence() -> None:
    schemas = json.loads(FILE.read_bytes())["components"]["schemas"]
    without = [
        f"{name}.{member}"
        for name, schema in schemas.items()
        for member, described in schema.get("properties", {}).items()
        if not described.get("description")
    ]
    assert without == []
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_an_answer_has_all_numbers_of_a_queue() -> None:
    assert QueueNumbers.__struct_fields__ == QueueInfo._fields
    assert get_type_hints(QueueNumbers) == get_type_hints(QueueInfo)


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for one in value.values() for found in references(one)]
    return []
