"""Who counts as being there: agents and recorders keep no room, take no place in it, and no one is taken for a namesake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.protocol import models, rtc
from livekit.protocol.room import CreateRoomRequest

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.data import RpcError
from tests.conftest import until

from .server_client import client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason

DEPENDENT: list[tuple[str, dict[str, Any]]] = [
    ("agent", {}),
    ("egress", {}),
    ("standard", {"recorder": True}),
    ("standard", {"agent": True}),
]
INDEPENDENT = [("standard", {}), ("ingress", {}), ("sip", {}), ("connector", {}), ("bridge", {})]


def named(identity: str, kind: str = "standard", **grants: Any) -> str:
    made = AccessToken("devkey", "secret").with_identity(identity).with_kind(kind)  # type: ignore[arg-type]
    return made.with_grants(VideoGrants(room_join=True, room="test", **grants)).to_jwt()


@pytest.mark.parametrize(("kind", "grants"), DEPENDENT)
async def test_nobody_but_helpers_ever_came_and_the_room_ends(
    server: RoomServer, media: FakeMediaServer, kind: str, grants: dict[str, Any]
) -> None:
    room = await server.manager.create_room(CreateRoomRequest(name="test"))
    before = room._close_timer
    async with client(server, media, "helper", jwt=named("helper", kind, **grants)) as helper:
        assert room._close_timer is before is not None, "the time runs on, from when the room was made"
        room._expire_after(0.01)
        assert (await helper.expect("leave")).reason == Reason.ROOM_CLOSED


@pytest.mark.parametrize(("kind", "grants"), INDEPENDENT)
async def test_whoever_is_there_for_himself_keeps_the_room(
    server: RoomServer, media: FakeMediaServer, kind: str, grants: dict[str, Any]
) -> None:
    async with client(server, media, "one", jwt=named("one", kind, **grants)):
        assert server.manager.rooms["test"]._close_timer is None


@pytest.mark.parametrize(("kind", "grants"), DEPENDENT)
async def test_helpers_that_come_and_go_do_not_lengthen_the_time_after_the_last_departure(
    server: RoomServer, media: FakeMediaServer, kind: str, grants: dict[str, Any]
) -> None:
    async with client(server, media, "alice") as alice:
        room = server.manager.rooms["test"]
        await alice.send(leave=rtc.LeaveRequest())
        await until(lambda: room._close_timer, "the departure timeout runs")
    ends = room._close_timer
    for _ in range(2):
        async with client(server, media, "helper", jwt=named("helper", kind, **grants)) as helper:
            await helper.send(leave=rtc.LeaveRequest())
            await until(lambda: not room.participants, "the helper left")
        assert room._close_timer is ends
    async with client(server, media, "bob"):
        assert room._close_timer is None, "somebody came back"


async def test_who_becomes_a_recorder_keeps_no_room(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice"):
        room = server.manager.rooms["test"]
        alice = room.participants["alice"]
        alice.update(permission=models.ParticipantPermission(recorder=True))
        assert room._close_timer is not None
        alice.update(permission=models.ParticipantPermission(can_publish=True))
        assert room._close_timer is None


@pytest.mark.parametrize(("kind", "grants"), DEPENDENT)
async def test_helpers_take_no_place(
    server: RoomServer, media: FakeMediaServer, kind: str, grants: dict[str, Any]
) -> None:
    await server.manager.create_room(CreateRoomRequest(name="test", max_participants=1))
    room = server.manager.rooms["test"]
    async with (
        client(server, media, "helper", jwt=named("helper", kind, **grants)),
        client(server, media, "alice"),
        client(server, media, "helper-2", jwt=named("helper-2", kind, **grants)) as late,
    ):
        assert late.joined.participant.identity == "helper-2" and room.is_full
        assert room.to_proto().num_participants == 1


# --- one identity, two lives -----------------------------------------------------------------------------------------


async def test_a_removal_that_names_a_session_spares_the_next_one(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "assistant") as first:
        room = server.manager.rooms["test"]
        async with client(server, media, "assistant") as second:
            assert not room.remove_participant("assistant", sid=first.sid)
            assert room.participants["assistant"].sid == second.sid
            assert room.remove_participant("assistant", sid=second.sid)
            assert (await second.expect("leave")).reason == Reason.PARTICIPANT_REMOVED


async def test_the_end_of_a_first_life_touches_nothing_of_the_second(
    server: RoomServer, media: FakeMediaServer
) -> None:
    """Everything that is still under way for the first session when the second begins: sockets, timers, media, calls."""
    async with client(server, media, "bob") as bob, client(server, media, "assistant") as one:
        await one.publish("mic")
        room = server.manager.rooms["test"]
        first = room.participants["assistant"]
        call = asyncio.create_task(room.perform_rpc("assistant", "m", "p", 5))
        await asyncio.sleep(0)
        async with client(server, media, "assistant") as two:
            with pytest.raises(RpcError, match="disconnected"):
                await call
            track = await two.publish("mic")
            second = room.participants["assistant"]
            assert second is not first and first.closed
            assert first._connection is None and not first._timers
            for kind in ("lost", "failed", "disconnected"):
                media.event(kind, first.primary.number, "late")
            first.close(Reason.CONNECTION_TIMEOUT)
            first.set_timer("return", 0, first.close, Reason.CONNECTION_TIMEOUT)
            await one.ws.close()
            await two.settle()
            await bob.settle()
            assert room.participants["assistant"] is second and not second.closed and second.connected_signal
            assert track.sid in room.tracks and second.tracks[track.sid].subscriptions.keys() == {"bob"}
