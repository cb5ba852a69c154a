"""The dashboard and the alerts of deploy/ ask for metrics that exist, and Prometheus's own tool accepts all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.operations.scraping import ask
from tests.server.model_client import ModelClient, running
from tests.support.require import skip_or_fail
from tests.support.server_process import REPOSITORY
from waypost.operations.metrics.families import FAMILIES

ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "waypost.json"
RULES_TEST = Path(__file__).parent / "alerts.test.yml"

_SERIES = {
    f"{family.name}{suffix}": {*family.labels, *(["le"] if suffix == "_bucket" else [])}
    for family in FAMILIES
    for suffix in (("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",))
}
_OF_PROMETHEUS = {"instance", "job"}


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        skip_or_fail("promtool is not installed: it is in Debian's package prometheus")
    assert program is not None
    return program


def run(*command: object, given: str | None = None) -> str:
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def expressions(node: Any) -> Iterator[str]:
    """Find the expressions and queries of a dashboard."""
    if isinstance(node, list):
        for one in node:
            yield from expressions(one)
    elif isinstance(node, dict):
        for key, one in node.items():
            if key in ("expr", "query") and isinstance(one, str) and "waypost" in one:
                yield one
            yield from expressions(one)


def queries() -> list[str]:
    return [*expressions(json.loads(DASHBOARD.read_text(encoding="utf-8")))]


def alert_expressions() -> list[str]:
    text = ALERTS.read_text(encoding="utf-8")
    return re.findall(r"^ {8}expr: (?:\|\n)?(.*?)(?=^ {8}\w+:)", text, re.MULTILINE | re.DOTALL)


def test_both_ask_only_for_series_and_labels_that_exist() -> None:
    asked = queries() + alert_expressions()
    assert len(asked) > 60
    for expression in asked:
        for name, _, selector in re.findall(r"\b(waypost_\w+)(\{([^}]*)\})?", expression):
            assert name in _SERIES, f"no such series: {name} in {expression}"
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", selector))
            assert labels <= _SERIES[name] | _OF_PROMETHEUS, f"no such label of {name} in {expression}"
        known = set[str]().union(*(_SERIES[name] for name in re.findall(r"\bwaypost_\w+", expression)))
        for grouping in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            labels = {one.strip() for one in grouping.split(",")} - {""}
            assert labels <= known | _OF_PROMETHEUS, f"no such label: {labels} in {expression}"


def test_each_metric_of_queues_recoveries_and_the_store_is_shown() -> None:
    shown = " ".join(queries())
    # The prefixes of what operators ask for first.
    wanted = [one for one in FAMILIES if re.match(r"waypost_(queue|recoveries|replay|store|handler)", one.name)]
    hidden = {one.name for one in wanted if one.name not in shown}
    assert hidden == {"waypost_queue_consumers_expired_total", "waypost_replayed_events_total"}


def test_each_panel_has_its_own_place() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_prometheus_accepts_the_alerts(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", ALERTS)


def test_each_alert_fires_when_it_should_and_only_then(promtool: str) -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8")))
    tested = set(re.findall(r'alertname="(\w+)"', RULES_TEST.read_text(encoding="utf-8")))
    assert alerts == tested
    run(promtool, "test", "rules", RULES_TEST)


def test_prometheus_can_read_the_queries_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    asked = [one for one in queries() if not one.startswith("label_values(")]
    filled = [one.replace("$__rate_interval", "5m") for one in asked]
    # JSON is YAML, too.
    rules = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(filled)]
    file = tmp_path / "queries.json"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(filled)} rules found" in run(promtool, "check", "rules", file)


async def test_prometheus_accepts_the_scrape(promtool: str) -> None:
    io = waypost.Server(drain_s=0.0)

    @io.event
    async def order(socket: waypost.Socket) -> None: ...

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('20["order"]')
        await io.queue("jobs").emit("job")
        _, _, text = await ask(io.metrics())
    assert run(promtool, "check", "metrics", given=text) == ""
