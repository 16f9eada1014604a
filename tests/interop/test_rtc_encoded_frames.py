"""Encoded frames of remote tracks, from our SDK's senders and the official one's, through our server."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import struct
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import rtc
from greenroom.server.app import RoomServer
from tests.conftest import until

from .rtc_pairs import GREENROOM, OFFICIAL, WAIT, Member, dominant_frequency, feeding, in_room, listen, watch

RED, BLUE = (220, 30, 30), (30, 30, 220)
both_senders = pytest.mark.parametrize("sender", [GREENROOM, OFFICIAL])
both_codecs = pytest.mark.parametrize("codec", ["VP8", "H264"])


async def record(
    track: Any, enough: Callable[[list[rtc.EncodedFrame]], bool], **options: Any
) -> list[rtc.EncodedFrame]:
    frames: list[rtc.EncodedFrame] = []
    async with asyncio.timeout(WAIT), rtc.EncodedFrameStream(track, **options) as stream:
        async for frame in stream:
            frames.append(frame)
            if enough(frames):
                break
    return frames


def lasting(seconds: float) -> Callable[[list[rtc.EncodedFrame]], bool]:
    return lambda frames: frames[-1].presentation_us - frames[0].presentation_us >= seconds * 1e6


def grows(frames: Sequence[rtc.EncodedFrame]) -> bool:
    return all(a.presentation_us < b.presentation_us for a, b in pairwise(frames))


async def decoded(track: Any) -> int:
    """How often a decoder of the track has run."""
    return sum(entry.inbound_rtp.inbound.frames_decoded for entry in await track.get_stats())


def write_ivf(path: Path, frames: Sequence[rtc.EncodedFrame]) -> None:
    """The container of raw VP8: 32 bytes of header, then length, time and frame."""
    first = frames[0]
    header = struct.pack(
        "<4sHH4sHHIII4x", b"DKIF", 0, 32, b"VP80", first.width, first.height, 1_000_000, 1, len(frames)
    )
    blocks = [
        struct.pack("<IQ", len(frame.data), frame.presentation_us - first.presentation_us) + frame.data
        for frame in frames
    ]
    path.write_bytes(header + b"".join(blocks))


def read_ivf(path: Path) -> list[tuple[int, bytes]]:
    data = path.read_bytes()
    assert data[:4] == b"DKIF"
    at, frames = struct.unpack_from("<H", data, 6)[0], []
    while at < len(data):
        size, stamp = struct.unpack_from("<IQ", data, at)
        frames.append((stamp, data[at + 12 : at + 12 + size]))
        at += 12 + size
    return frames


async def play(
    member: Member, codec: str, frames: Sequence[tuple[int, bytes]], keys: Sequence[bool]
) -> asyncio.Task[None]:
    """Publish frames as they are, again and again, with the official package, which takes them as encoded by somebody else."""
    sdk = member.sdk
    source = sdk.EncodedVideoSource(320, 240)
    track = sdk.LocalVideoTrack.create_video_track("replay", source)
    options = sdk.TrackPublishOptions(
        source=sdk.TrackSource.SOURCE_CAMERA,
        video_codec=sdk.VideoCodec.Value(codec),
        video_encoder=sdk.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED,
        simulcast=False,
    )
    await member.me.publish_track(track, options)

    async def feed() -> None:
        kind = sdk.EncodedFrameType
        while True:
            for (_, data), key in zip(frames, keys, strict=True):
                source.capture_frame(
                    sdk.EncodedVideoFrame(
                        data,
                        320,
                        240,
                        sdk.VideoCodec.Value(codec),
                        kind.ENCODED_FRAME_KEY if key else kind.ENCODED_FRAME_DELTA,
                        time.monotonic_ns() // 1000,
                    )
                )
                await asyncio.sleep(1 / 20)

    return asyncio.create_task(feed())


@both_senders
@both_codecs
async def test_a_recorded_picture_plays_elsewhere(
    room_server: RoomServer, tmp_path: Path, sender: str, codec: str
) -> None:
    async with in_room(room_server, sender, GREENROOM) as (alice, bob):
        _, task = await alice.publish_picture(RED, BLUE, video_codec=alice.sdk.VideoCodec.Value(codec))
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            frames = await record(track, lasting(3))
            assert await decoded(track) == 0
    assert {frame.mime_type for frame in frames} == {f"video/{codec}"}
    first = frames[0]
    assert first.key_frame and (first.width, first.height, first.clock_rate) == (320, 240, 90_000)
    assert grows(frames) and not any(frame.discontinuity for frame in frames)
    # Twenty a second were pushed.
    assert 40 <= len(frames) <= 70
    apart = frames[-1].presentation_us - first.presentation_us
    by_clock = (frames[-1].rtp_timestamp - first.rtp_timestamp) % 2**32 / 90_000 * 1e6
    assert abs(apart - by_clock) < 0.1 * apart
    if codec == "VP8":
        path = tmp_path / "alice.ivf"
        write_ivf(path, frames)
        replay = read_ivf(path)
    else:
        replay = [(frame.presentation_us, frame.data) for frame in frames]
        assert first.data.startswith(b"\0\0\0\1") and first.data[4] & 0x1F == 7, "a parameter set comes first"
    async with in_room(room_server, OFFICIAL, GREENROOM) as (carol, dave):
        async with feeding(await play(carol, codec, replay, [frame.key_frame for frame in frames])):
            track, *_ = await dave.seen("track_subscribed")
            await watch(dave, track, RED, BLUE)


@pytest.mark.quiet
@both_senders
async def test_sound_packet_by_packet(room_server: RoomServer, sender: str) -> None:
    async with in_room(room_server, sender, GREENROOM) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            frames = await record(track, lasting(3))
            assert await decoded(track) == 0
    assert {(f.mime_type, f.clock_rate, f.duration_us, f.key_frame) for f in frames} == {
        ("audio/opus", 48_000, 20_000, True)
    }
    assert not any(frame.discontinuity for frame in frames)
    steps = {(b.rtp_timestamp - a.rtp_timestamp) % 2**32 for a, b in pairwise(frames)}
    assert steps == {960}
    assert grows(frames) and abs(len(frames) - 151) <= 2
    samples = decode_opus(frames)
    assert abs(dominant_frequency(samples[48_000:].reshape(-1, 1)) - 440) < 3


def decode_opus(frames: Sequence[rtc.EncodedFrame]) -> Any:
    """48 kHz mono, by the system's libopus: another one than ours."""
    name = ctypes.util.find_library("opus")
    if name is None:
        pytest.skip("this system has no libopus to decode with")
    opus = ctypes.CDLL(name)
    opus.opus_decoder_create.restype = ctypes.c_void_p
    error = ctypes.c_int()
    decoder = ctypes.c_void_p(opus.opus_decoder_create(48_000, 1, ctypes.byref(error)))
    assert error.value == 0
    out = (ctypes.c_int16 * 5760)()
    blocks = []
    for frame in frames:
        count = opus.opus_decode(decoder, frame.data, len(frame.data), out, 5760, 0)
        assert count == frame.duration_us * 48 // 1000
        blocks.append(np.array(out[:count], np.int16))
    opus.opus_decoder_destroy(decoder)
    return np.concatenate(blocks)


async def test_sound_and_pictures_are_on_one_clock(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            _, picture = await alice.publish_picture(RED, BLUE)
            async with feeding(picture):
                sound, *_ = await bob.seen("track_subscribed", lambda t, *_: t.kind == rtc.TrackKind.KIND_AUDIO)
                view, *_ = await bob.seen("track_subscribed", lambda t, *_: t.kind == rtc.TrackKind.KIND_VIDEO)
                before = time.monotonic_ns() // 1000
                heard, seen = await asyncio.gather(record(sound, lasting(4)), record(view, lasting(4)))
                after = time.monotonic_ns() // 1000
    for frames in (heard, seen):
        # On this machine's clock, with what is sent now.
        assert before - 500_000 < frames[0].presentation_us < frames[-1].presentation_us < after + 200_000


@pytest.mark.quiet
@both_senders
async def test_beside_decoding_streams(room_server: RoomServer, sender: str) -> None:
    async with in_room(room_server, sender, GREENROOM) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone):
            track, *_ = await bob.seen("track_subscribed")
            frames, samples = await asyncio.gather(record(track, lasting(1)), listen(bob, track))
            assert abs(dominant_frequency(samples) - 440) < 3
            assert len(frames) >= 50
            await until(lambda: decoded(track), "a decoder ran")


async def test_a_key_frame_on_request(room_server: RoomServer) -> None:
    async with in_room(room_server, OFFICIAL, GREENROOM) as (alice, bob):
        _, task = await alice.publish_picture(RED, BLUE)
        async with feeding(task), asyncio.timeout(WAIT):
            track, *_ = await bob.seen("track_subscribed")
            async with rtc.EncodedFrameStream.from_track(track=track) as stream:
                frames = [await anext(stream) for _ in range(20)]
                stream.request_key_frame()
                async for frame in stream:
                    frames.append(frame)
                    if frame.key_frame:
                        break
    assert not any(frame.discontinuity for frame in frames)


async def test_a_slow_reader_is_told(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        _, tone = await alice.publish_tone(440)
        async with feeding(tone), asyncio.timeout(WAIT):
            track, *_ = await bob.seen("track_subscribed")
            stream = rtc.EncodedFrameStream(track, capacity=5)
            await until(lambda: stream.dropped > 10, "the stream overflows")
            frames = [await anext(stream) for _ in range(8)]
            assert [frame.discontinuity for frame in frames] == [True] + [False] * 7
            dropped = stream.dropped
            await stream.aclose()
            await stream.aclose()
            assert stream.dropped == dropped
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
    with pytest.raises(ValueError, match="remote track"):
        rtc.EncodedFrameStream(rtc.LocalAudioTrack.create_audio_track("mic", rtc.AudioSource(48_000, 1)))
    with pytest.raises(ValueError, match="capacity"):
        rtc.EncodedFrameStream(track, capacity=-1)


async def test_it_ends_with_the_track_and_goes_on_after_a_resume(room_server: RoomServer) -> None:
    async with in_room(room_server, OFFICIAL, GREENROOM) as (alice, bob):
        publication, tone = await alice.publish_tone(440)
        async with feeding(tone), asyncio.timeout(2 * WAIT):
            track, *_ = await bob.seen("track_subscribed")
            stream = rtc.EncodedFrameStream(track)
            await anext(stream)
            await bob.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT)
            await bob.seen("reconnected")
            for _ in range(100):
                assert not (await anext(stream)).discontinuity
            await alice.me.unpublish_track(publication.sid)
            async for _ in stream:
                pass


async def test_it_follows_a_participant(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        them = bob.room.remote_participants["alice"]
        source = rtc.TrackSource.SOURCE_MICROPHONE
        stream = rtc.EncodedFrameStream.from_participant(participant=them, track_source=source)
        async with asyncio.timeout(2 * WAIT):
            for _ in range(2):
                publication, tone = await alice.publish_tone(440)
                async with feeding(tone):
                    # Half a second, more than what may still wait of the track before.
                    for _ in range(25):
                        assert (await anext(stream)).mime_type == "audio/opus"
                    await alice.me.unpublish_track(publication.sid)
            await alice.room.disconnect()
            async for _ in stream:
                pass
