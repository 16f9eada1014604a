"""Sound and pictures between our SDK and the official one, through our server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from greenroom.server.app import RoomServer

from .rtc_pairs import GREENROOM, OFFICIAL, PAIRS, dominant_frequency, feeding, in_room, listen, watch

RED, BLUE = (220, 30, 30), (30, 30, 220)


@pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
async def test_a_tone_arrives_at_its_frequency(room_server: RoomServer, sender: str, receiver: str, dual: bool) -> None:
    async with in_room(room_server, sender, receiver, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            track, remote, participant = await bob.seen("track_subscribed")
            assert (remote.sid, participant.identity) == (publication.sid, "alice")
            assert remote.source == bob.sdk.TrackSource.SOURCE_MICROPHONE
            samples = await listen(bob, track)
            assert abs(dominant_frequency(samples) - 440) < 3
            assert abs(int(samples.max()) - 9000) < 2500


@pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_picture_arrives_in_its_colours(
    room_server: RoomServer, sender: str, receiver: str, codec: str, dual: bool
) -> None:
    async with in_room(room_server, sender, receiver, dual=dual) as (alice, bob):
        _, task = await alice.publish_picture(RED, BLUE, video_codec=alice.sdk.VideoCodec.Value(codec))
        async with feeding(task):
            track, remote, _ = await bob.seen("track_subscribed")
            frame = await watch(bob, track, RED, BLUE)
            assert (frame.width, frame.height) == (320, 240)
            assert remote.mime_type.lower() == f"video/{codec.lower()}"


async def test_any_rate_and_number_of_channels(room_server: RoomServer) -> None:
    async with in_room(room_server, OFFICIAL, GREENROOM) as (alice, bob):
        _, task = await alice.publish_tone(1000)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            for rate, channels in [(8000, 1), (16000, 2), (24000, 1), (44100, 2)]:
                samples = await listen(bob, track, rate=rate, channels=channels)
                assert abs(dominant_frequency(samples, rate) - 1000) < 5


@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
async def test_simulcast_is_received(room_server: RoomServer, sender: str, receiver: str) -> None:
    async with in_room(room_server, sender, receiver) as (alice, bob):
        source = alice.sdk.VideoSource(1280, 720)
        track = alice.sdk.LocalVideoTrack.create_video_track("cam", source)
        picture = np.full((720, 1280, 4), (30, 200, 30, 255), np.uint8)
        frame = alice.sdk.VideoFrame(1280, 720, alice.sdk.VideoBufferType.RGBA, picture.tobytes())
        options = alice.sdk.TrackPublishOptions(source=alice.sdk.TrackSource.SOURCE_CAMERA, simulcast=True)
        await alice.me.publish_track(track, options)

        async def feed() -> None:
            while True:
                source.capture_frame(frame)
                await asyncio.sleep(1 / 10)

        async with feeding(asyncio.create_task(feed())):
            remote, publication, _ = await bob.seen("track_subscribed")
            assert publication.simulcasted
            await watch(bob, remote, (30, 200, 30), (30, 200, 30))
