"""An agent worker as a subprocess."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .process import end
from .target import ROOT, Target, TargetError

__all__ = ["worker"]

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0


@asynccontextmanager
async def worker(server: Target, app: Path, command: str = "start") -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that has registered with `server` and serves `app`. `command` "dev": it takes jobs however busy the machine."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom.agents.run", str(app), command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={
            **os.environ,
            "LIVEKIT_URL": server.ws_url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
            "PYTHONUNBUFFERED": "1",
        },
    )
    lines: list[str] = []
    registered = asyncio.Event()

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(line.decode(errors="replace").rstrip())
            del lines[:-50]
            if "registered as" in lines[-1]:
                registered.set()

    reader = asyncio.create_task(read(), name="worker output")
    waiting = asyncio.create_task(registered.wait())
    try:
        await asyncio.wait([waiting, reader], timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not registered.is_set():
            raise TargetError("the worker did not register: " + " | ".join(lines[-5:]))
        yield process
    finally:
        waiting.cancel()
        await end(process, STOP_TIMEOUT)
        await reader
