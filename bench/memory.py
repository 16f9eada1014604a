"""Memory: the idle server, what a room adds, what a participant adds, and what idle participants cost."""

from __future__ import annotations

import asyncio
import time

from livekit.protocol.room import CreateRoomRequest, DeleteRoomRequest

from greenroom.api import LiveKitAPI

from .figures import Figure, emit, say
from .fleet import fleet
from .target import Options, Target, target

__all__ = ["run"]

ROOMS, QUICK_ROOMS = 500, 100
PARTICIPANTS, QUICK_PARTICIPANTS = 100, 50
SETTLE_SECONDS = 3.0
IDLE_SECONDS, QUICK_IDLE_SECONDS = 20.0, 5.0
MB = 1e6


async def run(options: Options) -> None:
    say("memory: rooms and participants")
    async with target(options) as server:
        await asyncio.sleep(SETTLE_SECONDS)
        idle = server.memory()
        emit(
            Figure(
                "memory",
                "idle server, resident",
                idle.rss / MB,
                "MB",
                58.5,
                better="lower",
                detail={"pss_mb": round(idle.pss / MB, 1), "unique_mb": round(idle.unique / MB, 1)},
            )
        )
        await _rooms(server, QUICK_ROOMS if options.quick else ROOMS)
        await _participants(server, options)


async def _rooms(server: Target, count: int) -> None:
    """Empty rooms, made by the API."""
    async with LiveKitAPI(server.url, server.api_key, server.api_secret) as api:
        await api.room.create_room(CreateRoomRequest(name="memory-warm"))
        before = server.memory().rss
        for number in range(count):
            await api.room.create_room(CreateRoomRequest(name=f"memory-{number}", empty_timeout=600))
        after = server.memory().rss
        emit(
            Figure(
                "memory",
                "per empty room",
                (after - before) / count / 1000,
                "kB",
                better="lower",
                detail={"rooms": count},
            )
        )
        for number in range(count):
            await api.room.delete_room(DeleteRoomRequest(room=f"memory-{number}"))


async def _participants(server: Target, options: Options) -> None:
    """Idle participants of one room, each with one connected peer connection and its data channels."""
    count = QUICK_PARTICIPANTS if options.quick else PARTICIPANTS
    async with fleet(server) as load:
        # What the first ones load and cache is not what one more costs.
        await load.join_many(5, "memory")
        await load.wait_connected()
        await asyncio.sleep(SETTLE_SECONDS)
        before = server.memory().rss
        await load.join_many(count, "memory")
        await load.wait_connected()
        await asyncio.sleep(SETTLE_SECONDS)
        after = server.memory().rss
        value = (after - before) / count / 1000
        detail = {"participants": count}
        emit(Figure("memory", "per idle participant", value, "kB", 1100.0, better="lower", detail=detail))
        seconds = QUICK_IDLE_SECONDS if options.quick else IDLE_SECONDS
        cpu, started = server.cpu_seconds(), time.monotonic()
        await asyncio.sleep(seconds)
        percent = 100 * (server.cpu_seconds() - cpu) / (time.monotonic() - started)
        value = percent * 100 / len(load.clients)
        emit(Figure("memory", "CPU of 100 idle participants", value, "% of a core", 5.5, better="lower", detail=detail))
