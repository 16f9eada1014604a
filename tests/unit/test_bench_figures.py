"""Figures as JSON lines."""

from __future__ import annotations

import json

import pytest
from bench.figures import Figure, percentile


def test_a_ratio_above_one_is_better_whichever_way_the_unit_points():
    faster = json.loads(Figure("forward", "x", 100_000, "packets/CPU-s", 50_000).line())
    sooner = json.loads(Figure("join", "x", 42.0, "ms", 84.0, better="lower").line())
    assert (faster["ratio"], sooner["ratio"]) == (2.0, 2.0)
    assert "livekit-server" in faster["reference_source"]


def test_a_figure_without_a_reference_has_no_ratio():
    line = json.loads(Figure("memory", "per empty room", 3.14159265, "kB", better="lower").line())
    assert (line["value"], line["reference"], line["ratio"]) == (3.142, None, None)
    assert "reference_source" not in line


@pytest.mark.parametrize(("q", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_values_that_were_measured(q, expected):
    assert percentile(list(range(100, 0, -1)), q) == expected
