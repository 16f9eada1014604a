"""Why an agent is not there, asked of the server: the room itself only shows that somebody left, or never came."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from livekit.protocol import agent

from greenroom.api import LiveKitAPI, ServerError

__all__ = ["job_failure"]

logger = logging.getLogger("greenroom.call")

LOOK_EVERY = 0.5
"""Seconds between questions to the server."""


async def job_failure(url: str, api_key: str, api_secret: str, room: str, *, new_room: bool) -> str:
    """Wait until a job of `room` fails; returns its error. Jobs that had failed before the first look do not count.

    `new_room`: there cannot be any. A server that does not answer, or does not tell, is asked again.
    """
    async with LiveKitAPI(url, api_key, api_secret) as api:
        before: set[str] | None = set() if new_room else None
        while True:
            failed = await _failed_jobs(api, room)
            if before is None:
                before = set(failed)
            for job_id, error in failed.items():
                if job_id not in before:
                    return error
            await asyncio.sleep(LOOK_EVERY)


async def _failed_jobs(api: LiveKitAPI, room: str) -> dict[str, str]:
    try:
        dispatches = await api.agent_dispatch.list_dispatch(room)
    except (ServerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        # The room may not be open yet. Whoever places the call learns by the call itself when there is no server.
        logger.debug("the server does not tell about jobs in %s: %s", room, error)
        return {}
    jobs = (job for dispatch in dispatches for job in dispatch.state.jobs)
    return {job.id: job.state.error for job in jobs if job.state.status == agent.JS_FAILED}
