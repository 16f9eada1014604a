"""Where a program's pictures go in."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .engine import Engine, get_engine
from .enums import VideoRotation
from .frame_metadata import to_native
from .messages import FrameMetadata
from .video_frame import VideoFrame, plane_sizes

if TYPE_CHECKING:
    from greenroom._native import FrameWords, VideoInput


class VideoSource:
    """The newest captured picture is the one that is encoded; older ones that were not are dropped.

    Args:
        width, height: the size that is announced to the others; pictures of another size are sent as they are.
        is_screencast: prefer sharpness over motion.
    """

    def __init__(self, width: int, height: int, *, is_screencast: bool = False) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"a VideoSource needs a width and a height of at least 1, not {width}x{height}")
        self._width = width
        self._height = height
        self._is_screencast = is_screencast
        self._engine: Engine | None = None
        self._input: VideoInput | None = None
        self._pending: tuple[VideoFrame, int, int, FrameWords | None] | None = None
        self._closed = False

    @property
    def width(self) -> int:
        return self._width

    @property
    def height(self) -> int:
        return self._height

    def _native(self, loop: asyncio.AbstractEventLoop | None = None) -> VideoInput:
        """The native input, made when the track is published; it gets the picture captured last."""
        if self._input is None:
            from greenroom import _native

            self._engine = get_engine(loop)
            self._input = _native.VideoInput(self._engine.native, self._width, self._height, self._is_screencast)
            if self._pending is not None:
                pending, self._pending = self._pending, None
                self._push(*pending)
        return self._input

    def capture_frame(
        self,
        frame: VideoFrame,
        *,
        timestamp_us: int = 0,
        rotation: int = VideoRotation.VIDEO_ROTATION_0,
        metadata: FrameMetadata | None = None,
    ) -> None:
        """Hand over a picture; returns at once. `timestamp_us` 0 means now.

        `metadata` goes along on tracks that were published with `frame_metadata_features`. User data that does not fit is
        left out, with a warning.

        Raises:
            ValueError: a timestamp or an id in `metadata` is out of range.
        """
        if self._closed:
            return
        timestamp_us = timestamp_us or time.monotonic_ns() // 1000
        if self._input is None:
            self._pending = (frame, timestamp_us, int(rotation), to_native(metadata))
        else:
            self._push(frame, timestamp_us, int(rotation), to_native(metadata))

    def _push(self, frame: VideoFrame, timestamp_us: int, rotation: int, words: FrameWords | None) -> None:
        assert self._input is not None
        data = frame.data[: sum(plane_sizes(frame.width, frame.height, frame.type))]
        self._input.push(data, frame.width, frame.height, int(frame.type), timestamp_us, rotation, words)

    async def aclose(self) -> None:
        """Stop. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._pending = None
        if self._input is not None:
            self._input.close()

    def __repr__(self) -> str:
        return f"rtc.VideoSource(width={self._width}, height={self._height})"


def video_input(source: VideoSource, loop: asyncio.AbstractEventLoop) -> VideoInput:
    """For the SDK: the native input of a source that is published on `loop`."""
    return source._native(loop)


def is_screencast(source: VideoSource) -> bool:
    return source._is_screencast
