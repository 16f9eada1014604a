"""Figures: one JSON line each, and what the server to compare with reaches."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["REFERENCE_SOURCE", "Figure", "emit", "percentile", "say"]

REFERENCE_SOURCE = "livekit-server 1.13.5 and livekit 1.2 / livekit-agents 1.8.9, loopback, 2 virtual cores at 2.3 GHz"
"""What `reference` was measured on: another machine of the same kind, see docs/bench.md. Ratios are good to about 20 %."""


@dataclass(frozen=True)
class Figure:
    """One measured number. `reference`: what the peers reach, None where nobody measured it."""

    bench: str
    figure: str
    value: float
    unit: str
    reference: float | None = None
    better: str = "higher"
    """Whether more of it is "higher" or "lower" praise: `ratio` above 1 is better than the reference either way."""
    detail: dict[str, Any] | None = None
    source: str = REFERENCE_SOURCE
    """What `reference` was measured on."""

    def line(self) -> str:
        ratio = None
        if self.reference and self.value:
            ratio = self.value / self.reference if self.better == "higher" else self.reference / self.value
        content: dict[str, Any] = {
            "bench": self.bench,
            "figure": self.figure,
            "value": _rounded(self.value),
            "unit": self.unit,
            "reference": self.reference,
            "ratio": _rounded(ratio) if ratio is not None else None,
        }
        if self.reference is not None:
            content |= {"reference_source": self.source, "better": self.better}
        if self.detail:
            content["detail"] = self.detail
        return json.dumps(content)


def emit(figure: Figure) -> None:
    """To standard output, at once."""
    print(figure.line(), flush=True)


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest rank. ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def _rounded(value: float) -> float:
    """Four significant digits: nothing here is better than that."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, max(0, 3 - math.floor(math.log10(abs(value)))))
