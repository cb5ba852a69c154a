"""Renders the metrics with prometheus-client. No other module knows that package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from waypost.operations.metrics.families import FAMILIES, NameOf
from waypost.server.watching.counters import ServerState

__all__ = ["Exposition"]

_TYPES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class Exposition:
    """The text of a scrape, from the state at that moment.

    Args:
        state: Returns the state.
        name_of: Returns the name under which a namespace is counted.
    """

    def __init__(self, state: Callable[[], ServerState], name_of: NameOf) -> None:
        self._state = state
        self._name_of = name_of

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, OpenMetrics if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        # It asks a registry for `collect` alone, so there is none that could hold the metrics of others.
        return encode(cast("Any", self)), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their current values."""
        state = self._state()
        for family in FAMILIES:
            metric = _TYPES[family.kind](family.name, family.meaning, labels=family.labels)
            for labels, value in family.read(state, self._name_of):
                metric.add_metric(labels, value)
            yield metric
