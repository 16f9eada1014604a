"""Load in containers: control groups of both versions, nested ones, and the processors a process is bound to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from greenroom.agents.load import ProcessorLoad, find_quotas, usable_cpus


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stat(busy: int, idle: int) -> str:
    return "".join(f"cpu{n} {1000 + busy} 0 0 {1000 + idle} 0 0 0 0 0 0\n" for n in sorted(os.sched_getaffinity(0)))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


V2 = {
    "proc/self/cgroup": "0::/box/inner\n",
    "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/box/cpu.stat": "usage_usec 0\nuser_usec 0\n",
    "sys/fs/cgroup/box/inner/cpu.max": "max 100000\n",
    "sys/fs/cgroup/box/inner/cpu.stat": "usage_usec 0\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/box\n3:cpu,cpuacct:/box\n",
    "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/box/cpuacct.usage": "0\n",
}
V1_APART = {
    "proc/self/cgroup": "2:cpuacct:/box\n1:cpu:/box\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpuacct/box/cpuacct.usage": "0\n",
}
# Docker with v1: the path is the host's, the mount is the container's group.
V1_HOST_PATH = {
    "proc/self/cgroup": "3:cpu,cpuacct:/docker/0123\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "0\n",
}


@pytest.mark.parametrize(
    ("files", "used"),
    [
        (V2, ("sys/fs/cgroup/box/cpu.stat", "usage_usec 400000\n")),
        (V1, ("sys/fs/cgroup/cpu,cpuacct/box/cpuacct.usage", "400000000\n")),
        (V1_APART, ("sys/fs/cgroup/cpuacct/box/cpuacct.usage", "400000000\n")),
        (V1_HOST_PATH, ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "400000000\n")),
    ],
    ids=["v2", "v1", "v1 apart", "v1 with the host's path"],
)
def test_half_a_processor_is_nearly_used_up_while_the_machine_idles(tmp_path, files, used):
    write(tmp_path, files | {"proc/stat": stat(0, 0)})
    clock = Clock()
    load = ProcessorLoad(root=tmp_path, clock=clock)
    clock.now = 1.0
    write(tmp_path, {"proc/stat": stat(5, 95), used[0]: used[1]})
    load.sample()
    assert load.value == pytest.approx(0.8)
    assert usable_cpus(tmp_path) == 0.5


def test_a_busy_machine_counts_also_where_the_own_share_is_idle(tmp_path):
    write(tmp_path, V2 | {"proc/stat": stat(0, 0)})
    clock = Clock()
    load = ProcessorLoad(root=tmp_path, clock=clock)
    clock.now = 1.0
    write(tmp_path, {"proc/stat": stat(90, 10)})
    load.sample()
    assert load.value == pytest.approx(0.9)


@pytest.mark.parametrize("limit", ["", "max 100000\n", "garbage\n", "1 0\n", "-1 100000\n"])
def test_without_a_readable_limit_the_processors_count(tmp_path, limit):
    write(tmp_path, V2 | {"proc/stat": stat(0, 0), "sys/fs/cgroup/box/cpu.max": limit})
    assert find_quotas(tmp_path) == []
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_a_group_that_vanishes_is_left_out(tmp_path):
    write(tmp_path, V2 | {"proc/stat": stat(0, 0)})
    clock = Clock()
    load = ProcessorLoad(root=tmp_path, clock=clock)
    clock.now = 1.0
    write(tmp_path, {"proc/stat": stat(20, 80)})
    (tmp_path / "sys/fs/cgroup/box/cpu.stat").unlink()
    load.sample()
    assert load.value == pytest.approx(0.2)
