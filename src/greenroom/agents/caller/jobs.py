"""Why an agent is not there, asked of the server: the room itself only shows that somebody left, or never came."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from livekit.protocol import agent

from greenroom.agents.caller.events import AgentFailure
from greenroom.api import LiveKitAPI, ServerError

__all__ = ["failure_of", "job_failure"]

logger = logging.getLogger("greenroom.call")

LOOK_EVERY = 0.5
"""Seconds between questions to the server."""


def failure_of(job: agent.Job) -> AgentFailure | None:
    """What it failed with, or what was raised in it while it goes on."""
    state = job.state
    if state.status == agent.JS_FAILED or (state.status == agent.JS_RUNNING and state.error):
        return AgentFailure(state.error, state.participant_identity)
    return None


async def job_failure(url: str, api_key: str, api_secret: str, room: str, *, new_room: bool) -> AgentFailure:
    """Wait for the failure of a job of `room` (`failure_of`). What had failed before the first look does not count.

    `new_room`: there cannot be any. A server that does not answer, or does not tell, is asked again.
    """
    async with LiveKitAPI(url, api_key, api_secret) as api:
        before: dict[str, AgentFailure] | None = {} if new_room else None
        while True:
            failures = await _failures(api, room)
            if before is None:
                before = failures
            for job_id, failure in failures.items():
                if failure != before.get(job_id):
                    return failure
            await asyncio.sleep(LOOK_EVERY)


async def _failures(api: LiveKitAPI, room: str) -> dict[str, AgentFailure]:
    """By job id."""
    try:
        dispatches = await api.agent_dispatch.list_dispatch(room)
    except (ServerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        # The room may not be open yet. Whoever places the call learns by the call itself when there is no server.
        logger.debug("the server does not tell about jobs in %s: %s", room, error)
        return {}
    jobs = (job for dispatch in dispatches for job in dispatch.state.jobs)
    return {job.id: failure for job in jobs if (failure := failure_of(job)) is not None}
