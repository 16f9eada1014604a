"""RoomService on participants that are really there. Their media is a fake."""

from __future__ import annotations

import asyncio
import dataclasses

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom import api
from greenroom.api import LiveKitAPI, ServerError
from greenroom.server.app import RoomServer
from tests.conftest import token

from .server_client import Client, client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason


@pytest.fixture
async def rooms(server: RoomServer):
    async with LiveKitAPI(server.url, "devkey", "secret") as one:
        yield one.room


async def refused(call) -> tuple[str, str]:
    with pytest.raises(ServerError) as caught:
        await call
    return caught.value.code, caught.value.message


async def test_participants_are_listed_and_found(server, media, rooms):
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        listed = await rooms.list_participants(api.ListParticipantsRequest(room="test"))
        assert {p.identity for p in listed.participants} == {"alice", "bob"}
        found = await rooms.get_participant(api.RoomParticipantIdentity(room="test", identity="alice"))
        assert (found.sid, found.state) == (alice.sid, models.ParticipantInfo.ACTIVE)
        [room] = (await rooms.list_rooms()).rooms
        assert room.num_participants == 2


async def test_a_participant_is_removed(server, media, rooms):
    async with client(server, media, "alice") as alice:
        who = api.RoomParticipantIdentity(room="test", identity="alice")
        await rooms.remove_participant(who)
        leave = await alice.expect("leave")
        assert (leave.reason, leave.action) == (Reason.PARTICIPANT_REMOVED, rtc.LeaveRequest.Action.DISCONNECT)
        assert await refused(rooms.remove_participant(who)) == ("not_found", "participant does not exist")


async def test_a_deleted_room_sends_everybody_away(server, media, rooms):
    async with client(server, media, "alice") as alice:
        await rooms.delete_room(api.DeleteRoomRequest(room="test"))
        assert (await alice.expect("leave")).reason == Reason.ROOM_DELETED
        assert list((await rooms.list_rooms()).rooms) == []


async def test_a_participant_is_changed(server, media, rooms):
    async with client(server, media, "alice") as alice:
        request = api.UpdateParticipantRequest(
            room="test", identity="alice", name="Alice", metadata="m", attributes={"mood": "good", "old": ""}
        )
        changed = await rooms.update_participant(request)
        assert (changed.name, changed.metadata, dict(changed.attributes)) == ("Alice", "m", {"mood": "good"})
        await alice.expect("update", lambda update: update.participants[0].name == "Alice")
        request = api.UpdateParticipantRequest(room="test", identity="alice", attributes={"mood": ""})
        changed = await rooms.update_participant(request)
        assert (changed.name, changed.metadata) == ("Alice", "m"), "an empty string leaves it as it is"
        assert dict(changed.attributes) == {}, "an attribute with an empty value goes"


async def test_permissions_are_replaced_as_a_whole(server, media, rooms):
    async with client(server, media, "alice") as alice:
        permission = models.ParticipantPermission(can_subscribe=True)
        request = api.UpdateParticipantRequest(room="test", identity="alice", permission=permission)
        assert (await rooms.update_participant(request)).permission == permission
        await alice.expect("refresh_token")


@pytest.mark.parametrize(
    "change", [{"name": "x" * 257}, {"metadata": "x" * (512 * 1024 + 1)}, {"attributes": {"a": "x" * (64 * 1024 + 1)}}]
)
async def test_what_is_too_long_is_refused(server, media, rooms, change):
    async with client(server, media, "alice"):
        request = api.UpdateParticipantRequest(room="test", identity="alice", **change)
        code, _ = await refused(rooms.update_participant(request))
        assert code == "invalid_argument"


async def test_tracks_are_muted_and_not_unmuted(server, media, rooms):
    async with client(server, media, "alice") as alice:
        track = await alice.publish("mic")
        request = api.MuteRoomTrackRequest(room="test", identity="alice", track_sid=track.sid, muted=True)
        assert (await rooms.mute_published_track(request)).track.muted
        assert (await alice.expect("mute")).muted
        request.muted = False
        assert await refused(rooms.mute_published_track(request)) == (
            "failed_precondition",
            "remote unmute not enabled",
        )
        request.track_sid = "TR_none"
        assert (await refused(rooms.mute_published_track(request)))[0] == "not_found"


async def test_subscriptions_are_changed(server, media, rooms):
    async with client(server, media, "alice") as alice, client(server, media, "bob", auto_subscribe=False) as bob:
        track = await alice.publish("mic")
        assert "media_sections_requirement" not in await bob.settle()
        request = api.UpdateSubscriptionsRequest(room="test", identity="bob", track_sids=[track.sid], subscribe=True)
        await rooms.update_subscriptions(request)
        await bob.expect("media_sections_requirement")


async def test_metadata_of_a_room_reaches_its_participants(server, media, rooms):
    async with client(server, media, "alice") as alice:
        await rooms.update_room_metadata(api.UpdateRoomMetadataRequest(room="test", metadata="m"))
        await alice.expect("room_update", lambda update: update.room.metadata == "m")


async def test_data_from_the_server_has_no_sender(server, media, rooms):
    async with client(server, media, "alice"), client(server, media, "bob"):
        request = api.SendDataRequest(room="test", data=b"hi", topic="t", destination_identities=["bob"])
        request.nonce = b"n" * 16
        await rooms.send_data(request)
        await rooms.send_data(request)
        [(peers, label, payload)] = media.sent
        packet = models.DataPacket.FromString(payload)
        assert peers == [server.manager.rooms["test"].participants["bob"].primary.number] and label == "_reliable"
        assert (packet.user.payload, packet.user.topic, packet.participant_identity) == (b"hi", "t", "")
        request.nonce = b"short"
        assert (await refused(rooms.send_data(request)))[0] == "invalid_argument"


async def answer_rpc(server: RoomServer, media: FakeMediaServer, alice: Client, **answer) -> None:
    async with asyncio.timeout(5):
        while not media.sent:
            await alice.settle()
    request = models.DataPacket.FromString(media.sent.pop()[2]).rpc_request
    packet = models.DataPacket(rpc_response=models.RpcResponse(request_id=request.id, **answer))
    number = server.manager.rooms["test"].participants["alice"].primary.number
    media.event("data", number, "_reliable", packet.SerializeToString(), True)


async def test_methods_of_participants_are_called(server, media, rooms):
    async with client(server, media, "alice") as alice:
        request = api.PerformRpcRequest(room="test", destination_identity="alice", method="greet", payload="hi")
        call = asyncio.create_task(rooms.perform_rpc(request))
        await answer_rpc(server, media, alice, payload="hello")
        assert (await call).payload == "hello"
        call = asyncio.create_task(rooms.perform_rpc(request))
        await answer_rpc(server, media, alice, error=models.RpcError(code=1400, message="no such method"))
        with pytest.raises(ServerError) as caught:
            await call
        assert (caught.value.code, caught.value.metadata["rpc_code"]) == ("failed_precondition", "1400")
        request.response_timeout_ms = 20
        assert (await refused(rooms.perform_rpc(request)))[0] == "deadline_exceeded"
        request.destination_identity = "nobody"
        assert (await refused(rooms.perform_rpc(request)))[0] == "not_found"


async def test_moving_is_not_implemented_and_needs_its_grants(server, rooms):
    request = api.MoveParticipantRequest(room="test", identity="alice", destination_room="other")
    assert (await refused(rooms.move_participant(request)))[0] == "unimplemented"
    async with LiveKitAPI.with_token(token("x", room_admin=True), server.url) as weak:
        assert (await refused(weak.room.move_participant(request)))[0] == "unauthenticated"


async def test_agents_named_in_a_token_are_dispatched_by_the_join_that_creates_the_room(server, media):
    config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="kitt", metadata="m")], empty_timeout=9)
    grants = api.VideoGrants(room_join=True, room="test")
    builder = api.AccessToken("devkey", "secret").with_identity("alice").with_grants(grants)
    async with client(server, media, "alice", jwt=builder.with_room_config(config).to_jwt()) as alice:
        assert alice.joined.room.empty_timeout == 9
        async with LiveKitAPI(server.url, "devkey", "secret") as one:
            listed = await one.agent_dispatch.list_dispatch("test")
        assert [(dispatch.agent_name, dispatch.metadata) for dispatch in listed] == [("kitt", "m")]


TOO_LONG = [{"metadata": "x" * 17}, {"attributes": {"key": "x" * 14}}, {"deployment": "a b"}]


@pytest.mark.parametrize("wish", TOO_LONG, ids=["metadata", "attributes", "deployment"])
async def test_what_an_agent_is_told_has_a_limit_however_it_is_asked_for(server, media, rooms, wish):
    limits = {"max_metadata_size": 16, "max_attributes_size": 16}
    server.manager.settings = dataclasses.replace(server.manager.settings, **limits)
    agent = api.RoomAgentDispatch(agent_name="kitt", **wish)
    async with LiveKitAPI(server.url, "devkey", "secret") as one:
        request = api.CreateAgentDispatchRequest(agent_name="kitt", room="test", **wish)
        code, text = await refused(one.agent_dispatch.create_dispatch(request))
    assert code == "invalid_argument" and ("exceeds limits" in text or text == "invalid deployment")
    assert (await refused(rooms.create_room(api.CreateRoomRequest(name="test", agents=[agent]))))[0] == code
    builder = api.AccessToken("devkey", "secret").with_identity("alice")
    builder.with_grants(api.VideoGrants(room_join=True, room="test"))
    jwt = builder.with_room_config(api.RoomConfiguration(agents=[agent])).to_jwt()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with client(server, media, "alice", jwt=jwt):
            pass
    assert caught.value.status == 400
    assert not server.manager.rooms


async def test_what_an_agent_is_told_may_be_as_long_as_the_limit(server, rooms):
    async with LiveKitAPI(server.url, "devkey", "secret") as one:
        longest = {"metadata": "x" * 512 * 1024, "attributes": {"a": "x" * (64 * 1024 - 1)}, "deployment": "d" * 64}
        request = api.CreateAgentDispatchRequest(agent_name="kitt", room="test", **longest)
        created = await one.agent_dispatch.create_dispatch(request)
    assert created.metadata == longest["metadata"]
