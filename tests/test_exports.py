"""The public surface: what `import waypost` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import waypost


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(set(waypost.__all__)) == sorted(waypost.__all__)
    for name in waypost.__all__:
        assert getattr(waypost, name).__doc__


def test_dir_shows_the_public_names_before_they_are_imported() -> None:
    program = "import waypost; print([name for name in dir(waypost) if name[0] != '_'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{sorted([*waypost.__all__, 'sync', 'testing'])}\n"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Srever"):
        waypost.Srever  # noqa: B018


def test_client_does_not_load_the_server() -> None:
    script = "import sys, waypost; waypost.Client; print([m for m in sys.modules if m.startswith('waypost.server')])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_modules_are_there_without_being_imported() -> None:
    program = "import waypost; print(waypost.sync.Client.__name__, waypost.testing.serve.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Client serve\n"
