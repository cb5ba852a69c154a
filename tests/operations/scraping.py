"""Scrapes, parsed by Prometheus's own client."""

from __future__ import annotations

from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families as parse

import waypost
from waypost.operations.metrics.families import FAMILIES

Samples: TypeAlias = dict[tuple[str, ...], float]
"""The values of a scrape, by name and values of labels in the order of the families; a bucket's bound comes last."""

_LABELS = {family.name: family.labels for family in FAMILIES}


async def ask(app: Any, *, method: str = "GET", **headers: str) -> tuple[int, dict[bytes, bytes], str]:
    """Send a request to an ASGI application, and return its answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": "/", "headers": pairs}, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"].decode()


def samples(text: str) -> Samples:
    """Return all samples of a scrape."""
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            labels = _LABELS.get(sample.name) or _LABELS.get(family.name, ())
            bound = (sample.labels["le"],) if "le" in sample.labels else ()
            found[sample.name, *(sample.labels[label] for label in labels), *bound] = sample.value
    return found


async def scrape(io: waypost.Server) -> Samples:
    """Scrape a server."""
    _, _, text = await ask(io.metrics())
    return samples(text)
