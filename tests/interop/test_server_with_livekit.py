"""Two clients of the official `livekit` package in a room of ours, with one and with two peer connections."""

from __future__ import annotations

import asyncio

import pytest
from livekit import rtc

from greenroom.server.app import RoomServer
from tests.conftest import until

from .rtc_pairs import OFFICIAL, Member, dominant_frequency, feeding, in_room, listen, unsubscribed, watch

RED, BLUE = (220, 30, 30), (30, 30, 220)
both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])


@both_modes
async def test_tone_and_picture_arrive(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        mic, tone = await alice.publish_tone(440)
        cam, picture = await alice.publish_picture(RED, BLUE)
        async with feeding(tone), feeding(picture):
            track, publication, _ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == mic.sid)
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            track, publication, _ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == cam.sid)
            assert publication.mime_type.lower() == "video/vp8"
            await watch(bob, track, RED, BLUE)


@both_modes
@pytest.mark.parametrize("codec", ["H264", "VP9", "AV1"])
async def test_every_video_codec_is_forwarded(room_server: RoomServer, codec: str, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        _, picture = await alice.publish_picture(
            RED, BLUE, video_codec=rtc.VideoCodec.Value(codec), simulcast=codec == "H264"
        )
        async with feeding(picture):
            track, *_ = await bob.seen("track_subscribed")
            await watch(bob, track, RED, BLUE)


@both_modes
async def test_both_directions_at_once(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        _, first = await alice.publish_tone(440)
        _, second = await bob.publish_tone(880)
        async with feeding(first), feeding(second):
            for one, frequency in ((alice, 880), (bob, 440)):
                track, *_ = await one.seen("track_subscribed")
                assert abs(dominant_frequency(await listen(one, track)) - frequency) < 3


async def test_more_tracks_than_first_sections(room_server: RoomServer) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL) as (alice, bob):
        published = [await alice.publish_tone(300 + 100 * index) for index in range(5)]
        async with asyncio.TaskGroup() as group:
            for index, (publication, _) in enumerate(published):
                track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p, sid=publication.sid: p.sid == sid)
                group.create_task(hear(bob, track, 300 + 100 * index))
        for _, task in published:
            task.cancel()


async def hear(one: Member, track: rtc.RemoteAudioTrack, frequency: float) -> None:
    assert abs(dominant_frequency(await listen(one, track)) - frequency) < 3


@both_modes
async def test_unsubscribe_and_subscribe_again(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        _, picture = await alice.publish_picture(RED, BLUE)
        async with feeding(picture):
            track, publication, _ = await bob.seen("track_subscribed")
            await watch(bob, track, RED, BLUE)
            publication.set_subscribed(False)
            await unsubscribed(room_server, bob)
            publication.set_subscribed(True)
            await until(lambda: len(bob.events("track_subscribed")) == 2, "the track comes back")
            await watch(bob, bob.events("track_subscribed")[1][0], RED, BLUE)


@both_modes
async def test_unpublish_and_publish_again(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        for frequency in (440, 660, 880):
            publication, tone = await alice.publish_tone(frequency)
            async with feeding(tone):
                track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p, sid=publication.sid: p.sid == sid)
                await hear(bob, track, frequency)
            await alice.me.unpublish_track(publication.sid)
            await bob.seen("track_unpublished", lambda p, _p, sid=publication.sid: p.sid == sid)


@both_modes
async def test_late_joiner_gets_what_is_there(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, _):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            late = Member(rtc, "late")
            await late.connect(room_server.url, dual=dual)
            track, *_ = await late.seen("track_subscribed")
            await hear(late, track, 440)
            await late.room.disconnect()
            await alice.seen("participant_disconnected", lambda p: p.identity == "late")


@both_modes
async def test_data_text_and_calls(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        for reliable in (True, False):
            await alice.me.publish_data(b"hello", reliable=reliable, topic=f"t{reliable}")
            (packet,) = await bob.seen("data_received", lambda p, topic=f"t{reliable}": p.topic == topic)
            assert (packet.data, packet.participant.identity) == (b"hello", "alice")
        texts: asyncio.Queue[str] = asyncio.Queue()

        async def read(reader: rtc.TextStreamReader) -> None:
            texts.put_nowait(await reader.read_all())

        readers: set[asyncio.Task[None]] = set()
        bob.room.register_text_stream_handler("chat", lambda reader, _: readers.add(asyncio.create_task(read(reader))))
        for text in ("short", "long " * 20_000):
            await alice.me.send_text(text, topic="chat")
            assert await asyncio.wait_for(texts.get(), 10) == text
        bob.me.register_rpc_method("greet", lambda call: _greet(call.payload))
        assert await alice.me.perform_rpc(destination_identity="bob", method="greet", payload="alice") == "hi alice"


async def _greet(payload: str) -> str:
    return f"hi {payload}"


@both_modes
async def test_state_is_acknowledged_and_seen(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        await alice.me.set_attributes({"k": "v"})
        await alice.me.set_metadata("m")
        await alice.me.set_name("Alice")
        await bob.seen("participant_attributes_changed", lambda changed, _: changed == {"k": "v"})
        await bob.seen("participant_metadata_changed", lambda *args: args[-1] == "m")
        await bob.seen("participant_name_changed")
        publication, tone = await alice.publish_tone(440)
        async with feeding(tone):
            await bob.seen("track_subscribed")
            await bob.seen("active_speakers_changed", lambda speakers: [p.identity for p in speakers] == ["alice"])
            publication.track.mute()
            await bob.seen("track_muted")
            publication.track.unmute()
            await bob.seen("track_unmuted")


@both_modes
async def test_resume_keeps_media_flowing(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            track, *_ = await bob.seen("track_subscribed")
            sid = room_server.manager.rooms["test"].participants["alice"].sid
            await alice.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT)
            await alice.seen("reconnected")
            assert room_server.manager.rooms["test"].participants["alice"].sid == sid
            await hear(bob, track, 440)
            await alice.me.publish_data(b"still here")
            await bob.seen("data_received", lambda packet: packet.data == b"still here")


@both_modes
async def test_full_reconnect_publishes_again(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, OFFICIAL, OFFICIAL, dual=dual) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            await bob.seen("track_subscribed")
            sid = room_server.manager.rooms["test"].participants["alice"].sid
            await alice.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            await until(lambda: len(bob.events("track_subscribed")) == 2, "the track is published again", 20)
            assert room_server.manager.rooms["test"].participants["alice"].sid != sid
            await hear(bob, bob.events("track_subscribed")[1][0], 440)


async def test_encrypted_media_passes_untouched(room_server: RoomServer) -> None:
    """End-to-end encryption: the server forwards what it cannot read."""
    members = [Member(rtc, "alice"), Member(rtc, "bob")]
    try:
        for member in members:
            keys = rtc.KeyProviderOptions(shared_key=b"a secret between the two")
            await member.connect(room_server.url, encryption=rtc.E2EEOptions(key_provider_options=keys))
        alice, bob = members
        mic, tone = await alice.publish_tone(440)
        cam, picture = await alice.publish_picture(RED, BLUE)
        async with feeding(tone), feeding(picture):
            track, publication, _ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == mic.sid)
            assert publication.encryption_type == rtc.EncryptionType.GCM
            await hear(bob, track, 440)
            track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == cam.sid)
            await watch(bob, track, RED, BLUE)
            await alice.me.publish_data(b"secret")
            (packet,) = await bob.seen("data_received")
            assert packet.data == b"secret"
    finally:
        for member in members:
            await member.room.disconnect()
