"""Video sources and streams over two native peers on loopback, without a server; conversions."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit.protocol import rtc as proto

from greenroom import rtc
from greenroom.rtc.engine import get_engine
from greenroom.rtc.track import RemoteTrackCore
from greenroom.rtc.transport import Transport
from tests.unit.test_rtc_between_peers import FakeSession

pytest.importorskip("greenroom._native")

RED, BLUE = (220, 30, 30), (30, 30, 220)


def picture(width: int = 320, height: int = 240) -> rtc.VideoFrame:
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[:, : width // 2, :3], pixels[:, width // 2 :, :3] = RED, BLUE
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGBA, pixels.tobytes())


def colours(frame: rtc.VideoFrame) -> tuple[Any, Any]:
    if frame.type != rtc.VideoBufferType.RGBA:
        frame = frame.convert(rtc.VideoBufferType.RGBA)
    pixels = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)[:, :, :3].astype(int)
    return pixels[frame.height // 2, frame.width // 4], pixels[frame.height // 2, frame.width * 3 // 4]


def shows_both(frame: rtc.VideoFrame) -> bool:
    left, right = colours(frame)
    return bool(np.abs(left - RED).max() < 30 and np.abs(right - BLUE).max() < 30)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_pictures_arrive_and_streams_end(codec: str) -> None:
    engine = get_engine()
    sender, receiver = (Transport(engine, FakeSession(), target) for target in (0, 1))  # type: ignore[arg-type]
    source = rtc.VideoSource(320, 240)
    source.capture_frame(picture())
    mid = sender.peer.send_video(
        source._native(), cid="cam", stream_id="-", codec=codec, layers=[("", 1.0, 500_000, 30.0)]
    )
    offer = sender.first_offer()
    answer = receiver.peer.accept_offer(offer.sdp)
    sender.handle_answer(proto.SessionDescription(type="answer", sdp=answer, id=offer.id))
    for transport in (sender, receiver):
        await transport.wait_connected(10)
    track = RemoteTrackCore("TR_cam", "cam", rtc.TrackKind.KIND_VIDEO)
    track.connect(receiver, mid)

    async def feed() -> None:
        while True:
            source.capture_frame(picture())
            await asyncio.sleep(1 / 20)

    feeding = asyncio.create_task(feed())
    stream = rtc.VideoStream(track.view)
    as_rgba = rtc.VideoStream(track.view, format=rtc.VideoBufferType.RGBA)
    try:
        async with asyncio.timeout(20):
            async for event in stream:
                assert (event.frame.width, event.frame.height) == (320, 240)
                assert event.frame.type == rtc.VideoBufferType.I420
                if shows_both(event.frame):
                    break
            async for event in as_rgba:
                assert event.frame.type == rtc.VideoBufferType.RGBA
                event.frame.data[0] = 7
                if shows_both(event.frame):
                    break
            track.end()
            async for _ in stream:
                pass
    finally:
        feeding.cancel()
        sender.close()
        receiver.close()
        await source.aclose()
        await source.aclose()


@pytest.mark.parametrize("source", rtc.VideoBufferType.keys())
def test_every_conversion_keeps_the_colours(source: str) -> None:
    start = picture(64, 48).convert(rtc.VideoBufferType.Value(source))
    assert shows_both(start)
    for target in rtc.VideoBufferType:
        converted = start.convert(target)
        assert (converted.type, converted.width, converted.height) == (target, 64, 48)
        assert shows_both(converted), f"{source} to {target.name}"


@pytest.mark.parametrize("target", ["RGBA", "I420", "NV12", "RGB24"])
def test_turning_upside_down(target: str) -> None:
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:24, :, :3], pixels[24:, :, :3] = RED, BLUE
    frame = rtc.VideoFrame(64, 48, rtc.VideoBufferType.RGBA, pixels.tobytes())
    turned = frame.convert(rtc.VideoBufferType.Value(target), flip_y=True).convert(rtc.VideoBufferType.RGBA)
    rows = np.frombuffer(turned.data, np.uint8).reshape(48, 64, 4)[:, 32, :3].astype(int)
    assert np.abs(rows[4] - BLUE).max() < 30
    assert np.abs(rows[-4] - RED).max() < 30


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 9)])
def test_odd_sizes_convert(size: tuple[int, int]) -> None:
    width, height = size
    frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.RGBA, bytes([200, 200, 200, 255]) * (width * height))
    for target in rtc.VideoBufferType:
        back = frame.convert(target).convert(rtc.VideoBufferType.RGBA)
        assert np.abs(np.frombuffer(back.data, np.uint8).reshape(-1, 4)[:, :3].astype(int) - 200).max() < 8
