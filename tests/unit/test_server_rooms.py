"""Rooms: how they begin and end, what is told about them, who may come in."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc
from livekit.protocol.room import CreateRoomRequest, RoomConfiguration

from greenroom.server.app import RoomServer
from greenroom.server.manager import RoomEvent, RoomManager
from tests.conftest import token, until

from .server_client import Client, client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason


def settings(server: RoomServer, **changes: Any) -> None:
    server.manager.settings = dataclasses.replace(server.manager.settings, **changes)


def record(manager: RoomManager) -> list[str]:
    kinds: list[str] = []
    manager.on(lambda event: kinds.append(event.kind))
    return kinds


async def test_events_of_a_short_life(server: RoomServer, media: FakeMediaServer) -> None:
    kinds = record(server.manager)
    async with client(server, media, "alice") as alice:
        await alice.publish("mic")
        await alice.send(leave=rtc.LeaveRequest())
        await alice.expect("leave")
    await server.manager.delete_room("test")
    assert kinds == [
        "room_started",
        "participant_joined",
        "participant_active",
        "track_published",
        "track_unpublished",
        "participant_left",
        "room_finished",
    ]


async def test_session_that_never_was_active_is_an_aborted_connection(
    server: RoomServer, media: FakeMediaServer
) -> None:
    kinds = record(server.manager)
    async with client(server, media, "alice", connected=False):
        pass
    await until(lambda: "participant_connection_aborted" in kinds, "the aborted connection is reported")
    assert "participant_left" not in kinds


async def test_an_observers_mistake_does_not_end_the_call(server: RoomServer, media: FakeMediaServer) -> None:
    def mistaken(event: RoomEvent) -> None:
        raise ZeroDivisionError(event.kind)

    undo = server.manager.on(mistaken)
    async with client(server, media, "alice") as alice:
        assert alice.sid
    undo()
    undo()


async def test_create_is_idempotent(server: RoomServer) -> None:
    first = await server.manager.create_room(CreateRoomRequest(name="a", metadata="one", empty_timeout=7))
    second = await server.manager.create_room(CreateRoomRequest(name="a", metadata="two"))
    assert first is second and second.metadata == "one"
    assert (first.empty_timeout, first.departure_timeout) == (7, 20)
    assert [room.name for room in server.manager.list_rooms()] == ["a"]
    assert server.manager.list_rooms(["b"]) == []


async def test_deleted_room_sends_everybody_away(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        assert await server.manager.delete_room("test")
        leave = await alice.expect("leave")
        assert (leave.reason, leave.action) == (Reason.ROOM_DELETED, rtc.LeaveRequest.Action.DISCONNECT)
        assert not await server.manager.delete_room("test")
        assert not media.peers, "the core forgets the peers"


async def test_stopping_server_says_so(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        stopping = asyncio.create_task(server.stop())
        assert (await alice.expect("leave")).reason == Reason.SERVER_SHUTDOWN
        await alice.ws.close()
        await stopping


async def test_empty_room_ends_after_its_timeout(server: RoomServer) -> None:
    room = await server.manager.create_room(CreateRoomRequest(name="a"))
    room._expire_after(0.01)
    await until(lambda: room.closed and "a" not in server.manager.rooms, "the room ends")


async def test_room_stays_while_somebody_is_in_and_ends_after_departure(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(server, media, "alice"):
        room = server.manager.rooms["test"]
        assert room._close_timer is None
        room.departure_timeout = 0.01
    room.participants["alice"].close(Reason.CLIENT_INITIATED)
    await until(lambda: room.closed, "the room ends")


async def test_agents_alone_do_not_keep_a_room(server: RoomServer, media: FakeMediaServer) -> None:
    from greenroom.api import AccessToken, VideoGrants

    grants = VideoGrants(room_join=True, room="test")
    jwt = AccessToken("devkey", "secret").with_identity("agent").with_kind("agent").with_grants(grants).to_jwt()
    async with client(server, media, "alice") as alice, client(server, media, "agent", jwt=jwt) as agent:
        room = server.manager.rooms["test"]
        assert room.to_proto().num_participants == 1, "agents are not counted"
        room.departure_timeout = 0.01
        await alice.send(leave=rtc.LeaveRequest())
        assert (await agent.expect("leave")).reason == Reason.ROOM_CLOSED


async def test_counts_are_told_in_batches(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.room.TICK", 0.05)
    async with client(server, media, "alice") as alice:
        await alice.publish("mic")
        update = await alice.expect("room_update", lambda u: u.room.num_publishers == 1)
        assert update.room.num_participants == 1


async def test_room_metadata_is_told_at_once(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        server.manager.rooms["test"].set_metadata("news")
        assert (await alice.expect("room_update")).room.metadata == "news"
        with pytest.raises(ValueError, match="metadata"):
            server.manager.rooms["test"].set_metadata("x" * 600_000)


async def test_quality_is_told_on_change(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.room.TICK", 0.05)
    async with client(server, media, "alice") as alice:
        (info,) = (await alice.expect("connection_quality")).updates
        assert (info.participant_sid, info.quality) == (alice.sid, models.ConnectionQuality.EXCELLENT)
        assert info.score == 4.5
        number = server.manager.rooms["test"].participants["alice"].primary.number
        media.stats[number] = {"rtt_ms": 30, "tracks": [{"packets": 50, "fraction_lost": 0.2, "jitter_ms": 5}]}
        (info,) = (await alice.expect("connection_quality")).updates
        assert info.quality == models.ConnectionQuality.GOOD


async def test_room_configuration_of_token_and_preset_apply_at_creation(
    server: RoomServer, media: FakeMediaServer
) -> None:
    from greenroom.api import AccessToken, VideoGrants

    settings(server, room_configurations={"small": RoomConfiguration(max_participants=1, metadata="preset")})
    grants = VideoGrants(room_join=True, room="test")
    config = RoomConfiguration(metadata="token", empty_timeout=9)
    config.agents.add(agent_name="helper")
    access = AccessToken("devkey", "secret").with_identity("alice").with_grants(grants)
    jwt = access.with_room_config(config).with_room_preset("small").to_jwt()
    async with client(server, media, "alice", jwt=jwt) as alice:
        assert (alice.joined.room.metadata, alice.joined.room.empty_timeout) == ("token", 9)
        assert alice.joined.room.max_participants == 1
        assert server.manager.rooms["test"].request.agents[0].agent_name == "helper"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with client(server, media, "bob"):
                pass


async def test_permissions_can_change_while_in_the_room(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        info = await alice.publish("mic")
        await bob.expect("media_sections_requirement")
        participant = server.manager.rooms["test"].participants["alice"]
        permission = models.ParticipantPermission()
        permission.CopyFrom(participant.permission)
        permission.can_publish = False
        participant.update(permission=permission)
        assert (await alice.expect("track_unpublished")).track_sid == info.sid
        assert not (await alice.expect("update")).participants[0].permission.can_publish
        assert await alice.expect("refresh_token")
        await bob.expect("update", lambda u: u.participants[0].sid == alice.sid and not u.participants[0].tracks)


async def mute_by_api(one: Client, server: RoomServer, sid: str, muted: bool) -> models.TrackInfo:
    return server.manager.rooms["test"].participants["alice"].mute_track(sid, muted)


async def test_mute_by_the_api_is_told_to_the_client(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.publish("mic")
        assert (await mute_by_api(alice, server, info.sid, True)).muted
        mute = await alice.expect("mute")
        assert (mute.sid, mute.muted) == (info.sid, True)
        with pytest.raises(PermissionError):
            await mute_by_api(alice, server, info.sid, False)
        with pytest.raises(LookupError):
            await mute_by_api(alice, server, "TR_none", True)
        settings(server, enable_remote_unmute=True)
        assert not (await mute_by_api(alice, server, info.sid, False)).muted


async def test_removed_participant_is_told_why(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        room = server.manager.rooms["test"]
        assert room.remove_participant("alice") and not room.remove_participant("alice")
        assert (await alice.expect("leave")).reason == Reason.PARTICIPANT_REMOVED


async def test_room_event_names_room_participant_and_track(server: RoomServer, media: FakeMediaServer) -> None:
    events: list[RoomEvent] = []
    server.manager.on(events.append)
    async with client(server, media, "alice") as alice:
        info = await alice.publish("mic")
    published = next(event for event in events if event.kind == "track_published")
    assert published.room.name == "test" and published.participant.identity == "alice"
    assert published.track.sid == info.sid and published.participant.is_publisher
    assert token("alice")


async def test_a_room_forwards_only_its_loudest_where_the_configuration_says_so(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice"):
        assert media.rooms == {}
    settings(server, top_speakers=8)
    async with client(server, media, "bob"):
        assert list(media.rooms.values()) == [8]
