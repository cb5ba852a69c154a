"""The terminal version of the demo, as a user runs it."""

from __future__ import annotations

import asyncio
import os
import signal
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


@pytest.mark.timeout(300)
async def test_every_parcel_arrives_through_two_servers_on_one_database(postgres_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "waypost",
        "demo",
        "--store",
        postgres_url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(250):
        output, problems = await process.communicate()
    story = output.decode()
    assert process.returncode == 0, story
    assert "server 2 process" in story
    assert story.count("kill -9") == 2
    assert story.count("recovered: True") == 2
    assert "Every parcel arrived once and in order" in story
    assert b"Traceback" not in problems


@pytest.mark.timeout(100)
async def test_ctrl_c_ends_it_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "waypost",
        "demo",
        "--headless",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    async with asyncio.timeout(90):
        while b"sends a parcel" not in (line := await process.stdout.readline()):
            assert line, "the story ended"
        os.killpg(process.pid, signal.SIGINT)
        story, problems = await process.communicate()
    assert process.returncode == 130
    assert "Stopped before its end" in story.decode()
    assert problems == b""
