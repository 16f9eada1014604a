"""Voice turns: from the end of what a caller says to the first sound of the assistant's answer at the caller."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from .figures import Figure, emit, percentile, say
from .target import ROOT, Options, Target, TargetError, target
from .worker import worker

__all__ = ["ASSISTANT", "LINES", "run"]

ASSISTANT = ROOT / "examples" / "04_kitt.py"
LINES = (
    "What time is it?",
    "How much is two plus three?",
    "Please repeat after me, good morning.",
    "Hello, how are you?",
    "How much is nine minus four?",
    "What day is it today?",
)
QUICK_LINES = LINES[:3]
SECONDS_PER_LINE = 30.0
STAGES = ("endpointing", "transcription", "llm_first_token", "tts_first_audio", "total")


async def run(options: Options) -> None:
    if not ASSISTANT.is_file():
        raise TargetError(f"there is no {ASSISTANT.relative_to(ROOT)}")
    say("turn: the example assistant")
    lines = QUICK_LINES if options.quick else LINES
    async with target(options) as server, worker(server, ASSISTANT, "dev"):
        turns = await _call(server, lines)
    answered = [turn for turn in turns if turn.get("latency_ms") is not None]
    emit(Figure("turn", "lines answered", len(answered), "lines", detail={"said": len(lines)}))
    if not answered:
        raise TargetError("no line was answered")
    latencies = [float(turn["latency_ms"]) for turn in answered]
    for label, q in (("end of speech to first agent audio p50", 0.5), ("end of speech to first agent audio max", 1.0)):
        emit(Figure("turn", label, percentile(latencies, q), "ms", better="lower"))
    # What the agent waits on purpose, to be sure that the caller has finished, is policy and not speed.
    active = [
        turn["latency_ms"] - turn["agent_ms"]["endpointing"] for turn in answered if "endpointing" in turn["agent_ms"]
    ]
    if active:
        emit(
            Figure("turn", "the same without the endpointing policy p50", percentile(active, 0.5), "ms", better="lower")
        )
    for stage in STAGES:
        if values := [float(turn["agent_ms"][stage]) for turn in answered if stage in turn["agent_ms"]]:
            emit(Figure("turn", f"agent's own {stage} p50", percentile(values, 0.5), "ms", better="lower"))


async def _call(server: Target, lines: tuple[str, ...]) -> list[dict[str, Any]]:
    """The turns of one call, as `greenroom call --json` tells them."""
    said = [argument for line in lines for argument in ("--say", line)]
    call = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "call", "--json", "--no-recognise", "--url", server.ws_url),
        *("--api-key", server.api_key, "--api-secret", server.api_secret, *said),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    turns = []
    try:
        assert call.stdout is not None
        async with asyncio.timeout(60 + SECONDS_PER_LINE * len(lines)):
            async for line in call.stdout:
                event = json.loads(line)
                if event["event"] == "turn":
                    turns.append(event)
                elif event["event"] == "error":
                    say(f"turn: {event.get('text', '')}")
            await call.wait()
    except TimeoutError:
        raise TargetError("the call did not end") from None
    finally:
        if call.returncode is None:
            call.kill()
            await call.wait()
    return turns
