"""The process that the PCM benchmark measures: an agent that listens to everybody.

Prints one JSON line when every stream has frames, and one with counts after each window."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import time
from typing import Any

from . import process

READY_TIMEOUT = 60.0
SETTLE_SECONDS = 2.0


async def listen(url: str, token: str, module: str, streams: int, seconds: float) -> None:
    rtc = importlib.import_module(module)
    room = rtc.Room()
    frames: dict[int, int] = {}
    ready = asyncio.Event()
    readers: list[asyncio.Task[None]] = []

    async def read(number: int, track: Any) -> None:
        stream = rtc.AudioStream(track, sample_rate=48_000, num_channels=1, frame_size_ms=10)
        async for _ in stream:
            frames[number] = frames.get(number, 0) + 1
            if len(frames) == streams:
                ready.set()

    @room.on("track_subscribed")
    def on_track(track: Any, *_: Any) -> None:
        readers.append(asyncio.create_task(read(len(readers), track)))

    await room.connect(url, token)
    async with asyncio.timeout(READY_TIMEOUT):
        await ready.wait()
    print(json.dumps({"ready": len(frames)}), flush=True)
    await asyncio.sleep(SETTLE_SECONDS)
    before, cpu, started = sum(frames.values()), process.cpu_seconds(os.getpid()), time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - started
    counted = {
        "frames": sum(frames.values()) - before,
        "seconds": elapsed,
        "cpu_seconds": process.cpu_seconds(os.getpid()) - cpu,
        "rss": process.memory(os.getpid()).rss,
    }
    print(json.dumps(counted), flush=True)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await room.disconnect()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(listen(given.url, given.token, given.module, given.streams, given.seconds))


if __name__ == "__main__":
    main()
