"""Gathers the options of ``waypost serve`` from the command line, the environment and a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from waypost.checking.arguments import nearest
from waypost.checking.layers import Given, GivenOptions, Layered, layered, names_of, stacked
from waypost.checking.rules import Rule
from waypost.errors import ConfigurationError
from waypost.logs import get_logger
from waypost.server.options import Options
from waypost.serving.env_file import read_env_file
from waypost.serving.options import ServeOptions

__all__ = ["PREFIX", "ServeSettings", "flag_of", "gather", "known_options"]

logger = get_logger("waypost.serve")

PREFIX = "WAYPOST_"
# What Waypost's own tests and its demo say to the processes that they start.
_INTERNAL = ("WAYPOST_TEST_", "WAYPOST_DEMO_")
_BEFORE_THE_FILE = ("config", "env_file")
"""What says where a file is can't stand in it."""
_FLAGS = {"trusted_proxies": "--proxy"}
"""Options of servers whose flag on the command line has another name."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """All that is given for ``waypost serve``.

    Attributes:
        serve: The command's own options, and their places.
        given: What is given for the options of servers.
        unknown: A sentence for each variable of the environment that no option has.
    """

    serve: Layered[ServeOptions]
    given: GivenOptions
    unknown: tuple[str, ...]


def known_options() -> Mapping[str, Rule]:
    """Return the rules of all options of the command and of servers, by name."""
    return {**names_of(ServeOptions), **names_of(Options)}


def gather(command_line: Mapping[str, object], environment: MutableMapping[str, str] = os.environ) -> ServeSettings:
    """Gather all options: the command line comes before the environment, and that before the file.

    The variables of an environment file are set, for the application too.

    Args:
        command_line: The words of the command line, by the options' names.
        environment: The variables.

    Raises:
        ConfigurationError: A value is not accepted, a file can't be read, or the TOML file has an unknown option.
    """
    known = known_options()
    words = {name: Given(value, "command line", flag_of(name)) for name, value in command_line.items()}
    env_file = words.get("env_file") or _in_environment(known, environment).get("env_file")
    if env_file is not None:
        for name, text in read_env_file(env_file.shown, str(env_file.value)).items():
            environment.setdefault(name, text)
    variables = _in_environment(known, environment)
    config = words.get("config") or variables.get("config")
    file = {} if config is None else _in_file(config.shown, str(config.value), known)
    given = stacked((file, variables, words))
    servers = names_of(Options)
    return ServeSettings(
        layered(ServeOptions, {}, {name: one for name, one in given.items() if name not in servers}),
        {name: one for name, one in given.items() if name in servers},
        tuple(_unknown_in(environment, known)),
    )


def flag_of(name: str) -> str:
    """Return an option's flag on the command line."""
    return _FLAGS.get(name) or "--" + name.replace("_", "-")


def _variable_of(name: str) -> str:
    return PREFIX + name.replace(".", "__").upper()


def _in_environment(known: Mapping[str, Rule], environment: Mapping[str, str]) -> GivenOptions:
    found = {name: (variable := _variable_of(name), environment.get(variable)) for name in known}
    # An empty variable is how many tools say that there is none.
    return {name: Given(text, "environment", variable) for name, (variable, text) in found.items() if text}


def _unknown_in(environment: Mapping[str, str], known: Mapping[str, Rule]) -> Iterator[str]:
    variables = {_variable_of(name) for name in known}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in variables and not name.startswith(_INTERNAL):
            meant = nearest(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in variables])
            told = f"{name} in the environment: no option has that name"
            yield f"{told}; did you mean {PREFIX}{meant}?" if meant else told


def _in_file(option: str, path: str, known: Mapping[str, Rule]) -> GivenOptions:
    try:
        read = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(option, path, f"a TOML file; it says: {error}") from error
    found: dict[str, Given] = {}
    for name, value in _flattened(read, known):
        shown = f"{path}: {name}"
        if name not in known or name in _BEFORE_THE_FILE:
            raise ConfigurationError(path, name, "an option of waypost serve", suggestion=nearest(name, known))
        found[name] = Given(value, "file", shown)
    return found


def _flattened(read: Mapping[str, object], known: Mapping[str, Rule]) -> Iterator[tuple[str, object]]:
    for name, value in read.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", one) for part, one in value.items())
        else:
            yield name, value
