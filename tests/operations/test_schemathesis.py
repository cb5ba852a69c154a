"""The running API against docs/openapi.json, by Schemathesis: requests that fit and requests that don't."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.operations.places import SECRET, key
from tests.support.require import skip_or_fail
from waypost.testing import serve_in_thread

DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi.json"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
"""All but those that expect each request that fits the types to succeed: a name may be reserved, or be nobody's."""


def judge(folder: Path, phases: str, examples: int) -> None:
    """Run it. The seed is the same each time: another one may find something new, and is for people."""
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        skip_or_fail("schemathesis is not installed; run `make test`")
    io = waypost.Server()
    api = io.api(keys=[key(requests_per_s=1_000_000)])

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        # Starlette's Mount knows no path with a line's end in it, and answers itself.
        if scope["type"] == "http":
            scope = {**scope, "root_path": "/api"}
        await api(scope, receive, send)

    with serve_in_thread(io.asgi(mounted)) as site:
        arguments = [
            *("--no-color", "run", str(DESCRIPTION), "--url", f"{site.url}/api"),
            *("-H", f"Authorization: Bearer {SECRET}", "--checks", ",".join(CHECKS)),
            *("--phases", phases, "--max-examples", str(examples), "--seed", "1", "--continue-on-failure"),
            *("--suppress-health-check", "all", "--request-timeout", "60", "--generation-database", "none"),
        ]
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, cwd=folder, timeout=1200, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(1260)
def test_a_few_requests_for_each_operation(tmp_path: Path) -> None:
    judge(tmp_path, "fuzzing", 2)


@pytest.mark.long
@pytest.mark.timeout(1260)
def test_many_requests_for_each_operation(tmp_path: Path) -> None:
    judge(tmp_path, "coverage,fuzzing", 40)
