"""The worker's load: how busy the processors are that it may use.

In a container that is not the machine's processors but its share of them: the quota of its control group, and of every
group around it (v1: `cpu.cfs_quota_us`, v2: `cpu.max`), and the processors it is bound to. The load is the highest of
these shares, for the first that is used up is the one that slows jobs down.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Quota:
    """A control group with a limit."""

    cpus: float
    """Processors' worth of time that it may use."""
    usage: Callable[[], float]
    """Seconds of processor time used so far. OSError or ValueError when the group is gone."""


def usable_cpus(root: Path = ROOT) -> float:
    """Processors' worth of time this process may use: bound processors, and the tightest quota around it."""
    bound = float(len(os.sched_getaffinity(0)))
    return min([bound, *(quota.cpus for quota in find_quotas(root))])


def find_quotas(root: Path = ROOT) -> list[Quota]:
    """The limits of this process's control group and of the groups around it. Empty where there are none."""
    quotas: list[Quota] = []
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for base in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                quotas += _walk(root / base, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for base in (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"):
                if (root / base).is_dir():
                    quotas += _walk(root / base, path, _quota_v1)
                    break
    return quotas


def _walk(base: Path, path: str, read: Callable[[Path], Quota | None]) -> Iterator[Quota]:
    """The group and those around it. Inside a container the path may be the host's, and the mount is the group itself."""
    group = base / path.strip("/")
    if not group.is_dir():
        group = base
    for folder in (group, *group.parents):
        if (quota := read(folder)) is not None:
            yield quota
        if folder == base:
            return


def _quota_v2(folder: Path) -> Quota | None:
    limit, period = [*_words(folder / "cpu.max"), "", ""][:2]
    if not limit.isdecimal() or not period.isdecimal() or not int(period):
        return None

    def usage() -> float:
        for line in (folder / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
        raise ValueError("no usage_usec")

    return Quota(int(limit) / int(period), usage)


def _quota_v1(folder: Path) -> Quota | None:
    limit, period = "".join(_words(folder / "cpu.cfs_quota_us")), "".join(_words(folder / "cpu.cfs_period_us"))
    if not limit.isdecimal() or not period.isdecimal() or not int(period):
        return None
    # The two controllers are usually mounted together, and else beside each other.
    accounts = folder / "cpuacct.usage"
    if not accounts.exists():
        parts = ["cpuacct" if part == "cpu" else part for part in folder.parts]
        accounts = Path(*parts) / "cpuacct.usage"
    return Quota(int(limit) / int(period), lambda: int(accounts.read_text()) / 1e9)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _processor_times(root: Path) -> tuple[int, int] | None:
    """(busy, total) in clock ticks since boot of the processors that this process may run on; None when not told."""
    busy = total = 0
    bound = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        for line in _lines(root / "proc/stat"):
            name, *fields = line.split()
            if name in bound:
                ticks = [int(value) for value in fields[:8]]
                total += sum(ticks)
                busy += sum(ticks) - ticks[3] - ticks[4]
    except (ValueError, IndexError):
        return None
    return (busy, total) if total else None


class ProcessorLoad:
    """Mean use of what may be used over the last samples, 0..1. Call `sample()` every half second."""

    def __init__(self, samples: int = 5, *, root: Path = ROOT, clock: Callable[[], float] = time.monotonic) -> None:
        """`root` and `clock` are for tests: where `/proc` and `/sys` are, and seconds."""
        self._root = root
        self._clock = clock
        self._shares: deque[float] = deque(maxlen=samples)
        self._quotas = find_quotas(root)
        self._last = _processor_times(root)
        self._at = clock()
        self._used = [_usage(quota) for quota in self._quotas]

    def sample(self) -> None:
        """Measure since the last call."""
        shares = []
        now = _processor_times(self._root)
        if now is not None and self._last is not None and now[1] > self._last[1]:
            shares.append((now[0] - self._last[0]) / (now[1] - self._last[1]))
        self._last = now
        at, used = self._clock(), [_usage(quota) for quota in self._quotas]
        if at > self._at:
            for quota, before, after in zip(self._quotas, self._used, used, strict=True):
                if after >= before:  # false for NaN, too
                    shares.append((after - before) / (at - self._at) / quota.cpus)
        self._at, self._used = at, used
        if shares:
            self._shares.append(min(1.0, max(shares)))

    @property
    def value(self) -> float:
        return sum(self._shares) / len(self._shares) if self._shares else 0.0


def _usage(quota: Quota) -> float:
    try:
        return quota.usage()
    except (OSError, ValueError):
        return math.nan
