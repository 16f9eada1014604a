"""What a room tells: speakers, statistics, permissions, refusals, metadata, endings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.protocol import models, room as room_service

from greenroom import rtc
from greenroom.api import LiveKitAPI
from greenroom.rtc.transport import track_sids
from greenroom.server.app import RoomServer
from tests.conftest import token, until

from .rtc_pairs import GREENROOM, OFFICIAL, PAIRS, Member, dominant_frequency, feeding, in_room, listen

all_pairs = pytest.mark.parametrize(("first", "second"), PAIRS)


@all_pairs
async def test_speakers_are_announced(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("active_speakers_changed", lambda speakers: [p.identity for p in speakers] == ["alice"])
            await alice.seen("active_speakers_changed", lambda speakers: [p.identity for p in speakers] == ["alice"])
        await bob.seen("active_speakers_changed", lambda speakers: speakers == [])


async def test_statistics(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            track, publication, _ = await bob.seen("track_subscribed")
            await listen(bob, track)

            async def packets() -> int:
                return sum(s.inbound_rtp.received.packets_received for s in await track.get_stats())

            await until(packets, "received packets in the statistics")
            kinds = [entry.WhichOneof("stats") for entry in (await bob.room.get_rtc_stats()).publisher_stats]
            assert {"candidate_pair", "inbound_rtp", "codec"} <= set(kinds)
            sent = await alice.me.track_publications[publication.sid].track.get_stats()
            assert sent[0].outbound_rtp.sent.packets_sent > 0
    with pytest.raises(RuntimeError, match="isn't connected"):
        await bob.room.get_rtc_stats()


@pytest.mark.parametrize("insists", [False, True], ids=["bob thinks better of it", "the server insists"])
@pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
async def test_a_track_that_was_switched_off_before_it_came_does_not_come(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch, dual: bool, insists: bool
) -> None:
    monkeypatch.setattr("greenroom.rtc.track_publication.REFUSAL", 1.0 if insists else 100.0)
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        session = bob.room._core.session
        send = session.send

        def slow(request: Any) -> None:
            """The server does not learn of bob's choices."""
            if request.WhichOneof("message") != "subscription":
                send(request)

        monkeypatch.setattr(session, "send", slow)
        bob.room.on("track_published", lambda publication, participant: publication.set_subscribed(False))
        published, task = await alice.publish_tone(440)
        async with feeding(task):
            transport = session.subscriber if dual else session.publisher

            def sent() -> set[str]:
                theirs = transport.remote_description
                return {*theirs.mid_to_track_id.values(), *track_sids(theirs.sdp).values()} if theirs else set()

            await until(lambda: published.sid in sent(), "the server sends it all the same")
            publication = bob.room.remote_participants["alice"].track_publications[published.sid]
            if not insists:
                assert not publication.subscribed and not bob.events("track_subscribed")
                # The server has nothing to change.
                publication.set_subscribed(True)
                assert not publication.subscribed, "a handler does not run while somebody else decides"
            track, *_ = await bob.seen("track_subscribed")
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 5
        assert not bob.events("track_unsubscribed")


async def test_refusals_are_errors(room_server: RoomServer) -> None:
    room = rtc.Room()
    await room.connect(room_server.url, token("mute", can_publish=False, can_publish_data=False))
    try:
        track = rtc.LocalAudioTrack.create_audio_track("mic", rtc.AudioSource(48000, 1))
        with pytest.raises(rtc.PublishTrackError, match="NOT_ALLOWED"):
            await room.local_participant.publish_track(track)
        assert room.local_participant.track_publications == {}
        with pytest.raises(rtc.PublishDataTrackError, match="NOT_ALLOWED"):
            await room.local_participant.publish_data_track(name="x")
        with pytest.raises(rtc.PublishDataError, match="64000"):
            await room.local_participant.publish_data(bytes(64_001))
        with pytest.raises(rtc.UnpublishTrackError):
            await room.local_participant.unpublish_track("TR_none")
    finally:
        await room.disconnect()
    with pytest.raises(rtc.PublishTrackError, match="not connected"):
        await room.local_participant.publish_track(track)
    with pytest.raises(rtc.PublishDataError, match="not connected"):
        await room.local_participant.publish_data("x")
    with pytest.raises(rtc.MetadataError, match="not connected"):
        await room.local_participant.set_metadata("x")


async def test_a_track_is_published_once_and_again_elsewhere(room_server: RoomServer) -> None:
    first, second = Member(rtc, "first"), Member(rtc, "second")
    source = rtc.AudioSource(48000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("mic", source)
    await first.connect(room_server.url)
    await first.me.publish_track(track)
    with pytest.raises(rtc.PublishTrackError, match="already"):
        await first.me.publish_track(track)
    await first.room.disconnect()
    await second.connect(room_server.url)
    publication = await second.me.publish_track(track)
    assert publication.sid == track.sid
    await second.room.disconnect()


@all_pairs
async def test_subscription_permissions(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        alice.me.set_track_subscription_permissions(allow_all_participants=False)
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_published")
            assert bob.events("track_subscribed") == []
            allowed = alice.sdk.ParticipantTrackPermission(participant_identity="bob", allow_all=True)
            alice.me.set_track_subscription_permissions(allow_all_participants=False, participant_permissions=[allowed])
            track, *_ = await bob.seen("track_subscribed")
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            alice.me.set_track_subscription_permissions(allow_all_participants=False)
            if bob.sdk is rtc:
                await bob.seen("track_unsubscribed")


async def test_administration_reaches_us(room_server: RoomServer, api: LiveKitAPI) -> None:
    async with in_room(room_server, GREENROOM, OFFICIAL) as (alice, bob):
        await api.room.update_room_metadata(room_service.UpdateRoomMetadataRequest(room="test", metadata="new"))
        assert await alice.seen("room_metadata_changed") == ("", "new")
        assert alice.room.metadata == "new"
        await api.room.update_participant(
            room_service.UpdateParticipantRequest(room="test", identity="alice", attributes={"by": "admin"})
        )
        await alice.seen("participant_attributes_changed", lambda changed, p: changed == {"by": "admin"})
        await api.room.send_data(
            room_service.SendDataRequest(room="test", data=b"hello", kind=models.DataPacket.RELIABLE, topic="api")
        )
        (packet,) = await alice.seen("data_received")
        assert (packet.data, packet.topic, packet.participant) == (b"hello", "api", None)
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_subscribed")
            await api.room.mute_published_track(
                room_service.MuteRoomTrackRequest(room="test", identity="alice", track_sid=publication.sid, muted=True)
            )
            await alice.seen("track_muted", lambda p, pub: p.identity == "alice")
            assert publication.muted
            assert publication.track.muted
        await api.room.delete_room(room_service.DeleteRoomRequest(room="test"))
        (reason,) = await alice.seen("disconnected")
        assert reason == rtc.DisconnectReason.ROOM_DELETED


async def test_the_room_describes_itself(room_server: RoomServer) -> None:
    async with rtc.Room() as room:
        await room.connect(room_server.url, token("alice", "described"))
        assert room.name == "described"
        assert (await room.sid).startswith("RM_")
        assert room.isconnected()
        assert room.creation_time.tzinfo is not None
        assert room.empty_timeout > 0
        me = room.local_participant
        assert (me.identity, me.name, me.kind) == ("alice", "alice", rtc.ParticipantKind.STANDARD)
        assert me.permissions.can_publish
        assert me.joined_at is not None
        assert "described" in repr(room)
    assert not room.isconnected()


async def test_event_iterator_and_async_handlers(room_server: RoomServer) -> None:
    async with rtc.Room() as alice, rtc.Room() as bob:
        await alice.connect(room_server.url, token("alice"))
        joined = asyncio.Event()

        @alice.on("participant_connected")
        async def on_joined(participant: rtc.RemoteParticipant) -> None:
            assert participant.identity == "bob"
            joined.set()

        async def first_message() -> bytes:
            async for (packet,) in alice.events("data_received"):
                return packet.data
            raise AssertionError

        reading = asyncio.create_task(first_message())
        await bob.connect(room_server.url, token("bob"))
        await bob.local_participant.publish_data("hi")
        async with asyncio.timeout(10):
            await joined.wait()
            assert await reading == b"hi"


async def test_joining_many_rooms_at_once(room_server: RoomServer) -> None:
    rooms = [rtc.Room() for _ in range(20)]
    await asyncio.gather(*(room.connect(room_server.url, token("a", f"r{i}")) for i, room in enumerate(rooms)))
    assert {room.name for room in rooms} == {f"r{i}" for i in range(20)}
    await asyncio.gather(*(room.disconnect() for room in rooms))


async def test_what_is_not_a_reconnect_is_refused(room_server: RoomServer) -> None:
    async with rtc.Room() as room:
        await room.connect(room_server.url, token("alice"))
        with pytest.raises(rtc.ConnectError, match="connected already"):
            await room.connect(room_server.url, token("alice"))
        with pytest.raises(ValueError, match="cannot be simulated"):
            await room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FORCE_TCP)
    with pytest.raises(RuntimeError):
        await room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_SPEAKER)
