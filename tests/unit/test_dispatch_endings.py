"""Dispatch: how jobs end, and what happens when a worker or its agent dies."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from livekit.protocol import agent, agent_dispatch

from greenroom.server import dispatch as dispatch_module
from tests.conftest import until

from .dispatch_stage import KIND, QUICK, wish

# --- ends ------------------------------------------------------------------------------------------------------------


async def test_job_states_are_what_the_worker_reports(stage):
    worker = await stage.worker()
    stage.manager.open("den")
    job = (await worker.take_job()).job
    await stage.until_job("den", agent.JobStatus.JS_PENDING)
    await worker.report(job, agent.JobStatus.JS_RUNNING)
    running = await stage.until_job("den", agent.JobStatus.JS_RUNNING)
    assert running.state.started_at and not running.state.ended_at
    await worker.report(job, agent.JobStatus.JS_FAILED, "division by zero")
    failed = await stage.until_job("den", agent.JobStatus.JS_FAILED)
    assert failed.state.error == "division by zero" and failed.state.ended_at
    await worker.nothing_waits()


async def test_nobody_may_report_another_worker_s_job(stage):
    worker = await stage.worker()
    stage.manager.open("den")
    job = (await worker.take_job()).job
    other = await stage.worker("other")
    await other.report(job, agent.JobStatus.JS_FAILED)
    await other.nothing_waits()
    assert stage.jobs("den")[0].state.status == agent.JobStatus.JS_PENDING


async def test_an_agent_that_leaves_may_work_on_and_its_worker_says_how_it_ended(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await worker.report(job, agent.JobStatus.JS_RUNNING)
    stage.manager.leave(room, "bot")
    await asyncio.sleep(4 * QUICK.settle)
    await worker.nothing_waits()
    assert stage.jobs("den")[0].state.status == agent.JobStatus.JS_RUNNING
    await worker.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)


@pytest.mark.parametrize(
    "stage", [dataclasses.replace(QUICK, afterwork=0.1, last_word=0.1)], indirect=True, ids=["quick"]
)
async def test_a_job_without_an_agent_is_not_kept_for_ever(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    stage.manager.leave(room, "bot")
    assert (await worker.get("termination")).job_id == job.id
    failed = await stage.until_job("den", agent.JobStatus.JS_FAILED)
    assert "left the room" in failed.state.error


async def test_the_clean_up_of_one_job_leaves_the_next_with_its_identity_alone(stage):
    """Deleted, ended or lost: what is removed later is that session, not whoever has the name by then."""
    worker = await stage.worker("kitt")
    room = stage.manager.open("den", wish("kitt"))
    first = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await stage.dispatcher.delete("den", first.dispatch_id)
    assert (await worker.get("termination")).job_id == first.id
    await stage.dispatcher.create(agent_dispatch.CreateAgentDispatchRequest(agent_name="kitt", room="den"))
    second = (await worker.take_job(participant_identity="bot")).job
    new = stage.manager.join(room, "bot", KIND.AGENT)
    await worker.report(first, agent.JobStatus.JS_SUCCESS)
    await worker.report(second, agent.JobStatus.JS_RUNNING)
    await asyncio.sleep(4 * QUICK.settle)
    assert room.participants == {"bot": new}
    (job,) = stage.jobs("den")
    assert (job.id, job.state.status) == (second.id, agent.JobStatus.JS_RUNNING)


async def test_an_agent_that_joins_anew_is_still_its_job_s(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    stage.manager.join(room, "bot", KIND.AGENT)
    await worker.report(job, agent.JobStatus.JS_SUCCESS)
    await until(lambda: not room.participants, "what the job left behind is removed")


async def test_an_agent_that_leaves_at_the_end_of_its_job_has_not(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    stage.manager.leave(room, "bot")
    await worker.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)
    await worker.nothing_waits()


async def test_what_a_finished_job_leaves_in_the_room_is_removed(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await worker.report(job, agent.JobStatus.JS_FAILED, "crashed")
    await until(lambda: not room.participants, "the agent is removed")


async def test_a_deleted_dispatch_ends_its_job_and_its_agent(stage):
    worker = await stage.worker("kitt")
    room = stage.manager.open("den", wish("kitt"))
    job = (await worker.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    deleted = await stage.dispatcher.delete("den", job.dispatch_id)
    assert deleted.state.deleted_at
    assert (await worker.get("termination")).job_id == job.id
    await until(lambda: not room.participants, "the agent is removed")
    assert stage.dispatcher.listed("den") == []


async def test_a_job_on_its_way_to_a_room_that_closed_is_ended(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    job = (await worker.take_job()).job
    stage.manager.finish(room)
    assert (await worker.get("termination")).job_id == job.id


async def test_an_offer_accepted_after_the_room_closed_comes_to_nothing(stage):
    worker = await stage.worker()
    room = stage.manager.open("den")
    offer = await worker.get("availability")
    stage.manager.finish(room)
    await worker.answer(offer)
    await worker.nothing_waits()


# --- a worker's death ------------------------------------------------------------------------------------------------


async def test_a_job_whose_worker_died_goes_to_another(stage):
    first = await stage.worker()
    stage.manager.open("den")
    job = (await first.take_job()).job
    second = await stage.worker()
    await first.close()
    again = (await second.take_job()).job
    assert again.id != job.id and again.dispatch_id == job.dispatch_id
    assert {job.state.error for job in stage.jobs("den")} == {"agent worker is gone", ""}


async def test_an_agent_outlives_its_worker_and_is_replaced_when_it_leaves(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    await first.take_job(participant_identity="bot")
    stage.manager.join(room, "bot", KIND.AGENT)
    await first.close()
    second = await stage.worker()
    await second.nothing_waits()
    stage.manager.leave(room, "bot")
    assert (await second.take_job()).job.room.name == "den"


async def test_an_agent_that_died_with_its_worker_is_replaced_before_its_connection_times_out(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    await first.take_job(participant_identity="bot")
    bot = stage.manager.join(room, "bot", KIND.AGENT)
    second = await stage.worker()
    await first.close()
    bot.connected_signal = False
    assert (await second.take_job()).job.room.name == "den"
    assert not room.participants


async def test_a_worker_that_reconnects_keeps_its_jobs(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await first.close()
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id, "AJ_unheard_of"]))
    assert (await back.get("termination")).job_id == "AJ_unheard_of"
    await back.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)


async def test_a_job_is_claimed_while_its_former_socket_still_seems_open(stage):
    """A connection that broke without a word is noticed half a minute later."""
    first = await stage.worker()
    room = stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    await back.nothing_waits()
    await first.close()
    await until(lambda: len(stage.workers) == 1, "the old socket is forgotten")
    stage.manager.leave(room, "bot")
    await back.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)
    await back.nothing_waits()


async def test_a_job_whose_agent_is_on_its_way_waits_for_its_worker_to_come_back(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    other = await stage.worker()
    await first.close()
    await until(lambda: len(stage.workers) == 1, "the old socket is forgotten")
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    await asyncio.sleep(1.5 * QUICK.back)
    await other.nothing_waits()
    stage.manager.join(room, "bot", KIND.AGENT)
    assert [job.state.worker_id for job in stage.jobs("den")] == [back.id]


async def test_an_end_during_the_break_is_told_after_it(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await first.close()
    await until(lambda: not len(stage.workers), "the old socket is forgotten")
    stage.manager.leave(room, "bot")
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    await back.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)
    await back.nothing_waits()


async def test_a_worker_that_comes_back_too_late_corrects_the_state_and_ends_what_another_has(stage):
    first = await stage.worker()
    stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    await first.close()
    await stage.until_job("den", agent.JobStatus.JS_FAILED)
    other = await stage.worker()
    await other.take_job(participant_identity="bot")
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    assert (await back.get("termination")).job_id == job.id
    await back.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)
    assert len(stage.jobs("den")) == 2


async def test_a_worker_of_another_name_cannot_claim_a_job(stage):
    first = await stage.worker("kitt")
    room = stage.manager.open("den", wish("kitt"))
    job = (await first.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    thief = await stage.worker("other")
    await thief.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    assert (await thief.get("termination")).job_id == job.id
    await thief.report(job, agent.JobStatus.JS_FAILED, "stolen")
    await thief.nothing_waits()
    assert stage.jobs("den")[0].state.status == agent.JobStatus.JS_PENDING


async def test_workers_that_keep_dying_are_not_fed_forever(stage):
    stage.manager.open("den")
    for _ in range(dispatch_module.MAX_LOSSES):
        worker = await stage.worker()
        await worker.take_job()
        await worker.close()
        await until(lambda: not len(stage.workers), "the worker is forgotten")
    worker = await stage.worker()
    await worker.nothing_waits()


async def test_a_dispatch_may_forbid_a_second_try(stage):
    first = await stage.worker("kitt")
    never = agent_dispatch.JobRestartPolicy.JRP_NEVER
    stage.manager.open("den", wish("kitt", restart_policy=never))
    await first.take_job()
    second = await stage.worker("kitt")
    await first.close()
    await stage.until_job("den", agent.JobStatus.JS_FAILED)
    await second.nothing_waits()
