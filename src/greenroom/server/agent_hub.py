"""`/agent`: the WebSockets that agent workers hold open. What comes of them is told to `workers`.

Reference 4.1 and 4.2. Binary `livekit.WorkerMessage` in, `livekit.ServerMessage` out.
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import WSCloseCode, WSMsgType, web
from google.protobuf.message import DecodeError
from livekit.protocol import agent, models

from .auth import Authenticator, AuthError
from .bounds import DEPLOYMENT
from .ids import new_id
from .workers import Workers

__all__ = ["AgentHub", "SocketWorker"]

logger = logging.getLogger("greenroom.server.agents")

MAX_MESSAGE = 2 * 1024 * 1024
REGISTER_SECONDS = 10.0
OFFER_SECONDS = 10.0
SEND_SECONDS = 5.0
"""A worker that takes longer to read a message is disconnected."""
HEARTBEAT_SECONDS = 30.0
JOB_TYPES = (agent.JobType.JT_ROOM, agent.JobType.JT_PUBLISHER, agent.JobType.JT_PARTICIPANT)


class BadFrame(Exception):
    """The worker sent something that ends its connection. The text is the close reason."""


class SocketWorker:
    """A `Worker` whose socket this is."""

    def __init__(self, socket: web.WebSocketResponse, api_key: str, request: agent.RegisterWorkerRequest) -> None:
        self.id = new_id("AW")
        self.api_key = api_key
        self.agent_name: str = request.agent_name
        self.namespace: str = request.namespace
        self.deployment: str = request.deployment
        self.job_type: int = request.type
        self.version: str = request.version
        self.permissions: models.ParticipantPermission = (
            request.allowed_permissions
            if request.HasField("allowed_permissions")
            else models.ParticipantPermission(
                can_subscribe=True, can_publish=True, can_publish_data=True, can_update_metadata=True
            )
        )
        self.full = False
        self.load = 0.0
        self.job_count = 0
        self._socket = socket
        self._offers: dict[str, asyncio.Future[agent.AvailabilityResponse]] = {}

    @property
    def available(self) -> bool:
        return not self.full and not self._socket.closed

    async def offer(self, job: agent.Job) -> agent.AvailabilityResponse | None:
        """Ask whether it takes the job. None when it does not answer in time or is gone."""
        answer: asyncio.Future[agent.AvailabilityResponse] = asyncio.get_running_loop().create_future()
        self._offers[job.id] = answer
        try:
            request = agent.AvailabilityRequest(job=job)
            if not await self.send(agent.ServerMessage(availability=request)):
                return None
            return await asyncio.wait_for(answer, OFFER_SECONDS)
        except TimeoutError:
            logger.warning("worker %s did not answer an offer within %g s", self.id, OFFER_SECONDS)
            return None
        except ConnectionError:
            return None
        finally:
            del self._offers[job.id]

    async def assign(self, job: agent.Job, token: str) -> bool:
        return await self.send(agent.ServerMessage(assignment=agent.JobAssignment(job=job, token=token)))

    async def terminate(self, job_id: str) -> bool:
        return await self.send(agent.ServerMessage(termination=agent.JobTermination(job_id=job_id)))

    async def send(self, message: agent.ServerMessage) -> bool:
        """False when the worker is gone, or too slow and therefore sent away."""
        if self._socket.closed:
            return False
        try:
            await asyncio.wait_for(self._socket.send_bytes(message.SerializeToString()), SEND_SECONDS)
        except (TimeoutError, ConnectionError):
            # closing waits for the peer, which is not reading; dropping the transport ends the receive loop
            await asyncio.shield(self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, drain=False))
            return False
        return True

    def answered(self, response: agent.AvailabilityResponse) -> None:
        offer = self._offers.get(response.job_id)
        if offer and not offer.done():
            offer.set_result(response)

    def lost(self) -> None:
        for offer in self._offers.values():
            if not offer.done():
                offer.set_exception(ConnectionResetError("the worker is gone"))

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, message=reason.encode()[:120])


class AgentHub:
    """Takes workers in and tells `workers` of them."""

    def __init__(self, authenticator: Authenticator, server_info: models.ServerInfo, workers: Workers) -> None:
        self._workers = workers
        self._authenticator = authenticator
        self._server_info = server_info
        self._sockets: set[web.WebSocketResponse] = set()
        self._closing = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One worker's connection, from registration to its end."""
        try:
            auth = self._authenticator.require(request)
            auth.require("agent")
        except AuthError as error:
            return web.Response(status=error.status, text=str(error))
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404)
        if self._closing:
            return web.Response(status=503, text="server is shutting down")
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT_SECONDS, timeout=2.0)
        await socket.prepare(request)
        self._sockets.add(socket)
        worker: SocketWorker | None = None
        try:
            worker = await self._register(socket, auth.api_key)
            await self._serve(socket, worker)
        except BadFrame as error:
            logger.warning("agent worker %s sent away: %s", worker.id if worker else "(unregistered)", error)
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
        finally:
            self._sockets.discard(socket)
            if worker:
                self._forget(worker)
            if not socket.closed:
                await socket.close()
        return socket

    async def _register(self, socket: web.WebSocketResponse, api_key: str) -> SocketWorker:
        try:
            message = await asyncio.wait_for(_receive(socket), REGISTER_SECONDS)
        except TimeoutError as error:
            raise BadFrame(f"no registration within {REGISTER_SECONDS:g} s") from error
        if message is None or message.WhichOneof("message") != "register":
            raise BadFrame("the first message must be a registration")
        request = message.register
        if request.type not in JOB_TYPES:
            raise BadFrame("invalid job type")
        if not DEPLOYMENT.fullmatch(request.deployment):
            raise BadFrame("invalid deployment")
        worker = SocketWorker(socket, api_key, request)
        response = agent.RegisterWorkerResponse(worker_id=worker.id, server_info=self._server_info)
        if not await worker.send(agent.ServerMessage(register=response)):
            raise BadFrame("gone while registering")
        logger.info("agent worker %s registered as %r (%s)", worker.id, worker.agent_name, worker.version)
        self._workers.add(worker)
        return worker

    async def _serve(self, socket: web.WebSocketResponse, worker: SocketWorker) -> None:
        while (message := await _receive(socket)) is not None:
            kind = message.WhichOneof("message")
            if kind == "availability":
                worker.answered(message.availability)
            elif kind == "update_worker":
                self._update_worker(worker, message.update_worker)
            elif kind == "update_job":
                self._workers.job_updated(worker, message.update_job)
            elif kind == "migrate_job":
                asked = list(dict.fromkeys(message.migrate_job.job_ids))
                claimed = await self._workers.claim(worker, asked)
                for job_id in asked:
                    if job_id not in claimed:
                        await worker.terminate(job_id)
            elif kind == "ping":
                pong = agent.WorkerPong(last_timestamp=message.ping.timestamp, timestamp=int(time.time() * 1000))
                await worker.send(agent.ServerMessage(pong=pong))
            elif kind == "register":
                raise BadFrame("already registered")

    def _update_worker(self, worker: SocketWorker, update: agent.UpdateWorkerStatus) -> None:
        worker.load = min(max(update.load, 0.0), 1.0) if update.load == update.load else 1.0  # NaN is full
        worker.job_count = update.job_count
        was_full = worker.full
        if update.HasField("status"):
            worker.full = update.status == agent.WorkerStatus.WS_FULL
        worker.full = worker.full or update.draining
        if was_full and not worker.full:
            self._workers.ready(worker)

    def _forget(self, worker: SocketWorker) -> None:
        worker.lost()
        logger.info("agent worker %s (%r) is gone", worker.id, worker.agent_name)
        self._workers.remove(worker)

    async def close(self) -> None:
        self._closing = True
        farewells = [
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"server is shutting down") for socket in self._sockets
        ]
        await asyncio.gather(*farewells, return_exceptions=True)


async def _receive(socket: web.WebSocketResponse) -> agent.WorkerMessage | None:
    """The next message; None when the connection ended. BadFrame for what is no WorkerMessage."""
    frame = await socket.receive()
    if frame.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
        return None
    if frame.type is not WSMsgType.BINARY:
        raise BadFrame("frames must be binary")
    try:
        return agent.WorkerMessage.FromString(frame.data)
    except DecodeError as error:
        raise BadFrame("not a WorkerMessage") from error
