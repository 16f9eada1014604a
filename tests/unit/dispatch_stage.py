"""A stage for the dispatcher: rooms and participants are fakes; the workers' WebSocket is real, the workers behind it are
fakes that speak the protocol."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.protocol import agent, agent_dispatch, models, room as room_messages

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.agent_hub import AgentHub
from greenroom.server.auth import Authenticator
from greenroom.server.dispatch import Dispatcher
from greenroom.server.jobs import JobTimes
from greenroom.server.manager import RoomEvent
from greenroom.server.workers import Workers
from tests.conftest import until

__all__ = ["KIND", "QUICK", "WAIT", "FakeManager", "FakeWorker", "Stage", "agent_token", "open_stage", "wish"]

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


QUICK = JobTimes(settle=0.05, remove=0.05, orphan=0.05, back=0.3)


class Stage(SimpleNamespace):
    manager: FakeManager
    workers: Workers
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


@asynccontextmanager
async def open_stage(times: JobTimes) -> AsyncIterator[Stage]:
    manager, workers = FakeManager(), Workers()
    authenticator = Authenticator({"devkey": "secret"})
    hub = AgentHub(authenticator, models.ServerInfo(version="1.2.3", protocol=17, agent_protocol=1), workers)
    dispatcher = Dispatcher(manager, workers, authenticator, times=times)
    dispatcher.start()
    app = web.Application()
    app.router.add_get("/agent", hub.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = server.make_url("/agent")
        yield Stage(manager=manager, workers=workers, dispatcher=dispatcher, session=session, url=url)
        await dispatcher.close()
        await hub.close()
