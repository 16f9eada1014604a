"""PCM: how many audio streams one agent process takes in, decoded, as 48 kHz frames of 10 ms."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from .figures import Figure, emit, say
from .fleet import Fleet, fleet
from .join import speech_like_packets
from .target import ROOT, Options, Target, TargetError, target

__all__ = ["run"]

STEPS, QUICK_STEPS = (25, 50, 100, 200, 300), (25, 100)
WINDOW_SECONDS, QUICK_SECONDS = 10.0, 4.0
DELIVERED = 0.99
"""Less than this part of the frames, and the process is full."""
MISSES = 2
"""Steps in a row that are not delivered whole, before larger ones are not tried: one may be another program's doing."""
REFERENCE_STREAMS = 23.5
"""One process of the reference is full at 22 to 25."""


async def run(options: Options) -> None:
    seconds = options.seconds or (QUICK_SECONDS if options.quick else WINDOW_SECONDS)
    steps = QUICK_STEPS if options.quick else STEPS
    best: dict[str, Any] | None = None
    misses = 0
    async with target(options) as server, fleet(server) as load:
        payloads = speech_like_packets()
        for streams in steps:
            say(f"pcm: {streams} streams")
            await _publish(load, streams, payloads)
            counted = await _receive(server, streams, seconds)
            delivered = counted["frames"] / (streams * 100 * counted["seconds"])
            cores = counted["cpu_seconds"] / counted["seconds"]
            detail = {
                "cores": round(cores, 3),
                "cpu_percent_per_stream": round(100 * cores / streams, 2),
                "resident_mb": round(counted["rss"] / 1e6),
            }
            emit(Figure("pcm", f"{streams} streams, frames delivered", 100 * delivered, "%", detail=detail))
            if delivered >= DELIVERED:
                best, misses = {"streams": streams, "cores": cores}, 0
                continue
            misses += 1
            if misses == MISSES:
                break
    if best is None:
        raise TargetError("not even the fewest streams were delivered whole")
    value = best["streams"] / best["cores"]
    emit(Figure("pcm", "streams per core", value, "streams", REFERENCE_STREAMS, detail={"at": best["streams"]}))


async def _publish(load: Fleet, streams: int, payloads: list[bytes]) -> None:
    """Add speakers until there are `streams`."""
    missing = streams - len(load.clients)
    added = await load.join_many(missing, "pcm", publish=True, subscribe=False)
    for number, speaker in enumerate(added):
        turned = payloads[number % len(payloads) :] + payloads[: number % len(payloads)]
        await speaker.publish_audio(turned)
    await load.wait_connected()


async def _receive(server: Target, streams: int, seconds: float) -> dict[str, float]:
    token = server.token(f"listener-{streams}", "pcm", agent=True)
    receiver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.pcm_receiver", "--url", server.ws_url, "--token", token),
        *("--module", "greenroom.rtc", "--streams", str(streams), "--seconds", str(seconds)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert receiver.stdout is not None
        async with asyncio.timeout(90 + seconds):
            lines = [json.loads(line) async for line in receiver.stdout]
            await receiver.wait()
    except TimeoutError:
        raise TargetError(f"the receiver of {streams} streams did not finish") from None
    finally:
        if receiver.returncode is None:
            receiver.kill()
            await receiver.wait()
    if len(lines) < 2:
        raise TargetError(f"the receiver of {streams} streams ended early (code {receiver.returncode})")
    return lines[-1]
