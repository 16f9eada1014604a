"""A cluster of two for tests: rooms whose name begins with "b" live on the second server, which is reached over HTTP.

What a real one does beside this is to find the nodes and to agree with them about places."""

from __future__ import annotations

import asyncio
import copy
import datetime
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from livekit.protocol import agent, agent_dispatch, room as room_messages

from greenroom.server.app import RoomServer
from greenroom.server.arrival import Arrival
from greenroom.server.auth import Auth
from greenroom.server.config import RtcConfig, ServerConfig
from greenroom.server.connection import SignalSocket
from greenroom.server.node import LocalNode
from greenroom.server.router import Node, Unreachable
from greenroom.server.rules import Refused
from greenroom.server.twirp import TwirpError
from greenroom.server.workers import Worker, Workers

TTL = datetime.timedelta(minutes=1)
LOST = 1011
"""How a client's socket is closed when the other node is gone."""

RESPONSES = {
    (service.name, method.name): method.output_type
    for file in (room_messages, agent_dispatch)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Relay:
    """A client's signalling carried to the other server and back."""

    def __init__(self, far: aiohttp.ClientWebSocketResponse) -> None:
        self._far = far

    async def serve(self, socket: SignalSocket) -> None:
        ways = [asyncio.create_task(self._up(socket)), asyncio.create_task(self._down(socket))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await self.aclose()

    async def _up(self, near: SignalSocket) -> None:
        async for message in near:
            if message.type is WSMsgType.BINARY:
                await self._far.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._far.send_str(message.data)
            elif message.type is WSMsgType.PING:
                await self._far.ping(message.data)
            elif message.type is WSMsgType.PONG:
                await self._far.pong(message.data)

    async def _down(self, near: SignalSocket) -> None:
        code, text = LOST, b"the room's node is gone"
        while (message := await self._far.receive()).type not in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
            if message.type is WSMsgType.BINARY:
                await near.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await near.send_str(message.data)
            elif message.type is WSMsgType.PONG:
                await near.pong(message.data)
            elif message.type is WSMsgType.PING:
                await self._far.pong(message.data)
            elif message.type is WSMsgType.CLOSE:
                code, text = message.data, (message.extra or "").encode()
                break
        await near.close(code=code, message=text)

    async def aclose(self) -> None:
        await self._far.close()


class OtherNode:
    """The second server as the first one reaches it."""

    def __init__(self, server: RoomServer, session: aiohttp.ClientSession) -> None:
        self.id = server.manager.settings.node_id
        self._url = server.url
        self._authenticator = server.authenticator
        self._session = session
        self.relays = 0

    def _headers(self, auth: Auth, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._authenticator.sign(copy.copy(auth.claims), TTL)}", **more}

    def _request(self, arrival: Arrival) -> tuple[str, dict[str, Any]]:
        headers = self._headers(arrival.auth, **{"User-Agent": arrival.user_agent})
        return self._url + ("/rtc/v1" if arrival.single else "/rtc"), {"params": arrival.query, "headers": headers}

    async def check(self, arrival: Arrival) -> None:
        path, request = self._request(arrival)
        try:
            async with self._session.get(f"{path}/validate", **request) as response:
                if response.status != 200:
                    raise Refused(await response.text(), response.status)
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"node {self.id} cannot be reached") from error

    async def admit(self, arrival: Arrival) -> Relay:
        path, request = self._request(arrival)
        try:
            far = await self._session.ws_connect(path, **request, autoping=False, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            await self.check(arrival)  # in words
            raise Refused("refused", error.status) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"node {self.id} cannot be reached") from error
        self.relays += 1
        return Relay(far)

    async def call(self, auth: Auth, service: str, method: str, request: Message) -> Message:
        url = f"{self._url}/twirp/livekit.{service}/{method}"
        headers = self._headers(auth, **{"Content-Type": "application/protobuf"})
        try:
            async with self._session.post(url, data=request.SerializeToString(), headers=headers) as response:
                if response.status != 200:
                    error = await response.json()
                    raise TwirpError(error["code"], error["msg"], error.get("meta"))
                return GetMessageClass(RESPONSES[service, method]).FromString(await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"node {self.id} cannot be reached") from error


class SharedWorkers:
    """What the first server's workers do is told to the second one too, and its rooms may have them."""

    def __init__(self, others: Workers) -> None:
        self._others = others

    def worker_ready(self, worker: Worker) -> None:
        self._others.add(worker)

    def worker_gone(self, worker: Worker) -> None:
        self._others.remove(worker)

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        self._others.job_updated(worker, update)

    async def jobs_kept(self, worker: Worker, job_ids: Sequence[str]) -> set[str]:
        return await self._others.claim(worker, job_ids)


class FirstLetterRouter:
    """Names decide, so all who ask are told the same without being asked to agree."""

    ready = True

    def __init__(self, second: RoomServer) -> None:
        self._second = second
        self._session: aiohttp.ClientSession | None = None
        self.draining = self.closed = False

    async def start(self, here: LocalNode) -> None:
        self._session = aiohttp.ClientSession()
        self._here = here
        self.there = OtherNode(self._second, self._session)
        here.workers.listen(SharedWorkers(self._second.workers))

    async def locate(self, room: str) -> Node:
        return self.there if room.startswith("b") else self._here

    place = locate

    async def nodes(self) -> Sequence[Node]:
        return (self._here, self.there)

    def drain(self) -> None:
        self.draining = True

    async def close(self) -> None:
        self.closed = True
        if self._session:
            await self._session.close()


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[RoomServer, RoomServer, FirstLetterRouter]]:
    """The first server, the second one, and the first one's router."""

    def config() -> ServerConfig:
        return ServerConfig.dev(port=0, rtc=RtcConfig(udp_port=0))

    async with RoomServer(config()) as second:
        router = FirstLetterRouter(second)
        async with RoomServer(config(), router=router) as first:
            yield first, second, router
