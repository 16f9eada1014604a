"""Audio and pictures that belong together, played at the same pace."""

from __future__ import annotations

import asyncio
from collections import deque

from greenroom.tasks import Tasks

from .audio_frame import AudioFrame
from .audio_source import AudioSource
from .log import logger
from .video_frame import VideoFrame
from .video_source import VideoSource


class AVSynchronizer:
    """Pictures are captured at `video_fps`, audio at its own pace; both queues are bounded, so `push` waits.

    Args:
        video_queue_size_ms: how much video may wait.
        _max_delay_tolerance_ms: how far behind its schedule video may fall before the schedule starts anew.
    """

    def __init__(
        self,
        *,
        audio_source: AudioSource,
        video_source: VideoSource,
        video_fps: float,
        video_queue_size_ms: float = 100,
        _max_delay_tolerance_ms: float = 300,
    ) -> None:
        self._audio_source = audio_source
        self._video_source = video_source
        self._interval = 1 / video_fps
        self._tolerance = _max_delay_tolerance_ms / 1000
        size = max(1, int(video_fps * video_queue_size_ms / 1000))
        self._video: asyncio.Queue[tuple[VideoFrame, float | None]] = asyncio.Queue(size)
        self._sent: deque[float] = deque(maxlen=max(2, int(video_fps)))
        self._due: float | None = None
        self._last_video_time = 0.0
        self._last_audio_time = 0.0
        self._tasks = Tasks(logger)
        self._tasks.start(self._play_video(), "playing video")

    async def push(self, frame: VideoFrame | AudioFrame, timestamp: float | None = None) -> None:
        """Queue a frame. `timestamp` (of an audio frame: its end), in seconds, is what `last_*_time` report."""
        if isinstance(frame, AudioFrame):
            await self._audio_source.capture_frame(frame)
            if timestamp is not None:
                self._last_audio_time = timestamp
        else:
            await self._video.put((frame, timestamp))

    async def clear_queue(self) -> None:
        """Drop what was not played yet."""
        self._audio_source.clear_queue()
        while not self._video.empty():
            self._video.get_nowait()
            self._video.task_done()

    async def wait_for_playout(self) -> None:
        """Return when both queues are empty."""
        await asyncio.gather(self._audio_source.wait_for_playout(), self._video.join())

    def reset(self) -> None:
        """Start the pace anew with the next picture."""
        self._due = None
        self._sent.clear()

    async def aclose(self) -> None:
        """Stop. The sources stay open. Twice is fine."""
        await self._tasks.aclose()

    @property
    def actual_fps(self) -> float:
        """Pictures per second over the last second."""
        if len(self._sent) < 2 or self._sent[-1] == self._sent[0]:
            return 0.0
        return (len(self._sent) - 1) / (self._sent[-1] - self._sent[0])

    @property
    def last_video_time(self) -> float:
        """The timestamp of the picture captured last."""
        return self._last_video_time

    @property
    def last_audio_time(self) -> float:
        """The timestamp of the audio heard last."""
        return self._last_audio_time - self._audio_source.queued_duration

    async def _play_video(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frame, timestamp = await self._video.get()
            try:
                now = loop.time()
                if self._due is None:
                    self._due = now
                if now < self._due:
                    await asyncio.sleep(self._due - now)
                elif now - self._due > self._tolerance:
                    logger.warning("video is %.0f ms late; its pace starts anew", (now - self._due) * 1000)
                    self._due = now
                self._video_source.capture_frame(frame)
                self._sent.append(loop.time())
                self._due += self._interval
                if timestamp is not None:
                    self._last_video_time = timestamp
            finally:
                self._video.task_done()
