"""Options of ``waypost serve`` from the command line, the environment and files: what counts, and mistakes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.server_process import ServerProcess
from waypost.cli import main
from waypost.errors import ConfigurationError
from waypost.server.options import Options
from waypost.serving.env_file import read_env_file
from waypost.serving.options import ServeOptions, parse_address
from waypost.serving.settings import gather


class Server(ServerProcess):
    """`waypost serve` with variables."""

    def __init__(self, log: Path, words: str, environment: Mapping[str, str]) -> None:
        super().__init__(("-m", "waypost", "serve", *words.split(), "--port", "{port}"), log)
        self._environment |= environment


def test_no_two_options_have_one_name() -> None:
    names = {field.name for field in fields(ServeOptions)}
    assert not names & {field.name for field in fields(Options)}


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text("host = 'a'\nport = 1\nlog_level = 'error'\ndrain_s = 1\n[recovery]\nmax_events = 5\n")
    environment = {"WAYPOST_PORT": "2", "WAYPOST_LOG_LEVEL": "debug", "WAYPOST_DRAIN_S": "2", "WAYPOST_HOST": ""}
    settings = gather({"config": str(config), "log_level": "warning"}, environment)
    serve = settings.serve.options
    assert (serve.host, serve.port, serve.log_level) == ("a", 2, "warning")
    assert settings.serve.places()["host"] == ("a", f"{config}: host")
    assert settings.serve.places()["port"] == (2, "environment: WAYPOST_PORT")
    assert settings.serve.places()["log_level"] == ("warning", "command line: --log-level")
    assert settings.serve.places()["workers"] == (1, "default")
    assert {name: one.value for name, one in settings.given.items()} == {"drain_s": "2", "recovery.max_events": 5}


def test_files_are_named_by_the_environment_too(tmp_path: Path) -> None:
    (tmp_path / "waypost.toml").write_text("port = 1\nhost = 'a'")
    (tmp_path / ".env").write_text(
        f"WAYPOST_CONFIG={tmp_path}/waypost.toml\nWAYPOST_PORT=2\nWAYPOST_HOST=b\nOWN=x y\n"
    )
    environment = {"WAYPOST_ENV_FILE": str(tmp_path / ".env"), "WAYPOST_HOST": "c"}
    serve = gather({}, environment).serve.options
    assert (serve.host, serve.port) == ("c", 2)
    assert environment["OWN"] == "x y"


def test_an_unknown_variable_is_told_with_the_nearest_name() -> None:
    environment = {
        "WAYPOST_PING_INTERVALL_S": "5",
        "WAYPOST_RECOVERY__SESSION_TTL": "5",
        "WAYPOST_ZZZ": "5",
        "WAY": "5",
    }
    assert gather({}, environment).unknown == (
        "WAYPOST_PING_INTERVALL_S in the environment: no option has that name; did you mean WAYPOST_PING_INTERVAL_S?",
        "WAYPOST_RECOVERY__SESSION_TTL in the environment: no option has that name;"
        " did you mean WAYPOST_RECOVERY__SESSION_TTL_S?",
        "WAYPOST_ZZZ in the environment: no option has that name",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 80", "waypost.toml='prot': expected an option of waypost serve; did you mean port?"),
        (
            "[recovery]\nsession_ttl = 5",
            "waypost.toml='recovery.session_ttl': .*; did you mean recovery.session_ttl_s?",
        ),
        ("[port]\nx = 5", "waypost.toml='port.x': expected an option"),
        ("port = '80'", "waypost.toml: port='80': expected a whole number from 0 to 65535"),
        ("config = 'x'", "waypost.toml='config': expected an option"),
        ("port = ", "--config='waypost.toml': expected a TOML file; it says: "),
        (None, "--config='waypost.toml': expected a TOML file; it says: .*No such file"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("waypost.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        gather({"config": "waypost.toml"}, {})


def test_an_empty_table_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text("[recovery]\n")
    assert gather({"config": str(tmp_path / "w.toml")}, {}).given == {}


def test_variables_are_read_from_lines(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        '\n# a remark\nA=1\nexport B = two words # a remark\nC=\'$ # \\n\'\nD="a\\nb \\"c\\"" # x\nE=\nF=a#b\nA=3\n'
    )
    assert read_env_file("--env-file", str(file)) == {
        "A": "3",
        "B": "two words",
        "C": "$ # \\n",
        "D": 'a\nb "c"',
        "E": "",
        "F": "a#b",
    }


@pytest.mark.parametrize("line", ["A", "1=2", "A='x", 'A="x', "A='x' y", "a b=c"])
def test_a_line_that_is_none_is_refused_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"X=1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"^--env-file='\.env': expected lines NAME=value; line 2 is none$"):
        read_env_file("--env-file", ".env")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8001", ("::1", 8001)),
        ("localhost:0", ("localhost", 0)),
        ("::1:80", None),
        ("[::1]", None),
        (":80", None),
        ("a:b", None),
        ("a:65536", None),
        ("a:²", None),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, address: Any) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (
            "tests.serving.app:io",
            {"WAYPOST_PORT": "eighty"},
            "WAYPOST_PORT='eighty': expected a whole number from 0 to 65535",
        ),
        ("tests.serving.app:io", {"WAYPOST_DRAIN_S": "-1"}, "WAYPOST_DRAIN_S='-1': expected a number from 0"),
        ("tests.serving.app:io", {"WAYPOST_STORE": "redis://h"}, "WAYPOST_STORE='redis:…': expected a file's path"),
        ("tests.serving.app:io --proxy 10.0.0.1/8", {}, "--proxy=['10.0.0.1/8']: expected addresses or networks"),
        ("tests.serving.app:wrapped", {}, "it holds none; name it by --server"),
        (
            "tests.serving.app:wrapped --server tests.serving.app:nobody",
            {},
            "server='tests.serving.app:nobody': expected a name",
        ),
        (
            "tests.serving.app:io --log-config x.json",
            {"WAYPOST_LOG_FORMAT": "json"},
            "--log-config='x.json': expected no ",
        ),
    ],
)
def test_a_wrong_value_ends_the_command_with_one_sentence(
    words: str,
    environment: dict[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "tests.serving.app", raising=False)
    for name, text in {"WAYPOST_PORT": "0", **environment}.items():
        monkeypatch.setenv(name, text)
    assert main(["serve", *words.split()]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.long
async def test_a_wrong_value_that_workers_find_ends_the_command(tmp_path: Path) -> None:
    server = Server(tmp_path / "log", "tests.serving.app:io --workers 2", {"WAYPOST_DRAIN_S": "-1"})
    with pytest.raises(AssertionError, match="did not start"):
        await server.start()
    assert server.exit_code == 2
    assert "WAYPOST_DRAIN_S='-1': expected a number from 0" in server.log()
    server.check_log()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
async def test_a_server_takes_its_options_from_everywhere(tmp_path: Path, workers: str) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(
        "ping_interval_s = 7\nping_timeout_s = 7\nmax_payload_bytes = 70_000\n[recovery]\nmax_events = 77\n"
    )
    (tmp_path / "variables").write_text("OWN='from the file'\nWAYPOST_PING_TIMEOUT_S=6\n")
    environment = {"WAYPOST_CONFIG": str(config), "WAYPOST_WORKERS": workers, "WAYPOST_PING_INTERVALL_S": "5"}
    # The application does not show its server.
    words = f"tests.serving.app:wrapped --server tests.serving.app:io --env-file {tmp_path / 'variables'}"
    server = Server(tmp_path / "log", words, environment)
    await server.start()
    try:
        client = waypost.Client(server.url)
        await client.connect()
        assert await client.call("options") == [7, 6, 70_000, 77, "from the file"]
        await client.disconnect()
        await server.stop()
    finally:
        await server.kill()
    warned = [line for line in server.log().splitlines() if "did you mean WAYPOST_PING_INTERVAL_S?" in line]
    assert len(warned) == 1
    assert "WARNING" in warned[0]
    server.check_log()
