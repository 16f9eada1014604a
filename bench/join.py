"""Joining: how long `Room.connect` takes with the official client and with ours, and what it costs the server."""

from __future__ import annotations

import asyncio
import importlib
import math
import time
from array import array
from types import ModuleType
from typing import Any

from greenroom import _native

from .figures import Figure, emit, percentile, say
from .fleet import fleet
from .target import Options, Target, target

__all__ = ["run", "speech_like_packets"]

JOINS = 100
QUICK_JOINS = 15
WARM_UP = 3
FIRST_FRAME_TIMEOUT = 10.0

CLIENTS = {"official client": "livekit.rtc", "greenroom client": "greenroom.rtc"}
"""Both have the same classes, so one program measures both."""
REFERENCE = {"connect p50": 84.0, "connect p99": 131.0, "first audio frame p50": 98.0}


async def run(options: Options) -> None:
    for name, module in CLIENTS.items():
        try:
            rtc = importlib.import_module(module)
        except ImportError:
            say(f"join: {module} is not installed, so it is left out")
            continue
        say(f"join: {name}")
        count = QUICK_JOINS if options.quick else JOINS
        async with target(options) as server:
            await _connects(rtc, name, server, count)
            await _first_frames(rtc, name, server, max(5, count // 4))


async def _connects(rtc: ModuleType, name: str, server: Target, count: int) -> None:
    for number in range(WARM_UP):
        await _join(rtc, server, "join", f"warm-{number}")
    cpu = server.cpu_seconds() if server.pid else math.nan
    times = [await _join(rtc, server, "join", f"joiner-{number}") for number in range(count)]
    cpu = server.cpu_seconds() - cpu if server.pid else math.nan
    for label, q in (("connect p50", 0.5), ("connect p99", 0.99)):
        value = 1000 * percentile(times, q)
        emit(Figure("join", f"{name}, {label}", value, "ms", REFERENCE[label], better="lower", detail={"joins": count}))
    if server.pid:
        emit(Figure("join", f"{name}, server CPU per join and leave", 1000 * cpu / count, "ms", 35.0, better="lower"))


async def _join(rtc: ModuleType, server: Target, room_name: str, identity: str) -> float:
    """Seconds from the call of `connect` to its return."""
    room, token = rtc.Room(), server.token(identity, room_name)
    started = time.perf_counter()
    await room.connect(server.ws_url, token)
    elapsed = time.perf_counter() - started
    await room.disconnect()
    return elapsed


async def _first_frames(rtc: ModuleType, name: str, server: Target, count: int) -> None:
    """From the call of `connect` to the first audio frame of somebody who speaks already."""
    async with fleet(server) as load:
        speaker = await load.join("join-audio", publish=True, subscribe=False)
        await speaker.publish_audio(speech_like_packets())
        await load.wait_connected()
        times = [await _first_frame(rtc, server, "join-audio", f"listener-{number}") for number in range(count)]
    label = "first audio frame p50"
    value = 1000 * percentile(times, 0.5)
    emit(Figure("join", f"{name}, {label}", value, "ms", REFERENCE[label], better="lower", detail={"joins": count}))


async def _first_frame(rtc: ModuleType, server: Target, room_name: str, identity: str) -> float:
    room, token = rtc.Room(), server.token(identity, room_name)
    heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    readers: list[asyncio.Task[None]] = []

    async def read(track: Any) -> None:
        stream = rtc.AudioStream(track)
        async for _ in stream:
            if not heard.done():
                heard.set_result(time.perf_counter())
            break
        await stream.aclose()

    @room.on("track_subscribed")
    def on_track(track: Any, *_: Any) -> None:
        readers.append(asyncio.create_task(read(track)))

    started = time.perf_counter()
    await room.connect(server.ws_url, token)
    try:
        async with asyncio.timeout(FIRST_FRAME_TIMEOUT):
            at = await heard
    finally:
        await asyncio.gather(*readers, return_exceptions=True)
        await room.disconnect()
    return at - started


def speech_like_packets(seconds: float = 2.0) -> list[bytes]:
    """Opus of a voice-like sound: harmonics of 120 Hz that swell and fall, so that decoders have real work."""
    rate = 48_000
    samples = array("h")
    for index in range(int(seconds * rate)):
        at = index / rate
        swell = 0.5 + 0.5 * math.sin(2 * math.pi * 3 * at)
        tone = sum(math.sin(2 * math.pi * 120 * harmonic * at) / harmonic for harmonic in range(1, 9))
        samples.append(int(6000 * swell * tone))
    return _native.opus_packets(samples.tobytes(), 60_000)
