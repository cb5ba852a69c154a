"""Logs for programs: each line is a JSON object with fields, in a server and in its workers, and shows no secret."""

from __future__ import annotations

import ast
import json
import logging
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.test_architecture import SOURCE
from waypost.commands.output import Column, print_table
from waypost.errors import ConfigurationError, LimitExceeded
from waypost.json_logs import JsonFormatter
from waypost.log_floods import MOST, PERIOD_S
from waypost.log_settings import LogSettings
from waypost.logs import FIELDS, FLOODS, by_client, fields, get_logger
from waypost.server.options import ServerOptions
from waypost.testing import serve
from waypost.text import columns_of
from waypost.transports import refusals

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
OWNERS = {"logger", "_logger", "_log", "connections", "packets"}
EXCEPTIONS = {"problem", "error", "failure", "violation", "end", "excess", "mismatch", "external"}
OPTIONS = set(ServerOptions.__annotations__)
CUTS = re.compile(r"\b(refused (a|to)|clos(ed|ing) a|gave up|closed a|Closed a|Refused a)\b")
REMEDY = re.compile(
    r"its client is at fault|the limit is fixed|run `make web`|no node sends|internal address|io\.of\(…\) makes one"
)


def log_calls() -> list[tuple[str, ast.Call]]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = ast.unparse(node.func.value).rpartition(".")[2]
                if owner in OWNERS and node.args:
                    found.append((f"{file.relative_to(SOURCE)}:{node.lineno}", node))
    return found


def message_and_arguments(call: ast.Call) -> tuple[str, list[ast.expr]]:
    assert isinstance(call.func, ast.Attribute)
    message, *arguments = call.args[1:] if call.func.attr == "log" else call.args
    assert isinstance(message, ast.Constant)
    return str(message.value), arguments


def test_what_a_sentence_is_about_is_in_fields_too() -> None:
    calls = log_calls()
    assert len(calls) > 200, "the calls were found"
    about = re.compile(r"\b(sid|queue_name|consumer|message\.id|namespace|event\.name|schedule|_store)\b")
    without = [
        where
        for where, call in calls
        if any(about.search(ast.unparse(one)) for one in message_and_arguments(call)[1])
        and all(keyword.arg != "extra" for keyword in call.keywords)
    ]
    assert without == []


def test_each_cut_names_the_option_and_what_to_do() -> None:
    """A new line of a refusal or a cut fails here until it names an option, a fixed limit, or whose fault it is."""
    looked_at, without = 0, []
    for where, call in log_calls():
        message, arguments = message_and_arguments(call)
        assert isinstance(call.func, ast.Attribute)
        if not where.startswith(("waypost/server", "waypost/transports")) or call.func.attr == "debug":
            continue
        if not CUTS.search(message):
            continue
        looked_at += 1
        names_option = any(re.search(rf"\b{option}\b", message) for option in OPTIONS)
        # A problem says it by itself: `LimitExceeded` names its option or that the limit is fixed.
        tells_problem = any(re.search("problem|excess|LimitExceeded|reason", ast.unparse(one)) for one in arguments)
        if not (names_option or tells_problem or REMEDY.search(message)):
            without.append(f"{where} {message}")
    assert looked_at > 10
    assert without == []


def test_each_reason_of_a_refused_request_has_a_remedy() -> None:
    reasons = set()
    for name in ("protocol/handshake.py", "server/connections/gate.py"):
        for node in ast.walk(ast.parse((SOURCE / "waypost" / name).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Refuse", "_bad_request"):
                given = [one.value for one in node.args if isinstance(one, ast.Constant)]
                reasons |= {text for text in given if isinstance(text, str) and text.isupper()}
    assert len(reasons) > 15
    assert reasons - set(refusals._REMEDIES) == {"INVALID_ORIGIN"}, "which `explain_refusal` explains"


def test_a_limit_names_its_option_and_that_one_exists() -> None:
    options = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "LimitExceeded":
                option = node.args[3].value if len(node.args) > 3 and isinstance(node.args[3], ast.Constant) else ""
                options.add(str(option))
    assert len(options) > 5
    assert options - OPTIONS <= {""}
    assert str(LimitExceeded("bytes", 1, 2)).endswith("the limit is fixed")


def test_a_flood_of_lines_becomes_one_with_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    logger = get_logger("waypost.flood_test")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)

    def shown() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if "flood" in line]

    def emit(message: str, at: float, **record: Any) -> None:
        record |= {"name": logger.name, "levelno": logging.WARNING, "msg": message, "created": at}
        logger.handle(logging.makeLogRecord(record))

    try:
        FLOODS.forget()
        for number in range(MOST + 50):
            emit("flood %d", 1000.0, args=(number,), **by_client(fields(count=number)))
        emit("flood of another kind", 1000.0, **by_client())
        emit("flood by nobody", 1001.0)
        for _ in range(2 * MOST):
            emit("flood of the server's own", 1001.0)
        lines = shown()
        assert lines[:MOST] == [f"flood {number}" for number in range(MOST)]
        assert lines[MOST : MOST + 2] == ["flood of another kind", "flood by nobody"]
        assert len(lines) == 3 * MOST + 2
        emit("flood over", 1000.0 + PERIOD_S)
        assert shown() == [
            f"left out 50 lines, which clients caused within {PERIOD_S:g} s, of the kind: flood %d",
            "flood over",
        ]
        emit("flood %d", 1000.0 + PERIOD_S, args=(7,), **by_client())
        assert shown() == ["flood 7"], "a new period has begun"
        emit("flood %d", 900.0, args=(8,), **by_client())
        assert shown() == ["flood 8"], "the clock was set back"
    finally:
        logger.removeHandler(handler)


async def test_a_client_in_too_many_namespaces_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(max_namespaces=1, drain_s=0)
    io.of("/0")
    caplog.set_level(logging.INFO, logger="waypost")
    async with serve(io) as site:
        client = await site.connect()
        with pytest.raises(waypost.ConnectFailed, match="Too many namespaces"):
            await client.of("/0").connect()
        with pytest.raises(waypost.ConnectFailed, match="Invalid namespace"):
            await site.connect(namespace="/nowhere")
    refused = [one for one in caplog.records if "max_namespaces sets the limit" in one.getMessage()]
    assert [vars(one)["option"] for one in refused] == ["max_namespaces"]
    assert vars(refused[0])["namespace"] == "/0"
    unknown = [one for one in caplog.records if "no namespace of that name" in one.getMessage()]
    assert [vars(one)["namespace"] for one in unknown] == ["/nowhere"]


def line_of(worker: int | None = None, **record: Any) -> dict[str, Any]:
    text = JsonFormatter(worker).format(logging.makeLogRecord({"name": "waypost.x", "levelno": 30, **record}))
    assert "\n" not in text
    assert text.isprintable()
    read: dict[str, Any] = json.loads(text)
    return read


def test_a_line() -> None:
    line = line_of(4, levelname="WARNING", msg="%s left", args=("\x1b[2J\u202e",), created=0.5, process=7)
    assert line == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "warning",
        "logger": "waypost.x",
        "message": "\x1b[2J\u202e left",
        "process": 7,
        "worker": 4,
    }


def test_fields_are_members_and_secrets_are_hidden() -> None:
    about: dict[str, Any] = fields(sid="abc", queue="注文:東京", count=0, store=Path("a.db"))
    line = line_of(None, **{"msg": "x", "password": "p", "order": 7, **about})
    assert {name: line[name] for name in FIELDS & set(line)} == {
        "sid": "abc", "queue": "注文:東京", "count": 0, "store": "a.db",
    }  # fmt: skip
    assert (line["password"], line["order"]) == ("***", 7)
    assert len(line_of(msg="x", event="e" * 1000)["event"]) < 300
    assert line_of(msg="x", event="\ud800", big=1 << 80, odd={1: object})["event"] == "\\ud800"


def test_an_exception_is_a_member(capsys: pytest.CaptureFixture[str]) -> None:
    logger = get_logger("waypost.json_test")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        raise ValueError("a\nb\x1b")
    except ValueError as error:
        logger.exception("failed")
        logger.error("told: %s", error)
    finally:
        logger.removeHandler(handler)
    raised, told = map(json.loads, capsys.readouterr().err.splitlines())
    assert raised["error"] == told["error"] == "ValueError"
    assert raised["exception"].startswith("Traceback")
    assert "exception" not in told


@pytest.mark.parametrize("text", ["{", "[]", '{"handlers": {"a": {"class": "no.such.Class"}}}', '{"version": 2}'])
def test_a_file_that_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "log.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="log_config"):
        LogSettings(config=str(file)).apply()
    with pytest.raises(ConfigurationError, match="log_config"):
        LogSettings(config=str(tmp_path / "none.toml")).apply()


CONFIG = """
[formatters.lines]
"()" = "waypost.json_logs.JsonFormatter"
[handlers.file]
class = "logging.FileHandler"
filename = "{file}"
formatter = "lines"
[root]
level = "INFO"
handlers = ["file"]
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_file", [False, True])
def test_serve_logs_json(workers: int, by_file: bool, tmp_path: Path) -> None:
    (tmp_path / "logged_app.py").write_text("import waypost\nio = waypost.Server()\napp = io\n")
    to_file = tmp_path / "log"
    (tmp_path / "log.toml").write_text(CONFIG.format(file=to_file))
    form = ["--log-config", "log.toml"] if by_file else ["--log-format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "waypost", "serve", "logged_app:app", "--port", "0", "--workers", str(workers),
         "--health", "127.0.0.1:0", *form],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        listening = process.stdout.readline()
        if by_file:
            assert listening.startswith("Waypost ")
            assert "  health: http://127.0.0.1:" in listening
        else:
            line = json.loads(listening)
            assert line["message"].startswith("Waypost ")
            assert f" on {line['address']} " in line["message"]
            assert f"  health: {line['health']}" in line["message"]
            assert len(line.get("pids", "1")) == workers
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    text = to_file.read_text() if by_file else errors
    lines = [json.loads(line) for line in text.splitlines()]
    assert any(line["message"].startswith("started") for line in lines)
    if workers > 1 and not by_file:
        assert len({line["worker"] for line in lines if "worker" in line}) > 1


def test_wide_characters_align(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["注文:東京", "plain", "e\u0301te\u0301", "📦:1", "각"]
    print_table([Column("queue", lambda one: one), Column("n", lambda one: "7", is_number=True)], names)
    lines = capsys.readouterr().out.splitlines()
    assert len({columns_of(line) for line in lines}) == 1
    assert [columns_of(name) for name in names] == [9, 5, 3, 4, 2]
