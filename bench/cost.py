"""Cost of a packet in the core itself: no sockets, virtual time, counted instructions.

Builds `native/load/examples/forward_cost.rs` and runs it plainly (nanoseconds, allocations) and under callgrind
(instructions: exact to a fraction of a percent, where time is off by a fifth on a shared machine)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .figures import Figure, emit, say
from .target import ROOT, Options, TargetError

__all__ = ["run"]


@dataclass(frozen=True)
class Load:
    kind: str
    publishers: int
    subscribers: int

    @property
    def name(self) -> str:
        return f"{self.kind} {self.publishers} to {self.subscribers}"

    def arguments(self, seconds: int) -> list[str]:
        return [self.kind, *map(str, (self.publishers, self.subscribers, seconds))]


LOADS = (
    Load("video", 1, 60),
    Load("audio", 10, 50),
    # The cost of a packet should not depend on how many streams a peer has.
    Load("audio", 1, 10),
    Load("audio", 100, 10),
)
RUNS = 3
SECONDS = 5
CALLGRIND_SECONDS = 2
PARTS = (("ingest", "ingested"), ("build", "forwarded"), ("rest", "forwarded"))
"""What is measured apart, and the packets that each part is divided by."""
LABELS = {"ingest": "to take a packet", "build": "to forward a packet", "rest": "for all else, by forwarded packet"}


async def run(options: Options) -> None:
    program = await _build()
    for load in LOADS:
        say(f"cost: {load.name}")
        count = 1 if options.quick else RUNS
        runs = [json.loads(await _output(program, *load.arguments(SECONDS))) for _ in range(count)]
        best = min(runs, key=lambda run: run["ns_per_forwarded"])
        for part, _ in PARTS:
            _emit(load, f"time {LABELS[part]}", best[f"{part}_ns"], "ns")
        _emit(load, "allocations per forwarded packet", best["allocations"] / best["forwarded"], "allocations")
        if shutil.which("valgrind"):
            await _instructions(program, load)
        else:
            say("cost: instructions are counted only where valgrind is installed")


def _emit(load: Load, what: str, value: float, unit: str) -> None:
    emit(Figure("cost", f"{load.name}, {what}", value, unit, better="lower"))


async def _build() -> str:
    if not shutil.which("cargo"):
        raise TargetError("cargo is needed to build the program that is measured")
    say("cost: building")
    text = await _output(
        "cargo", "build", "--release", "-p", "greenroom-load", "--example", "forward_cost", "--message-format=json"
    )
    for line in text.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("name") == "forward_cost":
            return message["executable"]
    raise TargetError("cargo did not say where it put forward_cost")


async def _instructions(program: str, load: Load) -> None:
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "callgrind.out"
        text = await _output(
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--collect-atstart=no"),
            *("--toggle-collect=*measured_*", program, *load.arguments(CALLGRIND_SECONDS)),
        )
        counts = json.loads(text)
        table = await _output("callgrind_annotate", "--inclusive=yes", "--threshold=100", str(profile))
    for part, packets in PARTS:
        total = _count(table, rf":forward_cost::measured_{part}\b")
        _emit(load, f"instructions {LABELS[part]}", total / counts[packets], "instructions")
    # Valgrind hides the widest vector instructions from the cipher, so its part is larger there than it is in life.
    bare = _count(table, r":forward_cost::measured_build\b") - _count(table, r"EVP_AEAD_CTX_seal_scatter\b")
    _emit(load, "the same without sealing", bare / counts["forwarded"], "instructions")


def _count(table: str, what: str) -> int:
    found = re.search(rf"^\s*([\d,]+) .*{what}", table, re.MULTILINE)
    return int(found.group(1).replace(",", "")) if found else 0


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise TargetError(f"{command[0]} failed: {errors.decode(errors='replace')[-500:].strip()}")
    return out.decode()
