"""The terminal version of the demo, as a user runs it."""

from __future__ import annotations

import asyncio
import sys

import pytest

pytestmark = pytest.mark.long


@pytest.mark.timeout(100)
async def test_every_parcel_arrives() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "waypost",
        "demo",
        "--headless",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(90):
        output, _ = await process.communicate()
    story = output.decode()
    assert process.returncode == 0, story
    assert story.count("kill -9") == 2
    assert story.count("recovered: True") == 2
    assert "Every parcel arrived once and in order" in story
    assert "Traceback" not in story
