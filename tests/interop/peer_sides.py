"""One side of a call without a room: a `PeerConnection`, what it feeds and what it heard of."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from greenroom import rtc
from tests.conftest import until

RATE = 48_000
WAIT = 20.0


class Side:
    """A connection with its events in the order they came. Feeds stop with it."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.pc = rtc.PeerConnection(**options)
        self.tracks: list[tuple[Any, rtc.Transceiver]] = []
        self.ended: list[Any] = []
        self.channels: list[rtc.DataChannel] = []
        self.states: list[str] = []
        self.needed = 0
        self._feeds: list[asyncio.Task[None]] = []
        self.pc.on("track", lambda track, transceiver: self.tracks.append((track, transceiver)))
        self.pc.on("track_ended", lambda track, transceiver: self.ended.append(track))
        self.pc.on("data_channel", self.channels.append)
        self.pc.on("connection_state_changed", self.states.append)
        self.pc.on("negotiation_needed", self._count)

    def _count(self) -> None:
        self.needed += 1

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None:
        for feed in self._feeds:
            feed.cancel()
        await asyncio.gather(*self._feeds, return_exceptions=True)
        await self.pc.aclose()

    def feed(self, work: Any) -> None:
        self._feeds.append(asyncio.create_task(work))

    def tone(self, hz: float, name: str = "voice") -> rtc.LocalAudioTrack:
        """A track that plays a sine for as long as the side lives."""
        source = rtc.AudioSource(RATE, 1, 100)

        async def play() -> None:
            at = 0
            while True:
                block = (9000 * np.sin(2 * np.pi * hz * np.arange(at, at + 480) / RATE)).astype(np.int16)
                await source.capture_frame(rtc.AudioFrame(block.tobytes(), RATE, 1, 480))
                at += 480

        self.feed(play())
        return rtc.LocalAudioTrack.create_audio_track(name, source)

    def picture(self, left: tuple[int, int, int], right: tuple[int, int, int]) -> rtc.LocalVideoTrack:
        """A track that shows two colours side by side."""
        source = rtc.VideoSource(320, 240)
        pixels = np.full((240, 320, 4), 255, np.uint8)
        pixels[:, :160, :3], pixels[:, 160:, :3] = left, right
        frame = rtc.VideoFrame(320, 240, rtc.VideoBufferType.RGBA, pixels.tobytes())

        async def show() -> None:
            while True:
                source.capture_frame(frame)
                await asyncio.sleep(1 / 15)

        self.feed(show())
        return rtc.LocalVideoTrack.create_video_track("camera", source)

    async def track(self, kind: type, number: int = 1) -> Any:
        """The newest of the tracks of that kind, once there were `number` of them."""

        def found() -> list[Any]:
            return [track for track, _ in self.tracks if isinstance(track, kind)]

        await until(lambda: len(found()) >= number, f"{self.name} got track {number} of {kind.__name__}", WAIT)
        return found()[number - 1]


async def frequency(track: Any, seconds: float = 0.5) -> float:
    """The strongest frequency of a track in Hz, over so much sound from the first that is not silent."""
    blocks: list[Any] = []
    async with asyncio.timeout(WAIT), rtc.AudioStream(track) as stream:
        async for event in stream:
            block = np.frombuffer(event.frame.data, np.int16).astype(float)
            if blocks or np.abs(block).max() > 2000:
                blocks.append(block)
            if len(blocks) * 480 >= seconds * RATE:
                break
    sound = np.concatenate(blocks)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * RATE / len(sound))


async def quiet(stream: rtc.AudioStream, wanted: bool) -> None:
    """Read until 200 ms on end are silent, or until they are all loud."""
    held = 0
    async with asyncio.timeout(WAIT):
        async for event in stream:
            peak = float(np.abs(np.frombuffer(event.frame.data, np.int16).astype(float)).max())
            held = held + 1 if (peak < 100) == wanted else 0
            if held == 20:
                return
    raise AssertionError("the stream ended")


async def shows(track: Any, left: tuple[int, int, int], right: tuple[int, int, int], within: int = 40) -> None:
    """Wait until the picture has these two colours. Fails with what it had."""
    seen: Any = None
    try:
        async with (
            asyncio.timeout(WAIT),
            rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA, capacity=2) as stream,
        ):
            async for event in stream:
                frame = event.frame
                pixels = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)[:, :, :3].astype(int)
                middle = pixels[frame.height // 2]
                seen = middle[frame.width // 4], middle[frame.width * 3 // 4]
                if np.abs(seen[0] - left).max() < within and np.abs(seen[1] - right).max() < within:
                    return
    except TimeoutError:
        pass
    raise AssertionError(f"the picture was {seen}, not {left} and {right}")


async def ends(stream: Any) -> None:
    """Read a stream to its end."""
    async with asyncio.timeout(WAIT):
        async for _ in stream:
            pass


async def connect(offerer: Side, answerer: Side) -> None:
    await offerer.pc.negotiate(answerer.pc.accept_offer)
    await asyncio.gather(offerer.pc.wait_connected(), answerer.pc.wait_connected())
