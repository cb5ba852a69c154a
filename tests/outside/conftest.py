"""Fixtures of the tests of programs without a server."""

from __future__ import annotations

from tests.outside.schema import database as database
