"""Dispatch: which worker gets which job, and when."""

from __future__ import annotations

import asyncio

import pytest
from livekit.protocol import agent, agent_dispatch, models

from greenroom.api import TokenVerifier
from greenroom.server import dispatch as dispatch_module

from .dispatch_stage import KIND, WAIT, wish

# --- getting a job ---------------------------------------------------------------------------------------------------


async def test_an_unnamed_worker_gets_every_new_room(stage):
    worker = await stage.worker()
    stage.manager.open("den")
    assignment = await worker.take_job(
        participant_identity="ann", participant_name="Ann", participant_attributes={"a": "1"}
    )
    job = assignment.job
    assert job.id.startswith("AJ_") and job.dispatch_id.startswith("AD_")
    assert (job.type, job.room.name, job.state.worker_id) == (agent.JobType.JT_ROOM, "den", worker.id)
    assert assignment.url == "", "empty: the worker's own URL"
    claims = TokenVerifier("devkey", "secret").verify(assignment.token)
    assert (claims.identity, claims.name, claims.kind) == ("ann", "Ann", "agent")
    assert claims.attributes == {"a": "1", "lk.agent_name": ""}
    assert claims.video.room_join and claims.video.room == "den" and claims.video.agent
    assert claims.video.can_publish and claims.video.can_subscribe and claims.video.can_update_own_metadata


async def test_a_worker_that_registers_later_gets_the_rooms_that_are_open(stage):
    stage.manager.open("den")
    worker = await stage.worker()
    assert (await worker.take_job()).job.room.name == "den"


async def test_the_token_has_only_what_the_worker_s_permissions_allow(stage):
    permissions = models.ParticipantPermission(can_subscribe=True, hidden=True)
    worker = await stage.worker(allowed_permissions=permissions)
    stage.manager.open("den")
    video = TokenVerifier("devkey", "secret").verify((await worker.take_job()).token).video
    assert video.can_subscribe and video.hidden
    assert not video.can_publish and not video.can_publish_data and not video.can_update_own_metadata


async def test_the_token_names_the_sources_that_the_worker_may_publish(stage):
    sources = [models.TrackSource.MICROPHONE, models.TrackSource.SCREEN_SHARE]
    worker = await stage.worker(
        allowed_permissions=models.ParticipantPermission(can_publish=True, can_publish_sources=sources)
    )
    stage.manager.open("den")
    video = TokenVerifier("devkey", "secret").verify((await worker.take_job()).token).video
    assert (video.can_publish, video.can_publish_sources) == (True, ["microphone", "screen_share"])


async def test_a_list_of_unknown_sources_does_not_become_permission_for_all(stage):
    allowed = models.ParticipantPermission(can_publish=True, can_publish_sources=[models.TrackSource.UNKNOWN])
    worker = await stage.worker(allowed_permissions=allowed)
    stage.manager.open("den")
    assert not TokenVerifier("devkey", "secret").verify((await worker.take_job()).token).video.can_publish


async def test_a_named_worker_comes_only_when_asked(stage):
    worker = await stage.worker("kitt")
    stage.manager.open("den")
    await worker.nothing_waits()
    request = agent_dispatch.CreateAgentDispatchRequest(
        agent_name="kitt", room="den", metadata="m", attributes={"a": "1"}
    )
    created = await stage.dispatcher.create(request)
    job = (await worker.take_job()).job
    assert (job.dispatch_id, job.agent_name, job.metadata, dict(job.attributes)) == (
        created.id,
        "kitt",
        "m",
        {"a": "1"},
    )


async def test_agents_named_at_creation_replace_the_unnamed_one(stage):
    unnamed, named = await stage.worker(), await stage.worker("kitt")
    stage.manager.open("den", wish("kitt", metadata="m"))
    assert (await named.take_job()).job.metadata == "m"
    await unnamed.nothing_waits()


async def test_a_dispatch_creates_its_room(stage):
    worker = await stage.worker("kitt")
    unnamed = await stage.worker()
    created = await stage.dispatcher.create(
        agent_dispatch.CreateAgentDispatchRequest(agent_name="kitt", room="new", metadata="m")
    )
    job = (await worker.take_job()).job
    assert (job.room.name, job.metadata, job.dispatch_id) == ("new", "m", created.id)
    assert [d.id for d in stage.dispatcher.listed("new")] == [created.id]
    await unnamed.nothing_waits()


async def test_a_room_has_so_many_dispatches_and_no_more(stage, monkeypatch):
    monkeypatch.setattr(dispatch_module, "MAX_DISPATCHES", 2)
    stage.manager.open("den", wish("a"))
    request = agent_dispatch.CreateAgentDispatchRequest(agent_name="b", room="den")
    await stage.dispatcher.create(request)
    with pytest.raises(dispatch_module.TooManyDispatches):
        await stage.dispatcher.create(request)


async def test_deployments_and_namespaces_are_kept_apart(stage):
    canary = await stage.worker("kitt", deployment="canary")
    one, two = await stage.worker("kitt", namespace="one"), await stage.worker("kitt", namespace="two")
    stage.manager.open("den", wish("kitt"))
    assert (await one.take_job()).job.namespace == "one"
    assert (await two.take_job()).job.namespace == "two"
    await canary.nothing_waits()
    stage.manager.open("mine", wish("kitt", deployment="canary"))
    assert (await canary.take_job()).job.deployment == "canary"


async def test_publishers_and_participants_get_a_job_each(stage):
    for_publishers = await stage.worker("p", type=agent.JobType.JT_PUBLISHER)
    for_everybody = await stage.worker("e", type=agent.JobType.JT_PARTICIPANT)
    room = stage.manager.open("den", wish("p"), wish("e"))
    ann = stage.manager.join(room, "ann")
    assert (await for_everybody.take_job()).job.participant.identity == "ann"
    await for_publishers.nothing_waits()
    stage.manager.publish(room, ann)
    stage.manager.publish(room, ann)
    job = (await for_publishers.take_job()).job
    assert (job.type, job.participant.identity) == (agent.JobType.JT_PUBLISHER, "ann")
    bot = stage.manager.join(room, "bot", KIND.AGENT)
    stage.manager.publish(room, bot)
    await for_publishers.nothing_waits()
    await for_everybody.nothing_waits()


# --- choosing --------------------------------------------------------------------------------------------------------


async def test_full_and_loaded_workers_are_passed_over(stage):
    full, busy, free = [await stage.worker() for _ in range(3)]
    await full.send(update_worker=agent.UpdateWorkerStatus(status=agent.WorkerStatus.WS_FULL))
    await busy.send(update_worker=agent.UpdateWorkerStatus(status=agent.WorkerStatus.WS_AVAILABLE, load=1.0))
    await full.nothing_waits()
    await busy.nothing_waits()
    for name in "abcde":
        stage.manager.open(name)
        assert (await free.take_job()).job.room.name == name


async def test_a_refused_job_goes_to_the_next_worker(stage):
    first, second = await stage.worker(), await stage.worker()
    stage.manager.open("den")
    frames = [asyncio.ensure_future(worker.get("availability")) for worker in (first, second)]
    await asyncio.wait(frames, return_when=asyncio.FIRST_COMPLETED, timeout=WAIT)
    asked, other = (first, second) if frames[0].done() else (second, first)
    await asked.answer(frames[0 if asked is first else 1].result(), available=False)
    offer = await frames[1 if asked is first else 0]
    await other.answer(offer)
    assert (await other.get("assignment")).job.id == offer.job.id


async def test_a_job_refused_for_good_is_offered_to_nobody(stage):
    worker = await stage.worker()
    stage.manager.open("den")
    await worker.answer(await worker.get("availability"), available=False, terminate=True)
    await worker.nothing_waits()
    other = await stage.worker()
    await other.nothing_waits()


async def test_a_worker_that_was_full_gets_what_waited(stage):
    worker = await stage.worker()
    await worker.send(update_worker=agent.UpdateWorkerStatus(status=agent.WorkerStatus.WS_FULL))
    await worker.nothing_waits()
    stage.manager.open("den")
    await worker.nothing_waits()
    await worker.send(update_worker=agent.UpdateWorkerStatus(status=agent.WorkerStatus.WS_AVAILABLE))
    assert (await worker.take_job()).job.room.name == "den"
