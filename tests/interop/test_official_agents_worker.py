"""An official `livekit-agents` worker against our server: registers, is dispatched, its participant appears."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit.protocol import agent, models

from greenroom.api import (
    CreateAgentDispatchRequest,
    CreateRoomRequest,
    DeleteRoomRequest,
    ListParticipantsRequest,
    LiveKitAPI,
    RoomAgentDispatch,
)
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import until

PYTHON = os.environ.get("GREENROOM_AGENTS_PYTHON", "")
APP = Path(__file__).with_name("official_agent.py")
START_SECONDS = 60.0
"""The package takes its time to import, twice: in the worker and in its job process."""

pytestmark = pytest.mark.skipif(not PYTHON, reason="GREENROOM_AGENTS_PYTHON names no Python with livekit-agents")


@asynccontextmanager
async def running_worker(server: RoomServer):
    """A worker's process, registered; ended on the way out."""
    environment = {
        **os.environ,
        "LIVEKIT_URL": server.url.replace("http", "ws", 1),
        "LIVEKIT_API_KEY": DEV_KEY,
        "LIVEKIT_API_SECRET": DEV_SECRET,
    }
    before = server.dispatcher.worker_count
    process = await asyncio.create_subprocess_exec(
        PYTHON, str(APP), "start", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await until(lambda: server.dispatcher.worker_count > before, "the worker registers", START_SECONDS)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


@pytest.fixture
async def official_worker(room_server: RoomServer):
    async with running_worker(room_server) as process:
        yield process


async def agent_in(api: LiveKitAPI, room: str) -> models.ParticipantInfo:
    async def find() -> models.ParticipantInfo | None:
        listed = await api.room.list_participants(ListParticipantsRequest(room=room))
        return next((p for p in listed.participants if "greeting" in p.attributes), None)

    return await until(find, f"the agent is in {room}", START_SECONDS)


async def job_states(api: LiveKitAPI, room: str) -> list[int]:
    return [
        job.state.status for dispatch in await api.agent_dispatch.list_dispatch(room) for job in dispatch.state.jobs
    ]


async def test_it_is_dispatched_and_its_participant_appears(api: LiveKitAPI, official_worker):
    request = CreateAgentDispatchRequest(agent_name="official", room="den", metadata="ann")
    dispatch = await api.agent_dispatch.create_dispatch(request)
    participant = await agent_in(api, "den")
    assert participant.kind == models.ParticipantInfo.AGENT
    assert participant.state == models.ParticipantInfo.ACTIVE
    assert participant.identity.startswith("agent-AJ_")
    assert participant.attributes["greeting"] == "hello ann"
    assert participant.attributes["lk.agent_name"] == "official"
    assert await job_states(api, "den") == [agent.JobStatus.JS_RUNNING]

    await api.agent_dispatch.delete_dispatch(dispatch.id, "den")

    async def gone() -> bool:
        listed = await api.room.list_participants(ListParticipantsRequest(room="den"))
        return not listed.participants

    await until(gone, "the agent left after its dispatch was deleted")


async def test_a_room_that_names_it_gets_it_and_ends_with_a_successful_job(
    room_server: RoomServer, api: LiveKitAPI, official_worker
):
    await api.room.create_room(CreateRoomRequest(name="den", agents=[RoomAgentDispatch(agent_name="official")]))
    await agent_in(api, "den")
    [job] = room_server.dispatcher.open_jobs
    assert job.state.status == agent.JobStatus.JS_RUNNING
    await api.room.delete_room(DeleteRoomRequest(room="den"))
    await until(lambda: not room_server.dispatcher.open_jobs, "the worker reports the end of its job", 30)
    assert job.state.status == agent.JobStatus.JS_SUCCESS


async def test_when_it_is_killed_another_one_takes_over(room_server: RoomServer, api: LiveKitAPI, official_worker):
    await api.room.create_room(CreateRoomRequest(name="den", agents=[RoomAgentDispatch(agent_name="official")]))
    first = await agent_in(api, "den")
    async with running_worker(room_server):
        official_worker.kill()

        async def replaced() -> bool:
            listed = await api.room.list_participants(ListParticipantsRequest(room="den"))
            return [p.identity != first.identity for p in listed.participants if "greeting" in p.attributes] == [True]

        await until(replaced, "an agent of the other worker is there, the first one is gone", START_SECONDS)
        assert sorted(await job_states(api, "den")) == [agent.JobStatus.JS_RUNNING, agent.JobStatus.JS_FAILED]
        await api.room.delete_room(DeleteRoomRequest(room="den"))
        await until(lambda: not room_server.dispatcher.open_jobs, "the worker reports the end of its job", 30)
