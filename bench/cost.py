"""Cost of a forwarded packet in the core itself: no sockets, virtual time, counted instructions.

Builds `native/load/examples/forward_cost.rs` and runs it plainly (nanoseconds, allocations) and under callgrind
(instructions: exact to a fraction of a percent, where time is off by a fifth on a shared machine)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from pathlib import Path

from .figures import Figure, emit, say
from .target import ROOT, Options, TargetError

__all__ = ["run"]

LOADS = (
    ("video", 1, 30),
    ("audio", 10, 30),
    # The cost of a packet should not depend on how many streams a peer has.
    ("audio", 1, 10),
    ("audio", 100, 10),
)
RUNS = 3
SECONDS = 5
CALLGRIND_SECONDS = 2


async def run(options: Options) -> None:
    program = await _build()
    for kind, publishers, subscribers in LOADS:
        name = f"{kind} {publishers} to {subscribers}"
        say(f"cost: {name}")
        load = (kind, str(publishers), str(subscribers))
        runs = [json.loads(await _output(program, *load, str(SECONDS))) for _ in range(1 if options.quick else RUNS)]
        best = min(run["ns_per_packet"] for run in runs)
        emit(Figure("cost", f"{name}, core time per packet", best, "ns", better="lower"))
        allocations = runs[0]["allocations"] / runs[0]["packets"]
        emit(Figure("cost", f"{name}, allocations per packet", allocations, "allocations", better="lower"))
        if shutil.which("valgrind"):
            await _instructions(program, name, load)
        else:
            say("cost: instructions are counted only where valgrind is installed")


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


async def _instructions(program: str, name: str, load: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "callgrind.out"
        text = await _output(
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--collect-atstart=no"),
            *("--toggle-collect=*measured_step*", program, *load, str(CALLGRIND_SECONDS)),
        )
        packets = json.loads(text)["packets"]
        table = await _output("callgrind_annotate", "--inclusive=yes", "--threshold=100", str(profile))
    total = _count(table, r"PROGRAM TOTALS")
    sealing = _count(table, r"EVP_AEAD_CTX_seal_scatter\b")
    emit(Figure("cost", f"{name}, instructions per packet", total / packets, "instructions", better="lower"))
    # Valgrind hides the widest vector instructions from the cipher, so its part is larger there than it is in life.
    value = (total - sealing) / packets
    emit(Figure("cost", f"{name}, instructions per packet without sealing", value, "instructions", better="lower"))


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
