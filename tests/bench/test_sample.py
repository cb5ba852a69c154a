"""Medians, ratios, and what is made of them."""

from __future__ import annotations

from bench.speed.aims import judge
from bench.speed.report import rows
from bench.speed.sample import Sample, Summary, percentile, ratio, summaries


def sample(server: str, per_s: float, round_: int = 0, case: str = "100 clients") -> Sample:
    return Sample("acks", case, server, {"per_s": per_s, "server_us": 1e6 / per_s}, round_)


def test_rounds_are_brought_together() -> None:
    found = summaries([sample("node-recovery", rate, number) for number, rate in enumerate((90, 100, 130))])
    summary = found["acks", "100 clients", "node-recovery", "per_s"]
    assert summary.median == 100
    assert (summary.spread, summary.spread_shown) == (0.4, "40%")


def test_a_single_round_has_no_spread() -> None:
    assert Summary([300.0]).spread is None
    table = rows([sample("waypost-memory", 200)], "per_s", True)
    assert "1 round" in table[1]
    assert "0%" not in table[1]


def test_ratios_say_how_many_times_better() -> None:
    assert ratio(Summary([300.0]), Summary([100.0])) == 3
    assert ratio(Summary([300.0]), Summary([100.0]), more_is_better=False) == 1 / 3
    assert ratio(Summary([300.0]), None) is None
    assert ratio(Summary([300.0]), Summary([0.0])) is None


def test_percentiles() -> None:
    ordered = [float(number) for number in range(100)]
    assert (percentile(ordered, 0), percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1)) == (
        0,
        50,
        99,
        99,
    )


def test_an_aim_is_judged_by_its_worst_case() -> None:
    samples = [sample("waypost-memory", 200), sample("node-recovery", 100)]
    aims = {aim.name: aim for aim in judge(summaries(samples))}
    name = "acks (per_s): waypost-memory to node-recovery, at every case"
    assert (aims[name].verdict, aims[name].reached) == (
        "met",
        "2.00x (100 clients); best 2.00x; by CPU time 2.00x to 2.00x",
    )
    samples += [sample("waypost-memory", 170, case="1"), sample("node-recovery", 100, case="1")]
    aims = {aim.name: aim for aim in judge(summaries(samples))}
    assert (aims[name].verdict, aims[name].reached) == (
        "not met",
        "1.70x (1); best 2.00x; by CPU time 1.70x to 2.00x",
    )
    assert aims["memory of an idle connection"].verdict == "unknown"


def test_the_table_compares_with_node() -> None:
    table = rows([sample("waypost-memory", 200), sample("node-recovery", 100)], "per_s", True)
    assert len(table) == 3
    assert "waypost-memory" in table[1]
    assert table[1].count("2.00x") == 2
