"""Recognisers of other frameworks, in a process and an environment of their own.

A peer is a script under `peers`. It writes `{"ready": NAME AND VERSION}` and then answers requests, one JSON line each:
`{"kind": "write", "pcm": FILE}` with `{"text", "took"}`, and `{"kind": "listen", "pcm": FILE, "speech_end": SECONDS}`, which plays
the file in real time, with what came how long after the end of speech: `pause` (its voice detector's verdict), `text_at`
(its last text) and `turn` (its verdict that it may answer). Audio files are bare 16 kHz mono int16. Times are in seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenroom import models

from ..process import end
from ..target import TargetError

__all__ = ["INSTALL", "LIVEKIT", "PIPECAT", "Peer", "environment", "peer"]

HERE = Path(__file__).with_name("peers")
FOLDER = "venv-speech-peers"
LOAD_TIMEOUT = 60.0
ANSWER_TIMEOUT = 40.0
STOP_TIMEOUT = 5.0


@dataclass(frozen=True)
class Kind:
    name: str
    script: str
    model: str = ""


PIPECAT = Kind("Pipecat, faster-whisper base", "pipecat_whisper.py", "whisper-base")
LIVEKIT = Kind("livekit-agents, local", "livekit_local.py")
INSTALL = "make speech-peers"
"""What makes the environment."""


def environment() -> Path | None:
    """Its Python, or None when it is not installed. `GREENROOM_SPEECH_PEERS` names another."""
    if given := os.environ.get("GREENROOM_SPEECH_PEERS"):
        return Path(given) if Path(given).exists() else None
    cache = os.environ.get("GREENROOM_CACHE") or os.path.expanduser("~/.cache/greenroom")
    python = Path(cache) / FOLDER / "bin" / "python"
    return python if python.exists() else None


class Peer:
    """A running one. Made by `peer`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, name: str) -> None:
        self._process, self._folder = process, folder
        self.name = name
        """With its version."""
        self.pid = process.pid

    async def ask(self, kind: str, pcm: bytes, **what: float) -> dict[str, Any]:
        """Raises TargetError when it does not answer."""
        file = self._folder / "audio.pcm"
        file.write_bytes(pcm)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"kind": kind, "pcm": str(file), **what}).encode() + b"\n")
        return await self._answer(ANSWER_TIMEOUT)

    async def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
            return dict(json.loads(line))
        except TimeoutError:
            raise TargetError(f"{self.name} did not answer within {seconds:g} s") from None
        except ValueError:
            raise TargetError(f"{self.name} ended or said something else than an answer") from None


@asynccontextmanager
async def peer(kind: Kind) -> AsyncIterator[Peer]:
    """It has loaded. TargetError when it is not installed, or does not start."""
    python = environment()
    if python is None:
        raise TargetError(f"{kind.name} is not installed: {INSTALL}")
    arguments = [str(models.require(kind.model))] if kind.model else []
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *(str(python), str(HERE / kind.script), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            running = Peer(process, Path(folder), kind.name)
            running.name = (await running._answer(LOAD_TIMEOUT))["ready"]
            yield running
        finally:
            await end(process, STOP_TIMEOUT)
