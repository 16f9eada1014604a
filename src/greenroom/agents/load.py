"""The worker's load: how busy the machine's processors are."""

from __future__ import annotations

from collections import deque
from pathlib import Path

_STAT = Path("/proc/stat")


def _processor_times() -> tuple[int, int] | None:
    """(busy, total) in clock ticks over all processors since boot, or None where the kernel does not tell."""
    try:
        fields = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


class ProcessorLoad:
    """Mean use of all processors over the last samples, 0..1. Call `sample()` every half second."""

    def __init__(self, samples: int = 5) -> None:
        self._shares: deque[float] = deque(maxlen=samples)
        self._last = _processor_times()

    def sample(self) -> None:
        """Measure since the last call."""
        now = _processor_times()
        if now is not None and self._last is not None and now[1] > self._last[1]:
            self._shares.append((now[0] - self._last[0]) / (now[1] - self._last[1]))
        self._last = now

    @property
    def value(self) -> float:
        return sum(self._shares) / len(self._shares) if self._shares else 0.0
