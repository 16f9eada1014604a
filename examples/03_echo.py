"""Media in and out: a participant that shows a moving picture, and says back what it hears, a second later.

greenroom dev examples/03_echo.py
"""

import asyncio

import numpy as np

from greenroom import rtc
from greenroom.agents import Agent, cli

RATE, FRAME_MS, DELAY = 48_000, 20, 1.0
WIDTH, HEIGHT, FPS = 640, 360, 15


def picture(number: int) -> rtc.VideoFrame:
    """Frame `number` of a white bar that moves over blue (RGBA, height x width x 4)."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[:] = (20, 40, 160, 255)
    left = number * 8 % (WIDTH - 40)
    pixels[:, left : left + 40] = 255
    return rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, pixels.tobytes())


class Echo(Agent):
    async def on_start(self):
        self.voice = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        self.screen = rtc.VideoSource(WIDTH, HEIGHT)
        for track, source in (
            (rtc.LocalAudioTrack.create_audio_track("echo", self.voice), rtc.TrackSource.SOURCE_MICROPHONE),
            (rtc.LocalVideoTrack.create_video_track("bar", self.screen), rtc.TrackSource.SOURCE_CAMERA),
        ):
            await self.participant.publish_track(track, rtc.TrackPublishOptions(source=source))
        self.ctx.spawn(self.paint(), "picture")

    async def paint(self):
        number = 0
        while True:
            self.screen.capture_frame(picture(number))
            number += 1
            await asyncio.sleep(1 / FPS)

    async def on_audio_track(self, track, participant):
        """One voice at a time keeps the example short; see `rtc.AudioMixer` for several."""
        delayed = []
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=FRAME_MS):
            delayed.append(event.frame)
            if len(delayed) > DELAY * 1000 / FRAME_MS:
                await self.voice.capture_frame(delayed.pop(0))


if __name__ == "__main__":
    cli.run_app(Echo)
