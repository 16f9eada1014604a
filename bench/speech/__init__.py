"""Hearing and speaking with the models that are on this machine: accuracy, waiting, whole turns, memory, conversations at once.

Real recordings, real models, real calls on loopback. Parts can be run alone: `--row people`, `--row synthetic`, `--row waiting`,
`--row turns` (one caller), `--row calls` (that, and more and more at once), `--row recorded` (one call between two voices, kept
as a file). A busy machine gives worse figures: its load stands beside them.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path

from greenroom import models
from greenroom.agents.speech.protocols import ProviderError

from ..figures import say
from ..report import Report
from ..target import Options, TargetError
from .accuracy import people, synthetic
from .calls import calls, turns
from .peer import INSTALL, environment
from .recorded import recorded
from .waiting import waiting

__all__ = ["run"]

Part = Callable[[Report, Options], Awaitable[None]]
PARTS: dict[str, tuple[str, Part, float]] = {
    "people": ("Recordings of people", people, 420.0),
    "synthetic": ("Synthetic calls: words wrong", synthetic, 420.0),
    "waiting": ("After the end of speech, recognisers alone: p50, p95", waiting, 300.0),
    "turns": ("Whole calls with all real models", turns, 240.0),
    "calls": ("Whole calls with all real models", calls, 420.0),
    "recorded": ("A recorded call", recorded, 240.0),
}
ASKED_FOR = ("turns", "recorded")
"""Not run unless named: the first is a part of `calls`."""
"""Title, what measures it, and the seconds after which it is given up: on a free machine each needs half of that."""


async def run(options: Options) -> None:
    wanted = [name for name in PARTS if (name in options.rows if options.rows else name not in ASKED_FOR)]
    if not wanted:
        raise TargetError(f"no part is called {', '.join(options.rows)}; there are {', '.join(PARTS)}")
    if environment() is None:
        say(f"speech: without the other frameworks; {INSTALL} installs them in an environment of their own")
    failed = []
    for name in wanted:
        title, part, seconds = PARTS[name]
        load = os.getloadavg()[0]
        report = Report("speech", title, table=options.table)
        why = ""
        try:
            async with asyncio.timeout(seconds):
                await part(report, options)
        except TimeoutError as error:
            why = str(error) or f"not done within {seconds:g} s"
        except (TargetError, ProviderError, models.ModelError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        finally:
            report.note(f"{machine()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
            report.close()
        if why:
            failed.append(f"{name}: {why}")
            say(f"speech: {failed[-1]}")
    if failed:
        raise TargetError("; ".join(failed))


def machine() -> str:
    """Its processors, in words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = " ".join(line.partition(":")[2].split())
            break
    return f"{len(os.sched_getaffinity(0))} processors ({model})"
