"""What a peer connection does to tracks. The only place outside of the room's own modules that knows how tracks are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .enums import TrackKind
from .messages import TrackPublishOptions
from .publishing import audio_bitrate, codec_name, layers_of
from .track import LocalAudioTrack, LocalTrack, LocalVideoTrack, RemoteAudioTrack, RemoteTrack, RemoteVideoTrack

if TYPE_CHECKING:
    from .native_peer import NativePeer
    from .transport import Transport


def is_local(track: object) -> bool:
    return isinstance(track, LocalAudioTrack | LocalVideoTrack)


def is_taken(track: LocalTrack) -> bool:
    """Whether a connection sends it."""
    return track._transport is not None


def send(
    peer: NativePeer, track: LocalTrack, cid: str, options: TrackPublishOptions, *, mid: str | None, receive: bool
) -> str:
    """Send the track on a section of its own in the next offer, which may receive too, or on the section `mid`.

    Unset options mean: no DTX, no RED, no simulcast. Returns the mid.
    """
    loop, stream_id = peer.engine.loop, options.stream or "-"
    if isinstance(track, LocalAudioTrack):
        mid = peer.peer.send_audio(
            track._source._native(loop),
            cid=cid,
            stream_id=stream_id,
            bitrate=audio_bitrate(track._source, options),
            dtx=bool(options.get("dtx", False)),
            red=bool(options.get("red", False)),
            mid=mid,
            receive=receive,
        )
    else:
        chosen = TrackPublishOptions()
        chosen.CopyFrom(options)
        chosen.simulcast = mid is None and bool(options.get("simulcast", False))
        mid = peer.peer.send_video(
            track._source._native(loop),
            cid=cid,
            stream_id=stream_id,
            codec=codec_name(options),
            layers=layers_of(track, chosen),
            mid=mid,
            receive=receive,
        )
    track._connect(cast("Transport", peer), mid)
    track._apply_mute()
    return mid


def take(track: LocalTrack, peer: NativePeer) -> None:
    """The track is this connection's from now on; it has no section yet."""
    track._connect(cast("Transport", peer), "")


def give_back(track: LocalTrack) -> None:
    """No connection sends it any more."""
    track._transport, track._mid = None, ""


def set_muted(track: LocalTrack, muted: bool) -> None:
    if muted:
        track.mute()
    else:
        track.unmute()


def remote_track(peer: NativePeer, kind: TrackKind, track_id: str, mid: str) -> RemoteTrack:
    """A track that reads what arrives on the section."""
    made: RemoteTrack
    if kind == TrackKind.KIND_AUDIO:
        made = RemoteAudioTrack(track_id, "")
    else:
        made = RemoteVideoTrack(track_id, "")
    made._connect(cast("Transport", peer), mid)
    return made


def end(track: RemoteTrack) -> None:
    """What was decoded may still be read, then its streams end. Twice is fine."""
    track._end()
