"""Pictures of a remote track."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .enums import TrackKind, VideoBufferType, VideoRotation
from .frame_metadata import from_native
from .media_stream import FrameReader, MediaStream
from .track import RemoteTrackCore
from .video_frame import VideoFrame, VideoFrameEvent

if TYPE_CHECKING:
    from .participant import Participant
    from .track import Track

UNREAD_FRAMES = 60
"""Pictures that wait when `capacity` is 0: two seconds; more would only be memory."""


class VideoStream(MediaStream[VideoFrameEvent]):
    """Async iterator of `VideoFrameEvent`. It ends when the track ends.

    Args:
        track: a subscribed remote video track.
        capacity: pictures that wait at most, the oldest go first; 0: up to 60.
        format: the `VideoBufferType` wanted; default what the decoder makes, I420.

    Raises:
        ValueError: `track` is not a remote video track.
    """

    def __init__(
        self,
        track: Track | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
        format: int | None = None,
        *,
        participant: Participant | None = None,
        track_source: int | None = None,
    ) -> None:
        reader = VideoReader(loop, capacity or UNREAD_FRAMES, VideoBufferType(format) if format is not None else None)
        super().__init__(reader, track, participant, track_source)

    @classmethod
    def from_track(
        cls,
        *,
        track: Track,
        loop: asyncio.AbstractEventLoop | None = None,
        format: int | None = None,
        capacity: int = 0,
    ) -> VideoStream:
        return cls(track, loop, capacity, format)

    @classmethod
    def from_participant(
        cls,
        *,
        participant: Participant,
        track_source: int,
        loop: asyncio.AbstractEventLoop | None = None,
        format: int | None = None,
        capacity: int = 0,
    ) -> VideoStream:
        """Follow the participant's track with this source, also when it is published anew; ends when they leave."""
        return cls(None, loop, capacity, format, participant=participant, track_source=track_source)


class VideoReader(FrameReader[VideoFrameEvent]):
    kinds = frozenset((TrackKind.KIND_VIDEO,))

    def __init__(self, loop: asyncio.AbstractEventLoop | None, capacity: int, format: VideoBufferType | None) -> None:
        super().__init__(loop)
        self._capacity = capacity
        self._format = format

    def open(self, track: RemoteTrackCore) -> Any:
        assert track.transport is not None
        return track.transport.peer.receive_video(track.mid, capacity=self._capacity)

    def wrap(self, native_frame: Any) -> VideoFrameEvent:
        width, height = native_frame.width, native_frame.height
        if self._format is None or self._format == native_frame.format:
            # Copied, because programs draw into frames.
            frame = VideoFrame(width, height, native_frame.format, bytearray(native_frame))
        else:
            frame = VideoFrame(width, height, native_frame.format, memoryview(native_frame)).convert(self._format)
        rotation = VideoRotation(native_frame.rotation)
        return VideoFrameEvent(frame, native_frame.timestamp_us, rotation, from_native(native_frame.metadata))
