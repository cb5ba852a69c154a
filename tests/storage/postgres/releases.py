"""A later release than this one, for tests: its schema has a second version, which it makes of the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from waypost.storage.postgres import schema

__all__ = ["SECOND", "later_release"]

SECOND = """
    ALTER TABLE waypost.log ADD COLUMN IF NOT EXISTS note text;
    ALTER TABLE waypost.session ADD COLUMN IF NOT EXISTS note text;
    ALTER TABLE waypost.message ADD COLUMN IF NOT EXISTS note text;
    ALTER TABLE waypost.consumer ADD COLUMN IF NOT EXISTS note text;
    CREATE INDEX IF NOT EXISTS session_note ON waypost.session (note) WHERE note IS NOT NULL;
    CREATE TABLE IF NOT EXISTS waypost.second (id int PRIMARY KEY);
    CREATE OR REPLACE FUNCTION waypost.second_2() RETURNS int LANGUAGE sql AS 'SELECT 2';
"""
"""A migration: what a later release may add while servers of this one run."""


@contextmanager
def later_release(*, script: str = SECOND, needs: int = 1, oldest_user: int = 1) -> Iterator[None]:
    """Let what is opened inside be of the later release; what is open goes on as it is.

    Args:
        script: The second version's own script.
        needs: The oldest version of the schema under which it runs.
        oldest_user: The oldest version that a server must know to use what it makes.
    """
    scripts = [*schema.read_scripts(), ("95_second.sql", script)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", 2)
        patch.setattr(schema, "OLDEST_VERSION", needs)
        patch.setattr(schema, "OLDEST_USER", oldest_user)
        patch.setattr(schema, "read_scripts", lambda: scripts)
        yield
