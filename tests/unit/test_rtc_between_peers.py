"""The SDK's transports, sources and streams over two native peers on loopback, without a server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from livekit.protocol import rtc as proto

from greenroom import rtc
from greenroom.rtc.engine import get_engine
from greenroom.rtc.track import RemoteTrackCore, remote_core
from greenroom.rtc.transport import Transport
from greenroom.rtc.utils import sine_wave_generator

pytest.importorskip("greenroom._native")


class FakeSession:
    """Takes what a transport tells its session."""

    def __init__(self) -> None:
        self.data: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def on_data(self, label: str, payload: bytes) -> None:
        self.data.put_nowait((label, payload))

    def on_transport_state(self, transport: Transport, state: str) -> None:
        pass

    def on_negotiation_failed(self, transport: Transport) -> None:
        raise AssertionError("negotiation failed")

    def send(self, request: Any) -> None:
        raise AssertionError("nothing is offered again here")


class Pair:
    def __init__(self) -> None:
        engine = get_engine()
        self.sessions = FakeSession(), FakeSession()
        self.sender = Transport(engine, self.sessions[0], 0)  # type: ignore[arg-type]
        self.receiver = Transport(engine, self.sessions[1], 1)  # type: ignore[arg-type]
        self.sender.open_data_channels()
        self.source = rtc.AudioSource(48000, 1, 100)
        self.mid = self.sender.peer.send_audio(
            self.source._native(), cid="mic", stream_id="-", bitrate=48_000, dtx=False, red=False
        )

    async def connect(self) -> rtc.RemoteTrack:
        offer = self.sender.first_offer()
        answer = self.receiver.peer.accept_offer(offer.sdp)
        self.sender.handle_answer(proto.SessionDescription(type="answer", sdp=answer, id=offer.id))
        for transport in (self.sender, self.receiver):
            await transport.wait_connected(10)
        track = RemoteTrackCore("TR_mic", "mic", rtc.TrackKind.KIND_AUDIO)
        track.connect(self.receiver, self.mid)
        return track.view

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()
        self.sender.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()
    await pair.source.aclose()


async def test_data_channels(pair: Pair) -> None:
    await pair.connect()
    for label in ("_reliable", "_lossy"):
        await pair.sender.wait_channel(label, 10)
        pair.sender.peer.send(label, b"hello")
        async with asyncio.timeout(10):
            assert await pair.sessions[1].data.get() == (label, b"hello")


async def test_sound_reaches_several_streams_of_one_track(pair: Pair) -> None:
    track = await pair.connect()
    streams = [rtc.AudioStream(track, sample_rate=16000), rtc.AudioStream(track, num_channels=2, frame_size_ms=20)]

    async def feed() -> None:
        async for frame in sine_wave_generator(440, 30):
            await pair.source.capture_frame(frame)

    async def crossings(stream: rtc.AudioStream, frames: int) -> tuple[int, float]:
        samples: list[Any] = []
        async for event in stream:
            block = np.frombuffer(event.frame.data, np.int16)[:: event.frame.num_channels]
            if samples or np.abs(block).max() > 1000:
                samples.append(block)
            if len(samples) == frames:
                break
        whole = np.concatenate(samples)
        rate = event.frame.sample_rate
        return int(np.sum((whole[:-1] < 0) & (whole[1:] >= 0))), len(whole) / rate

    feeding = asyncio.create_task(feed())
    async with asyncio.timeout(20):
        results = await asyncio.gather(crossings(streams[0], 100), crossings(streams[1], 50))
    feeding.cancel()
    for count, seconds in results:
        assert abs(count / seconds - 440) < 5
    core = remote_core(track)
    assert core is not None and not core.ended
    core.end()
    for stream in streams:
        async with asyncio.timeout(10):
            async for _ in stream:
                pass
        await stream.aclose()


async def test_a_dropped_stream_is_closed(pair: Pair) -> None:
    track = await pair.connect()
    before = len(get_engine().sinks)
    stream = rtc.AudioStream(track)
    assert len(get_engine().sinks) == before + 1
    del stream
    gc.collect()
    assert len(get_engine().sinks) == before
    assert len(track._core.readers) == 0


async def test_back_pressure_and_playout() -> None:
    source = rtc.AudioSource(48000, 1, 50)
    for _ in range(30):
        await source.capture_frame(rtc.AudioFrame.create(48000, 1, 480))
        assert source.queued_duration <= 0.06
    async with asyncio.timeout(10):
        await source.wait_for_playout()
    assert source.queued_duration == 0
    await source.aclose()
    await source.aclose()


async def test_clearing_the_queue_lets_waiters_go_on() -> None:
    source = rtc.AudioSource(48000, 1, 1000)
    await source.capture_frame(rtc.AudioFrame.create(48000, 1, 48000))
    assert source.queued_duration > 0.5
    capture = asyncio.create_task(source.capture_frame(rtc.AudioFrame.create(48000, 1, 48000)))
    playout = asyncio.create_task(source.wait_for_playout())
    await asyncio.sleep(0)
    assert not capture.done()
    source.clear_queue()
    async with asyncio.timeout(5):
        await capture
    source.clear_queue()
    async with asyncio.timeout(5):
        await playout
    await source.aclose()


async def test_closing_a_source_releases_what_waits() -> None:
    source = rtc.AudioSource(48000, 1, 10)
    await source.capture_frame(rtc.AudioFrame.create(48000, 1, 48000))
    waiting = [asyncio.create_task(source.capture_frame(rtc.AudioFrame.create(48000, 1, 480))) for _ in range(3)]
    await asyncio.sleep(0)
    await source.aclose()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_frames_that_do_not_fit_are_refused() -> None:
    source = rtc.AudioSource(48000, 1)
    with pytest.raises(ValueError, match="48000 Hz with 1"):
        await source.capture_frame(rtc.AudioFrame.create(16000, 1, 160))
    with pytest.raises(ValueError, match="1 or 2 channels"):
        rtc.AudioSource(48000, 3)


async def test_resampling() -> None:
    resampler = rtc.AudioResampler(48000, 16000)
    frames = []
    async for frame in sine_wave_generator(440, 1):
        frames += resampler.push(frame)
    frames += resampler.flush()
    whole = rtc.combine_audio_frames(frames)
    assert whole.sample_rate == 16000
    assert abs(whole.samples_per_channel - 16000) < 400
    samples = np.frombuffer(whole.data, np.int16)[1000:9000]
    assert abs(int(np.sum((samples[:-1] < 0) & (samples[1:] >= 0))) - 220) <= 2
    with pytest.raises(ValueError, match="48000 Hz"):
        resampler.push(rtc.AudioFrame.create(8000, 1, 80))
