"""The sockets of agent workers: who may register, and what ends a connection."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from livekit.protocol import agent

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.agent_hub import MAX_MESSAGE

from .dispatch_stage import WAIT, FakeWorker, agent_token

# --- the socket ------------------------------------------------------------------------------------------------------


async def test_registration_is_answered_with_id_and_server(stage):
    worker = FakeWorker(await stage.socket(agent_token()))
    await worker.send(register=agent.RegisterWorkerRequest(version="1"))
    answer = await worker.get("register")
    assert answer.worker_id.startswith("AW_")
    assert (answer.server_info.version, answer.server_info.agent_protocol) == ("1.2.3", 1)


@pytest.mark.parametrize(
    "token",
    [
        agent_token(agent=False),
        agent_token(agent=False, room_join=None, room_admin=True, room="x"),
        AccessToken("devkey", "guess").with_grants(VideoGrants(agent=True)).to_jwt(),
        AccessToken("other", "secret").with_grants(VideoGrants(agent=True)).to_jwt(),
        "garbage",
    ],
)
async def test_registering_needs_the_agent_grant(stage, token):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await stage.socket(token)
    assert caught.value.status == 401


async def test_a_plain_get_is_not_found(stage):
    async with stage.session.get(stage.url, headers={"Authorization": f"Bearer {agent_token()}"}) as response:
        assert response.status == 404


REGISTER = agent.WorkerMessage(register=agent.RegisterWorkerRequest(version="1")).SerializeToString()


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xff\xff\xff\xff"],
        [b""],
        ["text"],
        [agent.WorkerMessage(ping=agent.WorkerPing()).SerializeToString()],
        [agent.WorkerMessage(register=agent.RegisterWorkerRequest(type=9)).SerializeToString()],
        [agent.WorkerMessage(register=agent.RegisterWorkerRequest(deployment="a b")).SerializeToString()],
        [agent.WorkerMessage(register=agent.RegisterWorkerRequest(deployment="d" * 65)).SerializeToString()],
        [REGISTER, REGISTER],
        [REGISTER, b"\x0a\xff"],
        [REGISTER, b"\x00" * (MAX_MESSAGE + 1)],
    ],
    ids=["garbage", "empty", "text", "early", "type", "deployment", "long", "twice", "later garbage", "oversized"],
)
async def test_a_bad_frame_closes_that_socket_only(stage, frames):
    bystander = await stage.worker("bystander")
    socket = await stage.socket(agent_token())
    for frame in frames:
        if isinstance(frame, str):
            await socket.send_str(frame)
        else:
            await socket.send_bytes(frame)
    async with asyncio.timeout(WAIT):
        while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
    assert socket.closed and socket.close_code in (1008, 1009)
    await bystander.nothing_waits()
    assert list(stage.workers.by_id) == [bystander.id]


async def test_answers_to_offers_that_were_never_made_are_ignored(stage):
    worker = await stage.worker()
    await worker.send(availability=agent.AvailabilityResponse(job_id="AJ_none", available=True))
    await worker.report(agent.Job(id="AJ_none"), agent.JobStatus.JS_FAILED)
    await worker.send(update_worker=agent.UpdateWorkerStatus(load=float("nan")))
    await worker.nothing_waits()
