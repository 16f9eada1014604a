"""PCM of a remote track."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .audio_frame import AudioFrame, AudioFrameEvent
from .enums import TrackKind
from .frame_processor import (
    FrameProcessor,
    NoiseCancellationOptions,
    StreamPlace,
    close_processor,
    filter_frame,
    tell_place,
)
from .log import logger
from .media_stream import FrameReader, MediaStream
from .track import RemoteTrackCore

if TYPE_CHECKING:
    from .participant import Participant
    from .track import Track

DEFAULT_FRAME_MS = 10


class AudioStream(MediaStream[AudioFrameEvent]):
    """Async iterator of `AudioFrameEvent`, at any rate and number of channels. It ends when the track ends.

    Args:
        track: a subscribed remote audio track.
        capacity: frames that wait at most, the oldest go first; 0: all, up to 10 s.
        sample_rate: Hz. num_channels: 1 or 2.
        frame_size_ms: length of a frame; default 10 ms.
        noise_cancellation: a `FrameProcessor` that every frame goes through.

    Raises:
        ValueError: `track` is not a remote audio track.
    """

    def __init__(
        self,
        track: Track | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
        sample_rate: int = 48000,
        num_channels: int = 1,
        frame_size_ms: int | None = None,
        noise_cancellation: NoiseCancellationOptions | FrameProcessor[AudioFrame] | None = None,
        auto_close_noise_cancellation: bool = True,
        *,
        participant: Participant | None = None,
        track_source: int | None = None,
    ) -> None:
        self._auto_close_processor = auto_close_noise_cancellation
        self._processor: FrameProcessor[AudioFrame] | None = None
        if isinstance(noise_cancellation, FrameProcessor):
            self._processor = noise_cancellation
        elif noise_cancellation is not None:
            logger.warning("noise filter %r is not available: audio passes unfiltered", noise_cancellation.module_id)
        reader = AudioReader(
            loop,
            capacity=capacity,
            sample_rate=sample_rate,
            num_channels=num_channels,
            frame_size_ms=frame_size_ms or DEFAULT_FRAME_MS,
            processor=self._processor,
        )
        super().__init__(reader, track, participant, track_source)

    @classmethod
    def from_track(
        cls,
        *,
        track: Track,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
        sample_rate: int = 48000,
        num_channels: int = 1,
        frame_size_ms: int | None = None,
        noise_cancellation: NoiseCancellationOptions | FrameProcessor[AudioFrame] | None = None,
        auto_close_noise_cancellation: bool = False,
    ) -> AudioStream:
        return cls(
            track,
            loop,
            capacity,
            sample_rate,
            num_channels,
            frame_size_ms,
            noise_cancellation,
            auto_close_noise_cancellation,
        )

    @classmethod
    def from_participant(
        cls,
        *,
        participant: Participant,
        track_source: int,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
        sample_rate: int = 48000,
        num_channels: int = 1,
        frame_size_ms: int | None = None,
        noise_cancellation: NoiseCancellationOptions | FrameProcessor[AudioFrame] | None = None,
        auto_close_noise_cancellation: bool = True,
    ) -> AudioStream:
        """Follow the participant's track with this source, also when it is published anew; ends when they leave."""
        return cls(
            None,
            loop,
            capacity,
            sample_rate,
            num_channels,
            frame_size_ms,
            noise_cancellation,
            auto_close_noise_cancellation,
            participant=participant,
            track_source=track_source,
        )

    async def aclose(self) -> None:
        await super().aclose()
        processor, self._processor = self._processor, None
        if processor is not None and self._auto_close_processor:
            close_processor(processor)


class AudioReader(FrameReader[AudioFrameEvent]):
    kinds = frozenset((TrackKind.KIND_AUDIO,))

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        *,
        capacity: int,
        sample_rate: int,
        num_channels: int,
        frame_size_ms: int,
        processor: FrameProcessor[AudioFrame] | None,
    ) -> None:
        super().__init__(loop)
        self._capacity = capacity
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self._frame_size_ms = frame_size_ms
        self._processor = processor

    def open(self, track: RemoteTrackCore) -> Any:
        assert track.transport is not None
        return track.transport.peer.receive_audio(
            track.mid,
            sample_rate=self._sample_rate,
            channels=self._num_channels,
            frame_ms=self._frame_size_ms,
            capacity=self._capacity,
        )

    def attach(self, track: RemoteTrackCore) -> None:
        super().attach(track)
        self.inform(track.place())

    def inform(self, place: StreamPlace | None) -> None:
        if self._processor is not None:
            tell_place(self._processor, place)

    def wrap(self, native_frame: Any) -> AudioFrameEvent:
        # Copied (1 kB), because programs write into frames.
        frame = AudioFrame(
            bytearray(native_frame),
            native_frame.sample_rate,
            native_frame.channels,
            native_frame.samples_per_channel,
        )
        if self._processor is not None:
            frame = filter_frame(self._processor, frame)
        return AudioFrameEvent(frame)
