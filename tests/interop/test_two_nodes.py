"""Rooms that live on another server: who joins at this one is there, and API calls and agents find them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from livekit import api as official_api
from livekit.protocol import agent, models, rtc as messages

from greenroom import rtc
from greenroom.api import (
    AccessToken,
    CreateAgentDispatchRequest,
    CreateRoomRequest,
    LiveKitAPI,
    ServerError,
    VideoGrants,
)
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import token, until
from tests.unit.dispatch_stage import FakeWorker

from .rtc_pairs import GREENROOM, OFFICIAL, Member, dominant_frequency, feeding, listen
from .two_nodes import FirstLetterRouter, two_nodes

Nodes = tuple[RoomServer, RoomServer, FirstLetterRouter]


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with two_nodes() as pair:
        yield pair


async def join(server: RoomServer, sdk: str, identity: str, room: str = "bee") -> Member:
    member = Member(importlib.import_module(sdk), identity)
    await member.room.connect(server.url.replace("http", "ws", 1), token(identity, room))
    return member


def packets(server: RoomServer) -> int:
    return server.manager.media.metrics().get("packets_in", 0)


@pytest.mark.parametrize(("speaker", "listener"), [(GREENROOM, OFFICIAL), (OFFICIAL, GREENROOM)])
async def test_clients_of_one_server_talk_in_a_room_of_the_other(nodes: Nodes, speaker: str, listener: str) -> None:
    first, second, router = nodes
    alice, bob = await join(first, speaker, "alice"), await join(first, listener, "bob")
    try:
        assert not first.manager.rooms and set(second.manager.rooms["bee"].participants) == {"alice", "bob"}
        assert router.there.relays == 2
        publication, feed = await alice.publish_tone(440)
        async with feeding(feed):
            track, *_ = await bob.seen("track_subscribed", lambda t, p, who: p.sid == publication.sid)
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 5
        await bob.me.publish_data(b"hello", reliable=True)
        await alice.seen("data_received", lambda packet: packet.data == b"hello")
        assert packets(second) > 50 and packets(first) == 0, "media goes straight to the room's node"
    finally:
        await alice.room.disconnect()
        await bob.room.disconnect()
    await until(lambda: not second.manager.rooms["bee"].participants, "both have left")


async def test_a_session_is_resumed_and_begun_anew_through_the_other_server(nodes: Nodes) -> None:
    first, second, router = nodes
    alice = await join(first, GREENROOM, "alice")
    try:
        sid = alice.me.sid
        for scenario, relays in (
            (rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT, 2),
            (rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT, 3),
        ):
            await alice.room.simulate_scenario(scenario)
            await until(lambda n=relays: len(alice.events("reconnected")) == n - 1, "back again")
            assert router.there.relays >= relays
            here = second.manager.rooms["bee"].participants["alice"]
            assert (here.sid == sid) == (relays == 2), "resumed, then joined anew"
    finally:
        await alice.room.disconnect()


async def test_an_identity_is_one_whichever_server_it_comes_by(nodes: Nodes) -> None:
    first, second, _ = nodes
    before = await join(first, GREENROOM, "alice")
    after = await join(second, GREENROOM, "alice")
    (reason,) = await before.seen("disconnected")
    assert reason == models.DisconnectReason.DUPLICATE_IDENTITY
    assert second.manager.rooms["bee"].participants["alice"].sid == after.me.sid
    many = await asyncio.gather(
        *(join(server, GREENROOM, "alice") for server in (first, second) * 3), return_exceptions=True
    )
    await until(lambda: sum(isinstance(m, Member) and m.room.isconnected() for m in many) <= 1, "one is left at most")
    assert len(second.manager.rooms["bee"].participants) <= 1
    for member in (before, after, *many):
        if isinstance(member, Member):
            await member.room.disconnect()


async def test_the_api_finds_rooms_on_both_servers(nodes: Nodes) -> None:
    first, second, _ = nodes
    async with official_api.LiveKitAPI(first.url, DEV_KEY, DEV_SECRET) as api:
        created = await api.room.create_room(official_api.CreateRoomRequest(name="bee", metadata="m"))
        await api.room.create_room(official_api.CreateRoomRequest(name="ant"))
        assert list(first.manager.rooms) == ["ant"]
        assert second.manager.rooms["bee"].sid == created.sid and created.metadata == "m"
        listed = await api.room.list_rooms(official_api.ListRoomsRequest())
        assert {room.name for room in listed.rooms} == {"ant", "bee"}
        listed = await api.room.list_rooms(official_api.ListRoomsRequest(names=["bee", "bat"]))
        assert [room.name for room in listed.rooms] == ["bee"]

        alice = await join(second, GREENROOM, "alice")
        people = await api.room.list_participants(official_api.ListParticipantsRequest(room="bee"))
        assert [person.identity for person in people.participants] == ["alice"]
        await api.room.send_data(official_api.SendDataRequest(room="bee", data=b"to all", kind=0))
        await alice.seen("data_received", lambda packet: packet.data == b"to all")
        nobody = official_api.RoomParticipantIdentity(room="bee", identity="nobody")
        with pytest.raises(official_api.TwirpError) as caught:
            await api.room.get_participant(nobody)
        assert (caught.value.code, caught.value.message) == ("not_found", "participant does not exist")
        await api.room.remove_participant(official_api.RoomParticipantIdentity(room="bee", identity="alice"))
        (reason,) = await alice.seen("disconnected")
        assert reason == models.DisconnectReason.PARTICIPANT_REMOVED
        await api.room.delete_room(official_api.DeleteRoomRequest(room="bee"))
        assert not second.manager.rooms
        with pytest.raises(official_api.TwirpError) as caught:
            await api.room.delete_room(official_api.DeleteRoomRequest(room="bee"))
        assert caught.value.code == "not_found"
    async with LiveKitAPI.with_token(token("alice", "bee"), first.url) as stranger:
        with pytest.raises(ServerError, match="permissions denied"):
            await stranger.room.create_room(CreateRoomRequest(name="bee"))


async def test_what_the_other_server_refuses_is_told_in_its_words(nodes: Nodes) -> None:
    first, second, _ = nodes
    async with LiveKitAPI(first.url, DEV_KEY, DEV_SECRET) as api, aiohttp.ClientSession(first.url) as http:
        await api.room.create_room(CreateRoomRequest(name="bee", max_participants=1))
        alice = await join(first, GREENROOM, "alice")
        query = {"access_token": token("bob", "bee")}
        async with http.get("/rtc/validate", params=query) as response:
            assert (response.status, await response.text()) == (503, "room is full: max participants exceeded")
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect("/rtc", params=query)
        assert caught.value.status == 503
        async with http.get("/rtc/validate", params={"access_token": token("alice", "bee")}) as response:
            assert (response.status, await response.text()) == (200, "success")
        assert len(second.manager.rooms["bee"].participants) == 1
        await alice.room.disconnect()


async def test_a_node_that_is_gone_is_said_to_be_so(nodes: Nodes) -> None:
    first, second, router = nodes
    async with LiveKitAPI(first.url, DEV_KEY, DEV_SECRET) as api, aiohttp.ClientSession(first.url) as http:
        query = {"access_token": token("alice", "bee"), "protocol": "17"}
        socket = await http.ws_connect("/rtc", params=query)
        assert messages.SignalResponse.FromString((await socket.receive()).data).HasField("join")
        await second.stop()
        async with asyncio.timeout(10):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                last = messages.SignalResponse.FromString(message.data)
        assert last.leave.reason == models.DisconnectReason.SERVER_SHUTDOWN, "its farewell still came"
        gone = f"node {router.there.id} cannot be reached"
        async with http.get("/rtc/validate", params=query) as response:
            assert (response.status, await response.text()) == (503, gone)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect("/rtc", params=query)
        assert caught.value.status == 503
        for call in (api.room.create_room(CreateRoomRequest(name="bee")), api.room.list_rooms()):
            with pytest.raises(ServerError) as error:
                await call
            assert (error.value.code, error.value.message) == ("unavailable", gone)
        await api.room.create_room(CreateRoomRequest(name="ant"))
        await (await join(first, GREENROOM, "alice", "ant")).room.disconnect()


async def test_a_worker_of_one_server_serves_the_rooms_of_the_other(nodes: Nodes) -> None:
    first, second, _ = nodes
    jwt = AccessToken(DEV_KEY, DEV_SECRET).with_grants(VideoGrants(agent=True)).to_jwt()
    headers = {"Authorization": f"Bearer {jwt}"}
    async with LiveKitAPI(first.url, DEV_KEY, DEV_SECRET) as api, aiohttp.ClientSession(first.url) as http:
        worker = FakeWorker(await http.ws_connect("/agent", headers=headers))
        await worker.send(register=agent.RegisterWorkerRequest(agent_name="kitt", version="test"))
        await worker.get("register")
        created = await api.agent_dispatch.create_dispatch(CreateAgentDispatchRequest(agent_name="kitt", room="bee"))
        assignment = await worker.take_job(participant_identity="bot")
        assert assignment.job.dispatch_id == created.id and list(second.manager.rooms) == ["bee"]
        await worker.report(assignment.job, agent.JobStatus.JS_RUNNING)
        bot = rtc.Room()
        await bot.connect(first.url.replace("http", "ws", 1), assignment.token)
        assert second.manager.rooms["bee"].participants["bot"].kind == models.ParticipantInfo.Kind.AGENT

        # its socket breaks, and it claims its job at the server where it is back
        await worker.close()
        back = FakeWorker(await http.ws_connect("/agent", headers=headers))
        await back.send(register=agent.RegisterWorkerRequest(agent_name="kitt", version="test"))
        await back.get("register")
        await back.send(migrate_job=agent.MigrateJobRequest(job_ids=[assignment.job.id, "AJ_unheard_of"]))
        assert (await back.get("termination")).job_id == "AJ_unheard_of"
        await back.report(assignment.job, agent.JobStatus.JS_SUCCESS)

        async def ended() -> bool:
            (dispatch,) = await api.agent_dispatch.list_dispatch("bee")
            return [job.state.status for job in dispatch.state.jobs] == [agent.JobStatus.JS_SUCCESS]

        await until(ended, "the job has ended")
        await bot.disconnect()


async def test_the_router_is_told_of_the_end(nodes: Nodes) -> None:
    first, _, router = nodes
    assert not router.draining
    await first.drain(0.1)
    assert router.draining and not router.closed
    await first.stop()
    assert router.closed
