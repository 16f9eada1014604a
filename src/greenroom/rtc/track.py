"""Tracks: audio or video, ours or somebody else's.

A program holds a `Track`. What the SDK does with it is done to its core, which the track shows.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Union, overload

from .enums import StreamState, TrackKind
from .frame_processor import StreamPlace
from .stats import RtcStats, track_stats

if TYPE_CHECKING:
    from .audio_source import AudioSource
    from .media_stream import FrameReader
    from .native_peer import NativePeer
    from .participant import RemoteParticipantCore
    from .room_core import RoomCore
    from .track_publisher import TrackPublisher
    from .video_source import VideoSource


class TrackCore:
    """What is known of a track, and the section of a connection that carries it."""

    def __init__(self, sid: str, name: str, kind: TrackKind, *, muted: bool = False) -> None:
        self.sid = sid
        self.name = name
        self.kind = kind
        self.muted = muted
        self.stream_state = StreamState.STATE_ACTIVE
        self.transport: NativePeer | None = None
        self.mid = ""

    def connect(self, transport: NativePeer, mid: str) -> None:
        self.transport = transport
        self.mid = mid


class LocalTrackCore(TrackCore):
    def __init__(self, name: str, kind: TrackKind) -> None:
        super().__init__("", name, kind)
        self.publisher: TrackPublisher | None = None
        """Whoever publishes it hears when it is muted."""

    def set_muted(self, muted: bool) -> None:
        if self.muted == muted:
            return
        self.muted = muted
        self.apply_mute()
        if self.publisher is not None:
            self.publisher.track_muted(self, muted)

    def apply_mute(self) -> None:
        if self.transport is not None and self.mid and not self.transport.closed:
            self.transport.peer.set_send_muted(self.mid, self.muted)

    def disconnect(self) -> None:
        """It is not published any more, and may be published elsewhere."""
        self.transport, self.mid, self.publisher = None, "", None


class RemoteTrackCore(TrackCore):
    """Somebody else's track, while it is subscribed. Its streams end when it does."""

    def __init__(self, sid: str, name: str, kind: TrackKind, *, muted: bool = False) -> None:
        super().__init__(sid, name, kind, muted=muted)
        self.readers: weakref.WeakSet[FrameReader[Any]] = weakref.WeakSet()
        self.ended = False
        self.room: RoomCore | None = None
        self.view: RemoteTrack = (RemoteAudioTrack if kind == TrackKind.KIND_AUDIO else RemoteVideoTrack)(self)

    def set_room(self, room: RoomCore) -> None:
        self.room = room
        self.tell_readers()

    def tell_readers(self) -> None:
        """Where the track is, or the token of the room that it is in, has changed."""
        for reader in list(self.readers):
            reader.inform(self.place())

    @property
    def owner(self) -> RemoteParticipantCore | None:
        """Who publishes it, while it is in a room."""
        remotes = self.room.remotes.values() if self.room is not None else ()
        return next((each for each in remotes if self.sid in each.publications), None)

    def place(self) -> StreamPlace | None:
        room, owner = self.room, self.owner
        if room is None:
            return None
        return StreamPlace(
            room_name=room.info.name,
            participant_identity=owner.identity if owner is not None else "",
            publication_sid=self.sid if owner is not None else "",
            token=room.token,
            url=room.server_url,
        )

    def end(self) -> None:
        """The subscription is over: what was decoded may still be read, then the streams end."""
        if self.ended:
            return
        self.ended = True
        for reader in list(self.readers):
            reader.track_ended(self)
        self.readers.clear()
        self.room = None
        self.transport = None


class Track:
    """What local and remote tracks have in common."""

    def __init__(self, core: TrackCore) -> None:
        self._core = core

    @property
    def sid(self) -> str:
        """`TR_...`; of a local track: empty until it is published."""
        return self._core.sid

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def kind(self) -> TrackKind:
        return self._core.kind

    @property
    def stream_state(self) -> StreamState:
        return self._core.stream_state

    @property
    def muted(self) -> bool:
        return self._core.muted

    async def get_stats(self) -> list[RtcStats]:
        """Statistics of the track's section; empty while it is not connected."""
        core = self._core
        if core.transport is None:
            return []
        return track_stats(core.transport.stats(), core.mid, core.kind, outbound=isinstance(self, _LocalTrack))

    def __repr__(self) -> str:
        return f"rtc.{type(self).__name__}(sid={self.sid}, name={self.name})"


class _LocalTrack(Track):
    _core: LocalTrackCore

    def __init__(self, name: str, kind: TrackKind) -> None:
        super().__init__(LocalTrackCore(name, kind))

    def mute(self) -> None:
        """Stop sending. Others are told; the publication stays."""
        self._core.set_muted(True)

    def unmute(self) -> None:
        """Send again."""
        self._core.set_muted(False)


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
    _core: RemoteTrackCore

    def __init__(self, core: RemoteTrackCore) -> None:
        super().__init__(core)


class RemoteAudioTrack(_RemoteTrack):
    pass


class RemoteVideoTrack(_RemoteTrack):
    pass


LocalTrack = Union[LocalAudioTrack, LocalVideoTrack]  # noqa: UP007  (programs look at its __args__)
RemoteTrack = Union[RemoteAudioTrack, RemoteVideoTrack]  # noqa: UP007
AudioTrack = Union[LocalAudioTrack, RemoteAudioTrack]  # noqa: UP007
VideoTrack = Union[LocalVideoTrack, RemoteVideoTrack]  # noqa: UP007


def local_core(track: LocalTrack) -> LocalTrackCore:
    """For the SDK: the core of a track that a program publishes."""
    return track._core


def remote_core(track: object) -> RemoteTrackCore | None:
    """For the SDK: the core of a track that a program reads; None when it is no remote track."""
    return track._core if isinstance(track, _RemoteTrack) else None


@overload
def source_of(track: LocalAudioTrack) -> AudioSource: ...
@overload
def source_of(track: LocalVideoTrack) -> VideoSource: ...
def source_of(track: LocalTrack) -> AudioSource | VideoSource:
    """For the SDK: where the frames of a local track come from."""
    return track._source
