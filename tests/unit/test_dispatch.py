"""Dispatch: which worker gets which job, and what happens when workers refuse, die or come late.

Rooms and participants are fakes; the workers' WebSocket is real, the workers behind it are fakes that speak the protocol.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.protocol import agent, agent_dispatch, models, room as room_messages

from greenroom.api import AccessToken, TokenVerifier, VideoGrants
from greenroom.server import dispatch as dispatch_module
from greenroom.server.agent_hub import MAX_MESSAGE, AgentHub
from greenroom.server.auth import Authenticator
from greenroom.server.dispatch import Dispatcher
from greenroom.server.manager import RoomEvent
from tests.conftest import until

WAIT = 5.0
KIND = models.ParticipantInfo.Kind


@dataclass
class FakeParticipant:
    identity: str
    kind: int = KIND.STANDARD
    is_publisher: bool = False
    connected_signal: bool = True
    session: int = 0

    @property
    def sid(self) -> str:
        return f"PA_{self.identity}_{self.session}"

    @property
    def is_dependent(self) -> bool:
        return self.kind == KIND.AGENT

    def to_proto(self) -> models.ParticipantInfo:
        return models.ParticipantInfo(sid=self.sid, identity=self.identity)


@dataclass
class FakeRoom:
    name: str
    request: room_messages.CreateRoomRequest
    participants: dict[str, FakeParticipant] = field(default_factory=dict)

    @property
    def sid(self) -> str:
        return f"RM_{self.name}"

    def to_proto(self) -> models.Room:
        return models.Room(sid=self.sid, name=self.name)

    def get_participant(self, identity: str) -> FakeParticipant | None:
        return self.participants.get(identity)

    def remove_participant(self, identity: str, *, sid: str = "") -> bool:
        participant = self.participants.get(identity)
        if participant is None or (sid and participant.sid != sid):
            return False
        del self.participants[identity]
        return True


class FakeManager:
    """Rooms appear, people come and go, and the dispatcher is told, as by the real one."""

    def __init__(self) -> None:
        self.rooms: dict[str, FakeRoom] = {}
        self.callback: Any = None
        self.sessions = itertools.count()

    def on(self, callback):
        self.callback = callback
        return lambda: None

    def get_room(self, name: str) -> FakeRoom | None:
        return self.rooms.get(name)

    async def create_room(self, request: room_messages.CreateRoomRequest) -> FakeRoom:
        return self.open(request.name, *request.agents)

    def open(self, name: str, *agents: agent_dispatch.RoomAgentDispatch) -> FakeRoom:
        room = self.rooms[name] = FakeRoom(name, room_messages.CreateRoomRequest(name=name, agents=agents))
        self.callback(RoomEvent("room_started", room))
        return room

    def finish(self, room: FakeRoom) -> None:
        del self.rooms[room.name]
        self.callback(RoomEvent("room_finished", room))

    def join(self, room: FakeRoom, identity: str, kind: int = KIND.STANDARD) -> FakeParticipant:
        if identity in room.participants:
            self.leave(room, identity)
        participant = room.participants[identity] = FakeParticipant(identity, kind, session=next(self.sessions))
        self.callback(RoomEvent("participant_joined", room, participant))
        return participant

    def publish(self, room: FakeRoom, participant: FakeParticipant) -> None:
        participant.is_publisher = True
        self.callback(RoomEvent("track_published", room, participant, models.TrackInfo(sid="TR_x")))

    def leave(self, room: FakeRoom, identity: str) -> None:
        participant = room.participants.pop(identity)
        self.callback(RoomEvent("participant_left", room, participant))


class FakeWorker:
    """The worker's end of a real socket; the test answers for it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.id = ""

    async def send(self, **message: Any) -> None:
        await self.socket.send_bytes(agent.WorkerMessage(**message).SerializeToString())

    async def receive(self) -> agent.ServerMessage:
        frame = await asyncio.wait_for(self.socket.receive(), WAIT)
        assert frame.type is aiohttp.WSMsgType.BINARY, frame
        return agent.ServerMessage.FromString(frame.data)

    async def get(self, kind: str) -> Any:
        message = await self.receive()
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def take_job(self, **answer: Any) -> agent.JobAssignment:
        """Accept the next offer and wait for its assignment."""
        offer = await self.get("availability")
        await self.answer(offer, **answer)
        assignment = await self.get("assignment")
        assert assignment.job.id == offer.job.id
        return assignment

    async def answer(self, offer: agent.AvailabilityRequest, available: bool = True, **more: Any) -> None:
        response = agent.AvailabilityResponse(job_id=offer.job.id, available=available, **more)
        await self.send(availability=response)

    async def nothing_waits(self) -> None:
        """A ping is answered at once by a pong, so nothing else was sent before."""
        await self.send(ping=agent.WorkerPing(timestamp=7))
        assert (await self.get("pong")).last_timestamp == 7

    async def report(self, job: agent.Job, status: int, error: str = "") -> None:
        await self.send(update_job=agent.UpdateJobStatus(job_id=job.id, status=status, error=error))

    async def close(self) -> None:
        await self.socket.close()


class Stage(SimpleNamespace):
    manager: FakeManager
    hub: AgentHub
    dispatcher: Dispatcher

    async def socket(self, token: str) -> aiohttp.ClientWebSocketResponse:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.session.ws_connect(self.url, headers=headers, max_msg_size=0)

    async def worker(self, agent_name: str = "", **register: Any) -> FakeWorker:
        worker = FakeWorker(await self.socket(agent_token()))
        await worker.send(register=agent.RegisterWorkerRequest(agent_name=agent_name, version="test", **register))
        worker.id = (await worker.get("register")).worker_id
        return worker

    def jobs(self, room: str) -> list[agent.Job]:
        return [job for dispatch in self.dispatcher.listed(room) for job in dispatch.state.jobs]

    async def until_job(self, room: str, status: int) -> agent.Job:
        def found() -> agent.Job | None:
            return next((job for job in self.jobs(room) if job.state.status == status), None)

        return await until(found, f"a job is {agent.JobStatus.Name(status)}")


def agent_token(**grants: Any) -> str:
    return AccessToken("devkey", "secret").with_grants(VideoGrants(**({"agent": True} | grants))).to_jwt()


def wish(agent_name: str, **more: Any) -> agent_dispatch.RoomAgentDispatch:
    return agent_dispatch.RoomAgentDispatch(agent_name=agent_name, **more)


@pytest.fixture
async def stage(monkeypatch):
    monkeypatch.setattr(dispatch_module, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(dispatch_module, "REMOVE_SECONDS", 0.05)
    monkeypatch.setattr(dispatch_module, "ORPHAN_SECONDS", 0.05)
    monkeypatch.setattr(dispatch_module, "RETURN_SECONDS", 0.3)
    manager = FakeManager()
    authenticator = Authenticator({"devkey": "secret"})
    hub = AgentHub(authenticator, models.ServerInfo(version="1.2.3", protocol=17, agent_protocol=1))
    dispatcher = Dispatcher(manager, hub, authenticator)
    dispatcher.start()
    app = web.Application()
    app.router.add_get("/agent", hub.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Stage(manager=manager, hub=hub, dispatcher=dispatcher, session=session, url=server.make_url("/agent"))
        await dispatcher.close()
        await hub.close()


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
    await asyncio.sleep(4 * dispatch_module.SETTLE_SECONDS)
    await worker.nothing_waits()
    assert stage.jobs("den")[0].state.status == agent.JobStatus.JS_RUNNING
    await worker.report(job, agent.JobStatus.JS_SUCCESS)
    await stage.until_job("den", agent.JobStatus.JS_SUCCESS)


async def test_a_job_without_an_agent_is_not_kept_for_ever(stage, monkeypatch):
    monkeypatch.setattr(dispatch_module, "AFTERWORK_SECONDS", 0.1)
    monkeypatch.setattr(dispatch_module, "LAST_WORD_SECONDS", 0.1)
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
    await asyncio.sleep(4 * dispatch_module.SETTLE_SECONDS)
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
    await until(lambda: len(stage.hub.workers) == 1, "the old socket is forgotten")
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
    await until(lambda: len(stage.hub.workers) == 1, "the old socket is forgotten")
    back = await stage.worker()
    await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[job.id]))
    await asyncio.sleep(1.5 * dispatch_module.RETURN_SECONDS)
    await other.nothing_waits()
    stage.manager.join(room, "bot", KIND.AGENT)
    assert [job.state.worker_id for job in stage.jobs("den")] == [back.id]


async def test_an_end_during_the_break_is_told_after_it(stage):
    first = await stage.worker()
    room = stage.manager.open("den")
    job = (await first.take_job(participant_identity="bot")).job
    stage.manager.join(room, "bot", KIND.AGENT)
    await first.close()
    await until(lambda: not stage.hub.workers, "the old socket is forgotten")
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
        await until(lambda: not stage.hub.workers, "the worker is forgotten")
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
    assert list(stage.hub.workers) == [bystander.id]


async def test_answers_to_offers_that_were_never_made_are_ignored(stage):
    worker = await stage.worker()
    await worker.send(availability=agent.AvailabilityResponse(job_id="AJ_none", available=True))
    await worker.report(agent.Job(id="AJ_none"), agent.JobStatus.JS_FAILED)
    await worker.send(update_worker=agent.UpdateWorkerStatus(load=float("nan")))
    await worker.nothing_waits()
