"""5 % loss both ways and up to 30 ms of jitter between two participants and the server: everything still works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest

from greenroom import rtc
from greenroom.server.app import RoomServer
from tests.interop.rtc_pairs import GREENROOM, dominant_frequency, feeding, in_room, listen
from tests.sim.lossy_link import LossyLink, through

pytestmark = pytest.mark.timeout(90)

LOSS, JITTER, SEED = 0.05, 0.03, 1


@pytest.fixture
async def link(room_server: RoomServer) -> AsyncIterator[LossyLink]:
    """Answers name the relay's port instead of the server's."""
    port = room_server.manager.media.port(0)
    link = LossyLink(("127.0.0.1", port), loss=LOSS, jitter=JITTER, seed=SEED)
    with through(await link.start(), port):
        yield link
    link.close()


async def test_messages_arrive_complete_and_in_order(room_server: RoomServer, link: LossyLink) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        for number in range(150):
            await alice.me.publish_data(f"{number} ".encode() + b"x" * 2000)
        await bob.seen("data_received", lambda p: p.data.startswith(b"149 "), seconds=60)
        assert [int(p.data.split()[0]) for (p,) in bob.events("data_received")] == list(range(150))
        assert link.lost > 5


async def test_sound_goes_on(room_server: RoomServer, link: LossyLink) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            samples = await listen(bob, track, seconds=4)
            assert abs(dominant_frequency(samples) - 440) < 3
            # Loss is concealed: no tenth of a second is silent.
            blocks = np.abs(samples[: len(samples) // 4800 * 4800, 0]).reshape(-1, 4800).max(axis=1)
            assert blocks.min() > 1000
            assert link.lost > 5


@pytest.mark.parametrize("codec", [rtc.VideoCodec.VP8, rtc.VideoCodec.H264])
async def test_pictures_keep_coming(room_server: RoomServer, link: LossyLink, codec: rtc.VideoCodec) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, task = await alice.publish_picture((220, 30, 30), (30, 30, 220), video_codec=codec)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            good = 0
            async with asyncio.timeout(40), rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA) as stream:
                async for event in stream:
                    frame = event.frame
                    pixels = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4).astype(int)
                    left = pixels[frame.height // 2, frame.width // 4, :3]
                    good += bool(np.abs(left - (220, 30, 30)).max() < 40)
                    if good == 100:
                        break
            assert link.lost > 5


async def test_encoded_frames_name_what_is_lost(room_server: RoomServer, link: LossyLink) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            track, *_ = await bob.seen("track_subscribed")
            packets: list[rtc.EncodedFrame] = []
            async with asyncio.timeout(60), rtc.EncodedFrameStream(track) as stream:
                async for packet in stream:
                    packets.append(packet)
                    if len(packets) >= 300 and any(p.discontinuity for p in packets):
                        break
    # A hole is where the sender's clock jumps over packets, and nowhere else.
    for one, two in pairwise(packets):
        step = (two.rtp_timestamp - one.rtp_timestamp) % 2**32
        assert step % 960 == 0
        assert two.discontinuity == (step > 960)
        assert two.presentation_us > one.presentation_us


@pytest.mark.parametrize("codec", [rtc.VideoCodec.VP8, rtc.VideoCodec.H264])
async def test_encoded_pictures_recover(room_server: RoomServer, link: LossyLink, codec: rtc.VideoCodec) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, task = await alice.publish_picture((220, 30, 30), (30, 30, 220), video_codec=codec)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            frames: list[rtc.EncodedFrame] = []
            async with asyncio.timeout(60), rtc.EncodedFrameStream(track) as stream:
                async for frame in stream:
                    frames.append(frame)
                    if len(frames) >= 150:
                        break
    assert frames[0].key_frame and not frames[0].discontinuity
    assert all(one.presentation_us < two.presentation_us for one, two in pairwise(frames))
    # Whatever is lost for good is followed by a key frame within the second, because one is asked for.
    for index, frame in enumerate(frames[:-30]):
        if frame.discontinuity:
            assert any(later.key_frame for later in frames[index : index + 30])
