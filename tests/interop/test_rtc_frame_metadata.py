"""What is said about pictures arrives with them, between our SDK and the official one, through our server."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from greenroom.server.app import RoomServer

from .rtc_pairs import GREENROOM, OFFICIAL, PAIRS, WAIT, Member, feeding, in_room

LEVELS = (40, 100, 160, 220)
"""Of grey. A picture's frame id is its level, so that a word that arrives with another picture is noticed."""


def features(member: Member) -> list[Any]:
    feature = member.sdk.FrameMetadataFeature
    return [feature.FMF_USER_TIMESTAMP, feature.FMF_FRAME_ID, feature.FMF_USER_DATA]


async def publish(member: Member, size: tuple[int, int] = (320, 240), **options: Any) -> tuple[Any, asyncio.Task[None]]:
    source = member.sdk.VideoSource(*size)
    track = member.sdk.LocalVideoTrack.create_video_track("cam", source)
    options = {"source": member.sdk.TrackSource.SOURCE_CAMERA, **options}
    publication = await member.me.publish_track(track, member.sdk.TrackPublishOptions(**options))

    async def feed() -> None:
        count = 0
        while True:
            level = LEVELS[count % len(LEVELS)]
            count += 1
            picture = np.full((size[1], size[0], 4), (level, level, level, 255), np.uint8)
            frame = member.sdk.VideoFrame(*size, member.sdk.VideoBufferType.RGBA, picture.tobytes())
            said = member.sdk.FrameMetadata(
                user_timestamp=1_700_000_000_000_000 + level, frame_id=level, user_data=b"grey %d" % level
            )
            source.capture_frame(frame, metadata=said)
            await asyncio.sleep(1 / 15)

    return publication, asyncio.create_task(feed())


async def see(member: Member, track: Any, pictures: int) -> list[tuple[int, Any]]:
    """So many pictures that have something said about them, each with its level of grey."""
    seen: list[tuple[int, Any]] = []
    stream = member.sdk.VideoStream(track, format=member.sdk.VideoBufferType.RGBA)
    try:
        async with asyncio.timeout(WAIT):
            async for event in stream:
                frame = event.frame
                pixels = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)
                if event.metadata is not None:
                    seen.append((int(pixels[frame.height // 2, frame.width // 2, 0]), event.metadata))
                    if len(seen) == pictures:
                        break
    finally:
        await stream.aclose()
    return seen


@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_each_picture_arrives_with_its_words(
    room_server: RoomServer, sender: str, receiver: str, codec: str
) -> None:
    async with in_room(room_server, sender, receiver) as (alice, bob):
        asked = features(alice)
        publication, task = await publish(
            alice, frame_metadata_features=asked, video_codec=alice.sdk.VideoCodec.Value(codec)
        )
        async with feeding(task):
            assert list(publication.frame_metadata_features) == asked
            track, remote, _ = await bob.seen("track_subscribed")
            assert list(remote.frame_metadata_features) == asked
            for level, said in await see(bob, track, 20):
                assert abs(level - said.frame_id) < 20
                assert said.user_timestamp == 1_700_000_000_000_000 + said.frame_id
                assert said.user_data == b"grey %d" % said.frame_id


@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
async def test_a_layer_of_a_simulcast_has_its_words(room_server: RoomServer, sender: str, receiver: str) -> None:
    async with in_room(room_server, sender, receiver) as (alice, bob):
        _, task = await publish(alice, (1280, 720), simulcast=True, frame_metadata_features=features(alice))
        async with feeding(task):
            track, remote, _ = await bob.seen("track_subscribed")
            for quality in (bob.sdk.VideoQuality.VIDEO_QUALITY_LOW, bob.sdk.VideoQuality.VIDEO_QUALITY_HIGH):
                remote.set_video_quality(quality)
                for level, said in await see(bob, track, 8):
                    assert abs(level - said.frame_id) < 20


@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
async def test_nothing_is_sent_that_was_not_announced(room_server: RoomServer, sender: str, receiver: str) -> None:
    async with in_room(room_server, sender, receiver) as (alice, bob):
        _, task = await publish(alice)
        async with feeding(task):
            track, remote, _ = await bob.seen("track_subscribed")
            assert list(remote.frame_metadata_features) == []
            stream = bob.sdk.VideoStream(track)
            async with asyncio.timeout(WAIT):
                for _ in range(10):
                    assert (await anext(stream)).metadata is None
            await stream.aclose()


async def test_words_before_and_after_a_full_reconnect(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, OFFICIAL) as (alice, bob):
        publication, task = await publish(alice, frame_metadata_features=features(alice))
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            assert await see(bob, track, 3)
            before = publication.sid
            await alice.room.simulate_scenario(alice.sdk.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            await alice.seen("local_track_republished")
            assert list(publication.frame_metadata_features) == features(alice)
            track, *_ = await bob.seen("track_subscribed", lambda _, remote, __: remote.sid != before)
            assert await see(bob, track, 3)
