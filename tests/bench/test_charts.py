"""Results become charts and tables."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from bench.speed.document import document
from bench.speed.sample import Sample

_CONDITIONS = {
    "when": "today",
    "machine": "a small one",
    "python": "3",
    "node": "v20",
    "packages": {"waypost": "0.1"},
    "rounds": 2,
    "seconds": 1.5,
    "load_average_before": 0.1,
    "load_average_after": 1.2,
}


def test_results_are_put_between_the_marks_of_a_page(tmp_path: Path) -> None:
    samples = [
        Sample("acks", "100 clients", server, {"per_s": rate, "server_us": 1e6 / rate}, number)
        for number in range(2)
        for server, rate in (("waypost-memory", 30_000.0 + number), ("node-recovery", 10_000.0))
    ]
    results, page = tmp_path / "results.json", tmp_path / "speed.md"
    found = {
        "conditions": _CONDITIONS,
        "failures": [],
        "left_out": [],
        "aims": [],
        "samples": [vars(sample) for sample in samples],
    }
    results.write_text(json.dumps(found))
    page.write_text("before\n<!-- measured: python -m bench.speed document -->\nold\n<!-- /measured -->\nafter\n")
    for _ in range(2):  # the second time finds what the first has written
        assert document(results, page) == [tmp_path / "speed-acks.svg", page]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| 100 clients | waypost-memory | 30,000 |") == 1
    bars = [one for one in ElementTree.parse(tmp_path / "speed-acks.svg").iter() if one.tag.endswith("rect")]
    widths = [float(bar.attrib["width"]) for bar in bars[1:]]
    assert round(widths[0] / widths[1], 1) == 3.0
