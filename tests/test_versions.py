"""The versions that pyproject.toml promises are those that `make test-versions` takes."""

from __future__ import annotations

import re
import tomllib

from tests.support.server_process import REPOSITORY


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    # What `testing` needs is the user's own.
    asked = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    promised = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(asked), re.M))
    assert len(promised) == len(asked)
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (REPOSITORY / "constraints-lowest.txt").read_text(), re.M))
    assert promised.keys() <= tested.keys()
    for name, version in promised.items():
        assert release(tested[name]) == release(version), name


def release(version: str) -> list[int]:
    """The numbers of a version, without zeros at the end."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers
