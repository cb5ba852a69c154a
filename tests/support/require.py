"""What a test needs from the machine: skipped without it on a desk, failed without it on CI."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

JS_DIR = Path(__file__).parent.parent / "interop" / "js"
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def skip_or_fail(reason: str) -> None:
    """End the test: CI promises to have everything, so there a missing tool is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def require_node() -> str:
    """Return the path of Node.js, once the packages of tests/interop/js are there, too."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed")
    if not (JS_DIR / "node_modules" / "socket.io-client").is_dir():
        skip_or_fail("the packages of tests/interop/js are not installed; run `make test`")
    assert node is not None
    return node


def require_chromium() -> str:
    """Return the path of Chromium."""
    for name in _CHROMIUM_NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    skip_or_fail("Chromium is not installed")
    raise AssertionError


def require_openssl() -> str:
    """Return the path of the command that makes certificates."""
    path = shutil.which("openssl")
    if path is None:
        skip_or_fail("openssl is not installed")
    assert path is not None
    return path


def require_program(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name)
    if path is None:
        skip_or_fail(f"{name} is not installed")
    assert path is not None
    return path


def require_module(name: str) -> Any:
    """Return a module of a package that only tests use."""
    try:
        return importlib.import_module(name)
    except ImportError:
        skip_or_fail(f"{name} is not installed; run `make test`")
        raise
