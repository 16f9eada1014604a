"""Sound and pictures of a remote track as they came, for programs that record them or pass them on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .enums import TrackKind, VideoRotation
from .frame_metadata import from_native
from .media_stream import FrameReader, MediaStream
from .messages import FrameMetadata
from .track import RemoteTrackCore

if TYPE_CHECKING:
    from .participant import Participant
    from .track import Track


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One packet of sound or one whole picture, encoded."""

    mime_type: str
    """`audio/opus`, `video/VP8` or `video/H264`."""
    data: bytes
    """An Opus packet (RFC 6716), a VP8 frame (RFC 6386), or an H264 access unit in Annex B form, whose key frames begin with
    their parameter sets."""
    rtp_timestamp: int
    """As on the wire: 32 bits that wrap, `clock_rate` in a second."""
    clock_rate: int
    """48000 for sound, 90000 for pictures."""
    presentation_us: int
    """When it is to be heard or shown: microseconds on the clock of `time.monotonic`, growing from frame to frame. A stream
    begins at the arrival of its first frame and keeps its own pace; the sender's reports move sound and pictures of one
    participant until they belong together, gradually."""
    duration_us: int
    """Length of the sound in microseconds; 0 for pictures."""
    key_frame: bool
    """A decoder may begin here. Every packet of sound."""
    width: int
    """Pixels, as the newest key frame says; 0 for sound, or when it does not say."""
    height: int
    rotation: VideoRotation
    """How to turn the picture so that it is upright."""
    discontinuity: bool
    """Frames before this one are missing: lost on the way, or dropped because nobody read. A picture may be damaged from
    here to the next key frame."""
    metadata: FrameMetadata | None
    """What the sender says about the picture."""


class EncodedFrameStream(MediaStream[EncodedFrame]):
    """Async iterator of `EncodedFrame`. It ends when the track ends. Nothing is decoded for it.

    Pictures begin with a key frame, which the sender is asked for, as it is when one was lost on the way. Sound comes in order;
    a hole is waited for for a quarter of a second.

    Args:
        track: a subscribed remote track, audio or video.
        capacity: frames that wait at most, and 32 MiB, the oldest go first; 0: about 10 s.

    Raises:
        ValueError: `track` is not a remote track.
    """

    def __init__(
        self,
        track: Track | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
        *,
        participant: Participant | None = None,
        track_source: int | None = None,
    ) -> None:
        if capacity < 0:
            raise ValueError(f"a capacity of {capacity} frames; 0 or more are possible")
        self._encoded = EncodedReader(loop, capacity)
        super().__init__(self._encoded, track, participant, track_source)

    @classmethod
    def from_track(
        cls, *, track: Track, loop: asyncio.AbstractEventLoop | None = None, capacity: int = 0
    ) -> EncodedFrameStream:
        return cls(track, loop, capacity)

    @classmethod
    def from_participant(
        cls,
        *,
        participant: Participant,
        track_source: int,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = 0,
    ) -> EncodedFrameStream:
        """Follow the participant's track with this source, also when it is published anew; ends when they leave."""
        return cls(None, loop, capacity, participant=participant, track_source=track_source)

    @property
    def dropped(self) -> int:
        """Frames that made room for newer ones because they were not read in time."""
        return self._encoded.dropped

    def request_key_frame(self) -> None:
        """Ask the sender of the pictures, twice a second until a key frame comes. Of sound nothing is asked."""
        self._encoded.request_key_frame()


class EncodedReader(FrameReader[EncodedFrame]):
    kinds = frozenset((TrackKind.KIND_AUDIO, TrackKind.KIND_VIDEO))

    def __init__(self, loop: asyncio.AbstractEventLoop | None, capacity: int) -> None:
        super().__init__(loop)
        self._capacity = capacity
        self._dropped = 0

    @property
    def dropped(self) -> int:
        return self._dropped + (self._sink.dropped if self._sink is not None else 0)

    def request_key_frame(self) -> None:
        if self._sink is not None:
            self._sink.request_keyframe()

    def open(self, track: RemoteTrackCore) -> Any:
        assert track.transport is not None
        # Sound and pictures of one participant share a clock.
        group = track.owner.sid if track.owner is not None else track.sid
        kind = "audio" if track.kind == TrackKind.KIND_AUDIO else "video"
        return track.transport.peer.receive_encoded(track.mid, kind, group=group, capacity=self._capacity)

    def _detach(self) -> None:
        self._dropped = self.dropped
        super()._detach()

    def wrap(self, native_frame: Any) -> EncodedFrame:
        return EncodedFrame(
            native_frame.mime_type,
            native_frame.data,
            native_frame.rtp_timestamp,
            native_frame.clock_rate,
            native_frame.presentation_us,
            native_frame.duration_us,
            native_frame.key_frame,
            native_frame.width,
            native_frame.height,
            VideoRotation(native_frame.rotation),
            native_frame.discontinuity,
            from_native(native_frame.metadata),
        )
