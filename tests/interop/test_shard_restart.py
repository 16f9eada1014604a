"""A media shard fails in the middle of a call: real clients make a full reconnect and hear each other again."""

from __future__ import annotations

import pytest

from greenroom.server.app import RoomServer
from tests.conftest import until

from .rtc_pairs import GREENROOM, OFFICIAL, Member, dominant_frequency, feeding, in_room, listen

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
SECONDS = 60.0


def fail_shard_of(server: RoomServer, name: str) -> None:
    """The shard of this room panics where nothing catches it: its peers, tracks and keys are gone."""
    room = server.manager.rooms[name]
    room.media._inject_fault(room.media.shard_of(room.number), "die")


@both_modes
@pytest.mark.parametrize("sdk", [OFFICIAL, GREENROOM])
async def test_a_call_comes_back_after_its_shard_failed(room_server: RoomServer, sdk: str, dual: bool) -> None:
    async with in_room(room_server, sdk, OFFICIAL, dual=dual) as (alice, bob):
        room = room_server.manager.rooms["test"]
        port = room.media.port(room.number)
        room.set_metadata("agenda")
        publication, task = await alice.publish_tone(440, seconds=120)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            before = {identity: participant.sid for identity, participant in room.participants.items()}
            first = publication.sid

            fail_shard_of(room_server, "test")

            await bob.seen("reconnected", seconds=SECONDS)
            await alice.seen("reconnected", seconds=SECONDS)
            track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid != first, seconds=SECONDS)
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            assert bob.events("disconnected") == alice.events("disconnected") == []

            assert room_server.manager.rooms["test"] is room
            assert (room.media.port(room.number), bob.room.metadata) == (port, "agenda")
            after = {identity: participant.sid for identity, participant in room.participants.items()}
            assert after.keys() == before.keys() and not after.items() & before.items()
            await until(lambda: room.media.metrics()["peers"] == (4 if dual else 2), "no peer of before is left")
            assert room.media.metrics()["restarts"] == 1

            await bob.me.publish_data("heard you")
            await alice.seen("data_received", lambda packet: packet.data == b"heard you")


async def test_a_panic_that_is_survived_is_not_noticed(room_server: RoomServer) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            media = room_server.manager.media
            for _ in range(5):
                media._inject_fault(0, "panic")
            await until(lambda: media.metrics()["panics"] == 5, "five panics")
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            assert quiet(alice) and quiet(bob)


def quiet(member: Member) -> bool:
    return not any(member.events(event) for event in ("reconnecting", "reconnected", "disconnected"))
