"""From the text that names a store to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.errors import ConfigurationError
from waypost.storage.choose import StoreOptions, make_store
from waypost.storage.memory.store import MemoryStore
from waypost.storage.sqlite.store import SqliteStore


def test_memory_is_named_by_itself() -> None:
    assert isinstance(make_store(StoreOptions(spec="memory:")), MemoryStore)


@pytest.mark.parametrize("spec", ["{}/parcels.db", "sqlite:{}/parcels.db", "SQLite:{}/parcels.db"])
def test_a_path_is_a_file(spec: str, tmp_path: Path) -> None:
    store = make_store(StoreOptions(spec=spec.format(tmp_path)))
    assert isinstance(store, SqliteStore)
    assert str(tmp_path / "parcels.db") in store.capabilities.description


def test_a_relative_path_is_a_file() -> None:
    assert str(Path("parcels.db").resolve()) in make_store(StoreOptions(spec="parcels.db")).capabilities.description


@pytest.mark.parametrize("spec", ["", "sqlite:", ":memory:", "sqlite::memory:", "sqlite:///x.db", "memory:x"])
def test_what_is_not_clear_is_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a file's path"):
        make_store(StoreOptions(spec=spec))


@pytest.mark.parametrize("scheme", ["redis", "nats", "postgres", "postgresql+psycopg"])
def test_what_is_not_there_is_refused_without_its_password(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match='"memory:"') as refusal:
        make_store(StoreOptions(spec=f"{scheme}://user:secret@host/1"))
    assert scheme in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="durability"):
        make_store(StoreOptions(spec=str(tmp_path / "x.db"), durability="eventual"))  # type: ignore[arg-type]


def test_a_file_may_be_asynchronous(tmp_path: Path) -> None:
    assert (
        "async" in make_store(StoreOptions(spec=str(tmp_path / "x.db"), durability="async")).capabilities.description
    )
