"""The router: what it is asked, what happens when it does not know or does not answer, and that one server alone pays nothing
for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from google.protobuf.message import Message

from greenroom.api import AccessToken, CreateRoomRequest, DeleteRoomRequest, LiveKitAPI, ServerError
from greenroom.server import signal
from greenroom.server.app import RoomServer
from greenroom.server.arrival import Arrival, read_arrival
from greenroom.server.auth import Auth, Authenticator
from greenroom.server.config import RoomConfig, ServerConfig
from greenroom.server.connection import SignalSocket
from greenroom.server.router import LocalRouter, Node, Unreachable
from tests.conftest import token, until

from .server_client import client
from .server_fakes import FakeMediaServer


class Told(LocalRouter):
    """Remembers what it was asked. `trouble` is awaited before each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_ready = True
        self.closed = 0

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self.is_ready

    async def trouble(self) -> None:
        """None."""

    async def locate(self, room: str) -> Node:
        self.asked.append(f"locate {room}")
        await self.trouble()
        return self.here

    async def place(self, room: str) -> Node:
        self.asked.append(f"place {room}")
        await self.trouble()
        return self.here

    async def nodes(self) -> Sequence[Node]:
        self.asked.append("nodes")
        await self.trouble()
        return (self.here,)

    async def close(self) -> None:
        self.closed += 1


class Lost(Told):
    async def trouble(self) -> None:
        raise Unreachable("the directory of nodes does not answer")


class Silent(Told):
    async def trouble(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(router: Told, media: FakeMediaServer, **room: Any) -> AsyncIterator[tuple[RoomServer, LiveKitAPI]]:
    config = ServerConfig.dev(port=0, room=RoomConfig(**room))
    async with RoomServer(config, media=media, router=router) as server:
        async with LiveKitAPI(server.url, "devkey", "secret") as api:
            yield server, api


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of what is awaited, which must not have given up its turn."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("it waited for something")


async def test_one_server_alone_decides_in_the_same_turn(server: RoomServer) -> None:
    """So joins and calls are handled in the order in which they came."""
    router = server.router
    node = at_once(router.place("den"))
    assert node is at_once(router.locate("den")) is at_once(router.nodes())[0]
    auth = Authenticator({"devkey": "secret"}).verify(token("ann", "den", room_create=True))
    settings = server.manager.settings
    arrival = read_arrival(auth, {"protocol": "17"}, "", settings, single=False, address="")
    at_once(node.admit(arrival))
    at_once(node.check(arrival))
    made = at_once(node.call(auth, "RoomService", "CreateRoom", CreateRoomRequest(name="den")))
    assert made.sid == server.manager.rooms["den"].sid


async def test_who_joins_and_who_comes_back(media: FakeMediaServer) -> None:
    router = Told()
    async with serving(router, media) as (server, _):
        async with client(server, media, "ann") as ann:
            assert router.asked == ["place test"]
            sid = ann.sid
        query = {"reconnect": "1", "sid": sid, "protocol": "17"}
        headers = {"Authorization": f"Bearer {token('ann')}"}
        async with aiohttp.ClientSession(server.url) as http, http.ws_connect("/rtc", params=query, headers=headers):
            assert router.asked == ["place test", "locate test"], "nobody makes a room by coming back to it"


async def test_a_room_gets_no_place_by_being_asked_for(media: FakeMediaServer) -> None:
    router = Told()
    async with serving(router, media, auto_create=False) as (server, api):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with client(server, media, "ann"):
                pass
        with pytest.raises(ServerError):
            await api.room.delete_room(DeleteRoomRequest(room="test"))
        await api.room.list_rooms()
        assert router.asked == ["locate test", "locate test", "nodes"]
        await api.room.create_room(CreateRoomRequest(name="test"))
        await api.agent_dispatch.list_dispatch("test")
        assert router.asked[3:] == ["place test", "locate test"]


async def test_a_check_in_advance_gives_no_place(media: FakeMediaServer) -> None:
    router = Told()
    async with serving(router, media) as (server, _), aiohttp.ClientSession(server.url) as http:
        async with http.get("/rtc/validate", params={"access_token": token("ann")}) as response:
            assert (response.status, router.asked) == (200, ["locate test"])


async def test_what_never_reaches_a_room_is_not_asked_about(media: FakeMediaServer) -> None:
    router = Told()
    async with serving(router, media) as (server, api), aiohttp.ClientSession(server.url) as http:
        for jwt in ("nonsense", AccessToken("devkey", "secret").with_identity("ann").to_jwt()):
            async with http.get("/rtc/validate", params={"access_token": jwt}) as response:
                assert response.status == 401
        with pytest.raises(ServerError, match="room name is missing"):
            await api.room.create_room(CreateRoomRequest())
        assert not router.asked


async def refusal(server: RoomServer) -> tuple[int, str]:
    async with aiohttp.ClientSession(server.url) as http:
        query = {"access_token": token("ann"), "protocol": "17"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect("/rtc", params=query)
        async with http.get("/rtc/validate", params=query) as response:
            assert response.status == caught.value.status
            return response.status, await response.text()


async def test_a_router_that_is_lost_says_so(media: FakeMediaServer) -> None:
    text = "the directory of nodes does not answer"
    async with serving(Lost(), media) as (server, api):
        assert await refusal(server) == (503, text)
        for call in (api.room.list_rooms(), api.room.delete_room(DeleteRoomRequest(room="test"))):
            with pytest.raises(ServerError) as caught:
                await call
            assert (caught.value.code, caught.value.message, caught.value.status) == ("unavailable", text, 503)


async def test_a_router_that_does_not_answer_is_waited_for_so_long_and_no_longer(
    media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "ROUTE_SECONDS", 0.05)
    async with serving(Silent(), media) as (server, _):
        assert await refusal(server) == (503, "the room's node does not answer")


async def test_a_router_that_finds_nothing_keeps_load_balancers_away(media: FakeMediaServer) -> None:
    router = Told()
    async with serving(router, media) as (server, _), aiohttp.ClientSession(server.url) as http:
        for ready, status in ((True, 200), (False, 406), (True, 200)):
            router.is_ready = ready
            async with http.get("/") as response:
                assert response.status == status
    assert router.closed == 1


async def test_a_router_that_cannot_start_ends_the_start(media: FakeMediaServer) -> None:
    class Broken(Told):
        async def start(self, here: Node) -> None:
            raise ConnectionRefusedError("no directory")

    router = Broken()
    with pytest.raises(ConnectionRefusedError):
        async with RoomServer(ServerConfig.dev(port=0), media=media, router=router):
            pass
    assert router.closed == 1


async def test_a_slow_router_lets_in_one_of_two_with_the_same_identity(media: FakeMediaServer) -> None:
    """The later one to arrive in the room has it, as without a router; the other is told why it is sent away."""

    class Slow(Told):
        delays = iter((0.2, 0.0))

        async def trouble(self) -> None:
            await asyncio.sleep(next(self.delays))

    async with serving(Slow(), media) as (server, _), aiohttp.ClientSession(server.url) as http:
        query = {"access_token": token("ann"), "protocol": "17"}
        first = asyncio.create_task(http.ws_connect("/rtc", params=query))
        await until(lambda: server.router.asked, "the first one is asked about")  # type: ignore[attr-defined]
        second = await http.ws_connect("/rtc", params=query)
        async with asyncio.timeout(5):
            await first
            while (message := await second.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert len(server.manager.rooms["test"].participants) == 1


class Admission:
    """Of another node."""

    def __init__(self) -> None:
        self.served = self.closed = 0

    async def serve(self, socket: SignalSocket) -> None:
        self.served += 1

    async def aclose(self) -> None:
        self.closed += 1


class Elsewhere(Told):
    """All rooms are on another node, which takes a moment to let anybody in."""

    id = "ND_other"

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission()
        self.asked_in = asyncio.Event()
        self.let_in = asyncio.Event()

    async def place(self, room: str) -> Node:
        return self

    async def check(self, arrival: Arrival) -> None:
        """Always."""

    async def admit(self, arrival: Arrival) -> Admission:
        assert (arrival.room, arrival.identity, arrival.query) == ("test", "ann", {"protocol": "17"})
        self.asked_in.set()
        await self.let_in.wait()
        return self.admission

    async def call(self, auth: Auth, service: str, method: str, request: Message) -> Message:
        raise AssertionError


async def test_an_admission_is_served_and_given_back(media: FakeMediaServer) -> None:
    router = Elsewhere()
    router.let_in.set()
    async with serving(router, media) as (server, _), aiohttp.ClientSession(server.url) as http:
        async with http.ws_connect("/rtc", params={"access_token": token("ann"), "protocol": "17"}) as socket:
            await socket.receive()
        assert (router.admission.served, router.admission.closed) == (1, 1)


async def test_an_admission_that_comes_too_late_is_given_back(media: FakeMediaServer) -> None:
    """The client is gone before its socket is opened: whatever a relay holds by then is let go."""
    router = Elsewhere()
    async with serving(router, media) as (server, _):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        target = f"/rtc?access_token={token('ann')}&protocol=17"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{upgrade}{key}\r\n".encode())
        await asyncio.wait_for(router.asked_in.wait(), 5)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        router.let_in.set()
        await until(lambda: router.admission.closed, "it is given back")
        assert router.admission.closed == 1
