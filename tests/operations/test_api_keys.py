"""Patterns of names, and the command that makes keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import waypost
from tests.operations.places import key
from waypost.operations.http.api_keys import check_name, digest_of
from waypost.operations.http.key_file import KeyFile
from waypost.operations.http.problems import Problem


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("mails", "mails", True),
        ("mails", "mail", False),
        ("mail*", "mail", True),
        ("mail*", "a mail", False),
        ("*:7", "order:7", True),
        ("*:7", "order:77", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "abb-c", True),
        ("a*b*c", "a-c", False),
        ("a*bb*b", "abb", False),
        ("order.7", "order-7", False),
        ("[a]", "a", False),
    ],
)
def test_a_pattern_is_text_with_stars(pattern: str, name: str, fits: bool) -> None:
    if fits:
        check_name(key(queues=[pattern]), "queue", name)
    else:
        with pytest.raises(Problem, match="name_not_allowed"):
            check_name(key(queues=[pattern]), "queue", name)


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "true"])
def test_a_key_makes_a_request_per_second_at_least(tmp_path: Path, wrong: str) -> None:
    line = f'shop = {{sha256 = "{digest_of("secret")}", scopes = ["emit"], requests_per_s = {wrong}}}\n'
    (tmp_path / "keys.toml").write_text(line)
    with pytest.raises(waypost.ConfigurationError, match="requests_per_s"):
        KeyFile(tmp_path / "keys.toml")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waypost", "api-key", *words], capture_output=True, text=True, check=False
    )


def test_the_command_prints_a_key_and_its_line(tmp_path: Path) -> None:
    done = run("new", "shop", "--scope", "emit", "--scope", "queues:write", "--queues", 'mail "7"*')
    (_, secret), (_, line) = (row.split(maxsplit=1) for row in done.stdout.splitlines())
    (tmp_path / "keys.toml").write_text(f"{line}\n")
    (known,) = KeyFile(tmp_path / "keys.toml").keys()
    assert known == key(name="shop", sha256=digest_of(secret), scopes=["emit", "queues:write"], queues=['mail "7"*'])
    assert secret not in line


@pytest.mark.parametrize(
    "words", [("new", "shop", "--scope", "all"), ("new", "a b", "--scope", "emit"), ("new", "a")]
)
def test_the_command_refuses_what_makes_no_key(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
