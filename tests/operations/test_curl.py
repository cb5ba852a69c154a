"""Each example of docs/http-api.md, run by a real curl against a server that runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import waypost
from tests.operations.places import SECRET, key
from waypost.operations.http_api.application import OPERATIONS
from waypost.testing import serve_in_thread

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_each_example_works() -> None:
    io = waypost.Server()

    async def prepare() -> None:
        await io.queue("mails").get_consumer().create()

    app = io.asgi(Starlette(routes=[Mount("/api", io.api(keys=[key()]))]))
    with serve_in_thread(app) as site:
        site.run(prepare())
        environment = {**os.environ, "API": f"{site.url}/api", "KEY": SECRET, "no_proxy": "*"}
        for example in EXAMPLES:
            command = f"{example.rstrip()} --fail-with-body --max-time 60"
            done = subprocess.run(
                ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=70, check=False
            )
            assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"
            assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize(("method", "path"), [(one[0], one[1]) for one in OPERATIONS])
def test_each_operation_has_an_example(method: str, path: str) -> None:
    url = re.escape(f"$API{path.replace('{queue}', 'mails')}") + r'["?]'
    matching = [one for one in EXAMPLES if re.search(url, one)]
    methods = {"DELETE" if "-X DELETE" in one else "POST" if " -d " in one else "GET" for one in matching}
    assert method in methods


def test_each_code_of_an_error_is_on_the_page() -> None:
    folder = Path(waypost.__file__).parent / "operations"
    sources = "".join(path.read_text() for path in folder.rglob("*.py"))
    codes = set(re.findall(r'(?:Problem|_unknown)\(\s*(?:\w+,\s*)?"([a-z_]+)"', sources))
    assert len(codes) > 15
    table = PAGE.read_text().partition("## Errors")[2]
    assert {code for code in codes if f"`{code}`" not in table} == set()
