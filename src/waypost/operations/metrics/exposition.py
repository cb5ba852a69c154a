"""Renders the metrics with prometheus-client. No other module knows that package."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from waypost.histograms import Histogram
from waypost.operations.metrics.families import FAMILIES
from waypost.operations.metrics.family import Family, Ranges, Reading

__all__ = ["Exposition"]


class Exposition:
    """The text of a scrape.

    Args:
        reading: The values.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, OpenMetrics if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        # It asks a registry for `collect` alone, so there is none that could hold the metrics of others.
        return encode(cast("Any", self)), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their values."""
        for family in FAMILIES:
            yield _metric(family, self._reading)


def _metric(family: Family, reading: Reading) -> Metric:
    samples = family.read(reading)
    if family.ranges is not None:
        histograms = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        for labels, value in samples:
            assert isinstance(value, list)  # its reading makes nothing else
            histograms.add_metric(labels, *_cumulated(value, family.ranges))
        return histograms
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.meaning, labels=family.labels)
    for labels, value in samples:
        assert not isinstance(value, list)
        metric.add_metric(labels, value)
    return metric


def _cumulated(histogram: Histogram, ranges: Ranges) -> tuple[list[tuple[str, int]], float]:
    """Return the number of values up to each bound, as Prometheus has it, and their sum."""
    *counts, total = histogram
    bounds = [*(str(bound / ranges.unit) for bound in ranges.bounds), "+Inf"]
    return [*zip(bounds, accumulate(counts), strict=True)], total / ranges.unit
