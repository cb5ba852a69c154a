"""What Prometheus reads: by a real scrape, parsed by Prometheus's own client."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open

import waypost
from tests.operations.scraping import ask, scrape
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support.nodes import join, servers
from waypost.histograms import SECONDS, Histogram, observe
from waypost.operations.metrics.families import FAMILIES
from waypost.server.basics.environment import Environment
from waypost.server.watching.counters import OTHER, count, histogram_of, table_of
from waypost.transports.uvicorn_runner import bind
from waypost.transports.uvicorn_runner import running as serving

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
OPTIONS: dict[str, Any] = {"drain_s": 0.0}


@pytest.fixture
async def io() -> AsyncIterator[waypost.Server]:
    server = waypost.Server(**OPTIONS)
    async with running(server):
        yield server


def emit(client: ModelClient, *events: str) -> None:
    for event in events:
        client.send(f'2["{event}"]')


async def test_a_scrape_tells_of_clients_and_their_events(io: waypost.Server) -> None:
    @io.event
    async def order(socket: waypost.Socket) -> None:
        await io.emit("placed")

    @io.event
    async def fail(socket: waypost.Socket) -> None:
        raise ValueError("a fault")

    first, second = ModelClient(io), ModelClient(io)
    await first.connect()
    await second.connect()
    await io.volatile.emit("tick")
    emit(first, "order", "order", "fail", "unknown")

    await until(lambda: io.state().counters.events_received["/"].get("other") == 1)
    await until(lambda: io.state().counters.events_sent == 6)
    found = await scrape(io)
    assert found["waypost_connections", "websocket"] + found["waypost_connections", "polling"] == 2
    assert found["waypost_sockets", "/"] == 2
    assert found["waypost_ready",] == 1
    assert found["waypost_events_received_total", "/", "order"] == 2
    assert found["waypost_events_received_total", "/", "other"] == 1
    assert found["waypost_handler_errors_total", "/", "fail"] == 1
    assert found["waypost_handler_errors_total", "/", "order"] == 0
    assert found["waypost_handler_seconds_count", "/", "order"] == 2
    assert found["waypost_handler_seconds_count", "/", "fail"] == 1
    assert ("waypost_handler_seconds_count", "/", "other") not in found
    assert found["waypost_emits_total", "/", "journal"] == 2
    assert found["waypost_emits_total", "/", "volatile"] == 1
    assert found["waypost_events_sent_total",] == 6
    assert found["waypost_packets_received_total",] == 6
    assert sum(value for name, value in found.items() if name[0] == "waypost_connections_opened_total") == 2
    assert first.connection is not None
    first.connection.abort("transport close")
    await until(lambda: io.state().connections == 1)
    assert (await scrape(io))["waypost_connections_closed_total", "transport close"] == 1


async def test_no_client_makes_series(io: waypost.Server) -> None:
    io.of(re.compile("/room-.*"))
    io.of(lambda name, auth: name.startswith("/any-"))
    clients = [ModelClient(io, f"/{kind}-{number}") for kind in ("room", "any") for number in range(3)]
    for client in clients:
        await client.connect()
        emit(client, *(f"event-{number}" for number in range(20)))
    received = hub_of(io).services.counters.events_received
    await until(lambda: sum(table.get("other", 0) for table in received.values()) == 120)
    found = await scrape(io)
    assert found["waypost_sockets", "/room-.*"] == found["waypost_sockets", "other"] == 3
    assert found["waypost_events_received_total", "/room-.*", "other"] == 60
    assert found["waypost_events_received_total", "other", "other"] == 60
    labels = {label for sample in found for label in sample[1:]}
    assert not [label for label in labels if re.search(r"-\d|event", label)]


async def test_handlers_of_one_socket_share_a_name(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        socket.on(f"reply-{socket.id}")(lambda: None)

    client = ModelClient(io)
    await client.connect()
    emit(client, f"reply-{client.sid}")
    await until(lambda: io.state().counters.events_received["/"] == {"other": 1})


async def test_a_handler_that_is_taken_away_leaves_its_count(io: waypost.Server) -> None:
    @io.event
    async def order(socket: waypost.Socket) -> None: ...

    client = ModelClient(io)
    await client.connect()
    emit(client, "order")
    await until(lambda: io.state().counters.events_received["/"].get("order") == 1)
    io.off("order")
    assert (await scrape(io))["waypost_events_received_total", "/", "order"] == 1


async def test_names_of_an_application_without_end_become_other() -> None:
    table: dict[str, int] = {}
    tables: dict[str, dict[str, int]] = {}
    histograms: dict[str, Histogram] = {}
    for number in range(2_000):
        count(table, f"name-{number}")
        count(table_of(tables, f"name-{number}"), "one")
        observe(histogram_of(histograms, f"name-{number}"), SECONDS, 1)
    assert len(table) <= 501
    assert len(tables) <= 501
    assert len(histograms) <= 501
    assert sum(table.values()) == sum(one["one"] for one in tables.values()) == 2_000
    assert sum(one[-1] for one in histograms.values()) == 2_000
    assert table[OTHER] == tables[OTHER]["one"] == histograms[OTHER][0] > 1_000


async def test_a_histogram_has_what_lies_up_to_each_bound() -> None:
    now = 0

    def ticks_ns() -> int:
        return now

    io = waypost.Server(**OPTIONS, environment=Environment(ticks_ns=ticks_ns))

    @io.event
    async def take(socket: waypost.Socket, ns: int) -> None:
        nonlocal now
        now += ns
        if ns > 10**10:
            raise ValueError("it took so long")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for ns in (100_000, 100_001, 2 * 10**9, 90 * 10**9):
            client.send(f'2["take",{ns}]')
        await until(lambda: io.state().counters.events_received.get("/", {}).get("take") == 4)
        found = await scrape(io)
    shown = {name[3]: value for name, value in found.items() if name[0] == "waypost_handler_seconds_bucket"}
    expected = {"0.0001": 1, "0.00025": 2, "1.0": 2, "2.5": 3, "60.0": 3, "+Inf": 4}
    assert {bound: shown[bound] for bound in expected} == expected
    assert found["waypost_handler_seconds_sum", "/", "take"] == pytest.approx(92.000200001)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_the_bytes_of_each_transport_are_counted(transport: Any) -> None:
    io = waypost.Server(**OPTIONS)

    @io.event
    async def echo(socket: waypost.Socket, text: str) -> str:
        return text

    async with (
        serving(io, io, bind("127.0.0.1", 0)) as url,
        waypost.Client(url, transports=[transport]) as client,
    ):
        before = await scrape(io)
        await client.call("echo", "x" * 10_000)
        await client.call("echo", "y" * 10_000)
        after = await scrape(io)
    for name in ("waypost_bytes_received_total", "waypost_bytes_sent_total"):
        # The last answer to a poll may be under way, and heartbeats come on top.
        assert 10_000 <= after[name,] - before[name,] < 30_000


async def test_a_client_that_recovers_counts_once(io: waypost.Server) -> None:
    client = ModelClient(io)
    await client.connect()
    await io.emit("seen")
    await until(lambda: len(client.events) == 1)
    await client.cut()
    for _ in range(3):
        await io.emit("missed")
    await client.connect()
    await until(lambda: len(client.events) == 4)
    found = await scrape(io)
    assert found["waypost_replay_seconds_count",] == 1
    assert found["waypost_replay_events_sum",] == 3
    assert found["waypost_replay_events_bucket", "2.0"] == 0
    assert found["waypost_replay_events_bucket", "5.0"] == 1


async def test_a_scrape_of_any_server_has_the_sums_and_those_of_servers_that_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waypost.server.namespaces.numbers._INTERVAL_S", 0.005)
    async with servers(2, **OPTIONS) as (nodes, pair):
        for io in pair:
            io.on("order")(lambda socket: None)
            client = ModelClient(io)
            await client.connect()
            emit(client, "order")

        def knows(io: waypost.Server, orders: int) -> bool:
            counted = io.state().counters.events_received.get("/", {}).get("order")
            return counted == orders

        for io in pair:
            await until(partial(knows, io, 2))
            assert (await scrape(io))["waypost_events_received_total", "/", "order"] == 2
            assert (await scrape(io))["waypost_servers",] == 2
        nodes.kill("n1")
        await until(lambda: "n1" not in pair[0].state().servers)
        assert (await scrape(pair[0]))["waypost_events_received_total", "/", "order"] == 2
        three = waypost.Server(**OPTIONS)
        join(nodes, three, "n2")
        async with running(three):
            await until(partial(knows, three, 2))


async def test_only_a_request_with_the_key_is_answered(io: waypost.Server) -> None:
    page = io.metrics("secret")
    for headers in ({}, {"authorization": "Bearer secre"}, {"authorization": "secret"}):
        status, answer, text = await ask(page, **headers)
        assert (status, answer[b"www-authenticate"]) == (401, b"Bearer")
        assert "waypost_" not in text
    status, _, text = await ask(page, authorization="Bearer secret")
    assert status == 200
    assert "waypost_build_info" in text
    assert (await ask(page, method="POST", authorization="Bearer secret"))[0] == 405
    assert (await ask(page, method="HEAD", authorization="Bearer secret"))[2] == ""


async def test_openmetrics_is_sent_to_those_who_ask(io: waypost.Server) -> None:
    _, headers, text = await ask(io.metrics(), accept="application/openmetrics-text; version=1.0.0")
    assert headers[b"content-type"].startswith(b"application/openmetrics-text")
    assert {family.name for family in cast("Any", parse_open)(text)} >= {"waypost_connections", "waypost_recoveries"}


@pytest.mark.parametrize("key", ["", 7, b"secret"])
def test_a_key_that_protects_nothing_is_refused(key: Any) -> None:
    with pytest.raises(waypost.ConfigurationError):
        waypost.Server().metrics(key)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "waypost.operations.metrics.exposition", None)
    with pytest.raises(waypost.ConfigurationError, match=r"waypost\[metrics\]"):
        waypost.Server().metrics()


async def test_the_documentation_has_all_metrics_as_they_are(io: waypost.Server) -> None:
    rows = []
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |")
    documented = [line for line in DOCS.read_text().splitlines() if line.startswith("| `waypost_")]
    assert documented == rows
    scraped = {re.sub("_(total|bucket|count|sum)$", "", name[0]) for name in await scrape(io)}
    always = {"waypost_build_info", "waypost_ready", "waypost_connections", "waypost_recoveries"}
    assert always <= scraped <= {family.name.removesuffix("_total") for family in FAMILIES}
