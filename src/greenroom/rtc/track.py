"""Tracks: audio or video, ours or somebody else's."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Union, cast

from .enums import StreamState, TrackKind
from .log import logger
from .stats import RtcStats, track_stats

if TYPE_CHECKING:
    from greenroom._native import AudioSink, EncodedSink, VideoSink

    from .audio_source import AudioSource
    from .audio_stream import AudioStream
    from .frame_processor import FrameProcessor
    from .local_participant import LocalParticipant
    from .media_stream import MediaStream
    from .room import Room
    from .transport import Transport
    from .video_source import VideoSource


class Track:
    """What local and remote tracks have in common."""

    def __init__(self, sid: str, name: str, kind: TrackKind, *, muted: bool = False) -> None:
        self._sid = sid
        self._name = name
        self._kind = kind
        self._muted = muted
        self._stream_state = StreamState.STATE_ACTIVE
        self._transport: Transport | None = None
        self._mid = ""
        self._room: weakref.ref[Room] | None = None

    @property
    def sid(self) -> str:
        """`TR_...`; of a local track: empty until it is published."""
        return self._sid

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> TrackKind:
        return self._kind

    @property
    def stream_state(self) -> StreamState:
        return self._stream_state

    @property
    def muted(self) -> bool:
        return self._muted

    async def get_stats(self) -> list[RtcStats]:
        """Statistics of the track's section; empty while it is not connected."""
        if self._transport is None:
            return []
        return track_stats(self._transport.stats(), self._mid, self._kind, outbound=isinstance(self, _LocalTrack))

    def _connect(self, transport: Transport, mid: str) -> None:
        self._transport = transport
        self._mid = mid

    def _set_room(self, room: Room | None) -> None:
        self._room = weakref.ref(room) if room is not None else None

    def _resolve_room(self) -> Room | None:
        return self._room() if self._room is not None else None

    def __repr__(self) -> str:
        return f"rtc.{type(self).__name__}(sid={self._sid}, name={self._name})"


class _LocalTrack(Track):
    def __init__(self, name: str, kind: TrackKind) -> None:
        super().__init__("", name, kind)
        self._publisher: LocalParticipant | None = None

    def mute(self) -> None:
        """Stop sending. Others are told; the publication stays."""
        self._set_muted(True)

    def unmute(self) -> None:
        """Send again."""
        self._set_muted(False)

    def _set_muted(self, muted: bool) -> None:
        if self._muted == muted:
            return
        self._muted = muted
        self._apply_mute()
        if self._publisher is not None:
            self._publisher._local_track_muted(cast("LocalTrack", self), muted)

    def _apply_mute(self) -> None:
        if self._transport is not None and self._mid and not self._transport._closed:
            self._transport.peer.set_send_muted(self._mid, self._muted)


class LocalAudioTrack(_LocalTrack):
    def __init__(self, name: str, source: AudioSource) -> None:
        super().__init__(name, TrackKind.KIND_AUDIO)
        self._source = source

    @staticmethod
    def create_audio_track(name: str, source: AudioSource) -> LocalAudioTrack:
        """A track that sends what is captured into `source`."""
        return LocalAudioTrack(name, source)


class LocalVideoTrack(_LocalTrack):
    def __init__(self, name: str, source: VideoSource) -> None:
        super().__init__(name, TrackKind.KIND_VIDEO)
        self._source = source

    @staticmethod
    def create_video_track(name: str, source: VideoSource) -> LocalVideoTrack:
        """A track that sends what is captured into `source`."""
        return LocalVideoTrack(name, source)


class _RemoteTrack(Track):
    """Somebody else's track. Its streams end when it does."""

    def __init__(self, sid: str, name: str, kind: TrackKind, *, muted: bool = False) -> None:
        super().__init__(sid, name, kind, muted=muted)
        self._streams: weakref.WeakSet[MediaStream[Any]] = weakref.WeakSet()
        self._ended = False

    def _add_stream(self, stream: MediaStream[Any]) -> None:
        self._streams.add(stream)

    def _remove_stream(self, stream: MediaStream[Any]) -> None:
        self._streams.discard(stream)

    def _open_encoded_sink(self, *, capacity: int) -> EncodedSink:
        assert self._transport is not None
        room = self._resolve_room()
        others = room.remote_participants.values() if room is not None else ()
        # Sound and pictures of one participant share a clock.
        group = next((other.sid for other in others if self._sid in other.track_publications), self._sid)
        kind = "audio" if self._kind == TrackKind.KIND_AUDIO else "video"
        return self._transport.peer.receive_encoded(self._mid, kind, group=group, capacity=capacity)

    def _end(self) -> None:
        """The subscription is over: what was decoded may still be read, then the streams end."""
        if self._ended:
            return
        self._ended = True
        for stream in list(self._streams):
            stream._track_ended(cast("RemoteTrack", self))
        self._streams.clear()
        self._set_room(None)
        self._transport = None


class RemoteAudioTrack(_RemoteTrack):
    def __init__(self, sid: str, name: str, *, muted: bool = False) -> None:
        super().__init__(sid, name, TrackKind.KIND_AUDIO, muted=muted)

    def _open_sink(self, *, sample_rate: int, num_channels: int, frame_size_ms: int, capacity: int) -> AudioSink:
        assert self._transport is not None
        return self._transport.peer.receive_audio(
            self._mid, sample_rate=sample_rate, channels=num_channels, frame_ms=frame_size_ms, capacity=capacity
        )

    def _set_room(self, room: Room | None) -> None:
        previous = self._resolve_room()
        super()._set_room(room)
        if room is previous:
            return
        if previous is not None and "token_refreshed" in previous._events:
            previous.off("token_refreshed", self._inform_processors)
        if room is not None:
            room.on("token_refreshed", self._inform_processors)
        self._inform_processors()

    def _inform_processors(self) -> None:
        for stream in list(self._streams):
            self._inform_processor(stream)  # type: ignore[arg-type]

    def _inform_processor(self, stream: AudioStream) -> None:
        processor = stream._processor
        if processor is None:
            return
        try:
            self._inform(processor)
        except Exception:
            logger.exception("the frame processor %r failed", processor)

    def _inform(self, processor: FrameProcessor[Any]) -> None:
        room = self._resolve_room()
        if room is None:
            processor._on_stream_info_cleared()
            processor._on_credentials_cleared()
            return
        owner = next((p for p in room.remote_participants.values() if self._sid in p.track_publications), None)
        processor._on_stream_info_updated(
            room_name=room.name,
            participant_identity=owner.identity if owner is not None else "",
            publication_sid=self._sid if owner is not None else "",
        )
        if room._token is not None and room._server_url is not None:
            processor._on_credentials_updated(token=room._token, url=room._server_url)


class RemoteVideoTrack(_RemoteTrack):
    def __init__(self, sid: str, name: str, *, muted: bool = False) -> None:
        super().__init__(sid, name, TrackKind.KIND_VIDEO, muted=muted)

    def _open_sink(self, *, capacity: int) -> VideoSink:
        assert self._transport is not None
        return self._transport.peer.receive_video(self._mid, capacity=capacity)


LocalTrack = Union[LocalAudioTrack, LocalVideoTrack]  # noqa: UP007  (programs look at its __args__)
RemoteTrack = Union[RemoteAudioTrack, RemoteVideoTrack]  # noqa: UP007
AudioTrack = Union[LocalAudioTrack, RemoteAudioTrack]  # noqa: UP007
VideoTrack = Union[LocalVideoTrack, RemoteVideoTrack]  # noqa: UP007
