"""Dispatch: from the request for an agent to its entrypoint, to its connection, and to the caller seeing it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from livekit.protocol.agent_dispatch import CreateAgentDispatchRequest
from livekit.protocol.room import DeleteRoomRequest

from greenroom import rtc
from greenroom.api import LiveKitAPI

from .dispatch_agent import AGENT_NAME
from .figures import Figure, emit, percentile, say
from .target import Options, Target, target
from .worker import worker

__all__ = ["run"]

COUNT, QUICK_COUNT = 50, 10
WARM_UP = 2
TIMEOUT = 20.0
PAUSE_SECONDS = 0.3
"""Between two requests: the pool fills up again meanwhile, as it does in the reference."""

AGENT = Path(__file__).with_name("dispatch_agent.py")


async def run(options: Options) -> None:
    say("dispatch: a warm worker")
    count = QUICK_COUNT if options.quick else COUNT
    async with target(options) as server, worker(server, AGENT):
        async with LiveKitAPI(server.url, server.api_key, server.api_secret) as api:
            for number in range(WARM_UP):
                await _dispatch(api, server, f"dispatch-warm-{number}")
            rounds = [await _dispatch(api, server, f"dispatch-{number}") for number in range(count)]
    for label, key, q, reference in (
        ("request to entrypoint p50", "entered", 0.5, 210.0),
        ("request to agent connected p50", "connected", 0.5, 325.0),
        ("request to agent connected p99", "connected", 0.99, 360.0),
        ("request to caller sees agent p50", "seen", 0.5, None),
        # The reference batches updates about participants without tracks every 3 s: evenly spread over 0 to 3 s.
        ("agent connected to caller sees it p50", "seen_after", 0.5, 1500.0),
        ("agent connected to caller sees it p99", "seen_after", 0.99, 3000.0),
    ):
        value = 1000 * percentile([round[key] for round in rounds], q)
        emit(Figure("dispatch", label, value, "ms", reference, better="lower", detail={"requests": count}))


async def _dispatch(api: LiveKitAPI, server: Target, room_name: str) -> dict[str, float]:
    """Seconds since the request."""
    room = rtc.Room()
    seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    told: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def look(participant: Any) -> None:
        if not seen.done():
            seen.set_result(time.time())
        if "connected" in participant.attributes and not told.done():
            told.set_result(dict(participant.attributes))

    room.on("participant_connected", look)
    room.on("participant_attributes_changed", lambda _changed, participant: look(participant))
    await room.connect(server.ws_url, server.token("caller", room_name))
    try:
        async with asyncio.timeout(TIMEOUT):
            requested = time.time()
            await api.agent_dispatch.create_dispatch(CreateAgentDispatchRequest(room=room_name, agent_name=AGENT_NAME))
            seen_at, attributes = await seen, await told
    finally:
        await room.disconnect()
        await api.room.delete_room(DeleteRoomRequest(room=room_name))
        await asyncio.sleep(PAUSE_SECONDS)
    connected = float(attributes["connected"])
    return {
        "entered": float(attributes["entered"]) - requested,
        "connected": connected - requested,
        "seen": seen_at - requested,
        # The update that announces the agent may be here before `connect` returns there.
        "seen_after": max(0.0, seen_at - connected),
    }
