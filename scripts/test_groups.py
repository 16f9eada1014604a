#!/usr/bin/env python3
"""Runs the groups of tests, those that wait beside those that compute, and prints every runner's summary.

    scripts/test_groups.py            all groups, in stages: lanes side by side, at last what needs the machine for itself
    scripts/test_groups.py rust web   these groups, one after the other

A group that passed is told with its runner's closing lines; of one that failed the whole output is shown. Every output is
in build/logs/test-GROUP.log. The exit code is 1 when a group failed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "logs"
CACHE = Path(os.environ.get("GREENROOM_CACHE") or Path.home() / ".cache" / "greenroom")
DEFAULTS = {
    "CARGO_TARGET_DIR": str(CACHE / "target"),
    "GREENROOM_AGENTS_PYTHON": str(CACHE / "venv-official-agents" / "bin" / "python"),
}
"""As the Makefile has them."""
LIMIT = 40 * 60.0
"""Seconds for one group: a cold build of the Rust tests takes ten minutes with another group beside it."""
CARGO = ("cargo", "test", "--release", "--locked")
PEER = ("-p", "greenroom-peer")
PYTEST = (".venv/bin/python", "-m", "pytest", "--dist", "loadfile")

GROUPS: dict[str, Sequence[Sequence[str]]] = {
    "lint": [["make", "-s", "lint"]],
    "rust": [
        [*CARGO, "--workspace", "--exclude", "greenroom-peer"],
        [*CARGO, *PEER, "--no-run"],
        ["make", "-s", "fuzz"],
    ],
    "web": [["make", "-s", "test-web"]],
    "unit": [[*PYTEST, "-n", "2", "-m", "not quiet", "tests/unit", "tests/sim"]],
    "interop": [[*PYTEST, "-n", "2", "-m", "not quiet", "tests/interop"]],
    "e2e": [[*PYTEST, "-n", "2", "-m", "not quiet", "tests/e2e"]],
    "media": [[*CARGO, *PEER]],
    "hearing": [[*PYTEST, "-n", "2", "-m", "quiet", "tests/unit"]],
    "speech": [[*PYTEST, "-m", "quiet", "tests/interop", "tests/e2e"]],
}
STAGES = (
    (("lint", "rust", "interop"), ("web", "unit", "e2e")),
    (("media",),),
    (("hearing", "speech"),),
)
"""One after the other; the lanes of one side by side. The first keeps both cores busy and waits as well; the others run in
real time: media, recognition and people who speak, whom a busy machine hears too late."""
CLOSING = re.compile(
    r"^(=+ .*\d+ (passed|failed|error|skipped|deselected).*=+|\s*Tests? .*\d+ passed.*|\s*Test Files .*"
    r"|test result: (?!ok\. 0 passed; 0 failed; 0 ignored).*|\d+ passed, \d+ failed.*|All checks passed!|Success: .*"
    r"|\d+ files already formatted|SKIPPED .*)$"
)
PLAIN = re.compile(r"\x1b\[[0-9;]*m")


class Run:
    """What was run, and how it ended."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def lane(self, names: Sequence[str]) -> None:
        for name in names:
            self.group(name)

    def group(self, name: str) -> None:
        log = LOGS / f"test-{name}.log"
        began = time.monotonic()
        self._say(f"... {name}")
        problem = ""
        with log.open("wb") as output:
            for command in GROUPS[name]:
                if problem := self._run(command, output, began + LIMIT):
                    break
        lines = PLAIN.sub("", log.read_text(errors="replace")).splitlines()
        shown = lines if problem else [line for line in lines if CLOSING.match(line)]
        with self._lock:
            seconds = time.monotonic() - began
            print(f"\n=== {name}: {problem or 'passed'} ({seconds:.0f} s)", *shown, sep="\n", flush=True)
            if problem:
                self.failed.append(name)

    def _run(self, command: Sequence[str], output: BinaryIO, deadline: float) -> str:
        """What went wrong, in words; empty when nothing did."""
        environment = {**DEFAULTS, **os.environ, "CARGO_TERM_COLOR": "never"}
        with self._lock:
            if self._stopped:
                return "stopped"
            # A session of its own, so that whatever it started ends with it.
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            self._processes.add(process)
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(process)
            return f"not done within {LIMIT / 60:.0f} minutes"
        finally:
            with self._lock:
                self._processes.discard(process)
        return f"FAILED, exit code {code}" if code else ""

    def _say(self, text: str) -> None:
        with self._lock:
            print(f"{text} at {time.monotonic() - self.began:.0f} s", flush=True)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._processes:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended
    process.wait()


def main(names: Sequence[str]) -> int:
    if unknown := [name for name in names if name not in GROUPS]:
        print(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    run = Run()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the groups have sessions of their own, and end with us
    try:
        for stage in ((names,),) if names else STAGES:
            lanes = [threading.Thread(target=run.lane, args=(lane,), daemon=True) for lane in stage]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                while lane.is_alive():
                    lane.join(0.5)
    except KeyboardInterrupt:
        run.stop()
        return 130
    seconds = time.monotonic() - run.began
    print(f"\n{'FAILED: ' + ', '.join(run.failed) if run.failed else 'All groups passed'} ({seconds:.0f} s)")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
