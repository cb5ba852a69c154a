"""From the text that names a store to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.errors import ConfigurationError
from waypost.storage.choose import StoreOptions, check_store, make_store, shown_spec, whole_spec
from waypost.storage.database_address import parse_address
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


@pytest.mark.parametrize("scheme", ["redis", "nats", "mysql", "postgresql+psycopg"])
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


URL = "postgresql://user:secret@host:5433/database?sslmode=require&password=secret&waypost_connections=3"


def test_the_url_of_a_database_names_a_store_and_its_password_is_never_shown() -> None:
    options = StoreOptions(spec=whole_spec(URL))
    assert options.spec == URL
    assert options.path() is None
    store = make_store(options)
    for shown in (shown_spec(URL), store.capabilities.description, repr(options), repr(parse_address(URL))):
        assert "secret" not in shown
    other = StoreOptions(spec="postgresql://user:other@host/database")
    assert options.difference(other).startswith("spec 'postgresql://user@host:5433/database?sslmode=require")
    assert "secret" not in options.difference(other)
    assert "other" not in options.difference(other).partition("(")[0]


def test_an_address_keeps_the_options_of_waypost_from_the_driver() -> None:
    address = parse_address(
        "postgres://u@h/db?waypost_connections=4&waypost_listen=poll&waypost_pooled=yes&application_name=x"
        "&waypost_direct=postgresql://u:p@h2/db&waypost_node_address=10.0.0.1:7000"
        "&waypost_lag_s=30"
    )
    assert address.lag_s == 30
    assert address.dsn == "postgres://u@h/db?application_name=x"
    assert (address.connections, address.listen, address.pooled) == (4, "poll", True)
    assert (address.direct, address.node_address) == ("postgresql://u:p@h2/db", "10.0.0.1:7000")
    assert "p@" not in address.shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:database", "a URL"),
        ("postgresql://secret@h:port/db", "a URL"),
        ("postgresql://secret@h/db?waypost_connections=0", "1 to 64"),
        ("postgresql://secret@h/db?waypost_listen=maybe", "on or poll"),
        ("postgresql://secret@h/db?waypost_lag_s=0", "1 to 3600"),
        ("postgresql://secret@h/db?waypost_pool=1", "waypost_pooled"),
    ],
)
def test_a_url_that_is_none_is_refused_without_what_may_be_secret(url: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as refusal:
        check_store(url)
    assert "secret" not in str(refusal.value)
