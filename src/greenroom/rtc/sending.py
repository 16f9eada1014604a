"""How a track goes out on a section of a native peer connection."""

from __future__ import annotations

from .audio_source import audio_input
from .messages import TrackPublishOptions
from .native_peer import NativePeer
from .publishing import audio_bitrate, codec_name, layers_of
from .track import LocalAudioTrack, LocalTrack, source_of
from .video_source import video_input


def send_track(
    peer: NativePeer,
    track: LocalTrack,
    cid: str,
    options: TrackPublishOptions,
    *,
    unset: bool,
    mid: str | None = None,
    receive: bool = False,
) -> str:
    """Send it on a section of its own in the next offer, or on the section `mid`. Returns the mid.

    Args:
        unset: what DTX, RED and simulcast are when the options do not say it.
        receive: whether a section of its own may carry something in the other direction too.
    """
    loop, stream_id = peer.engine.loop, options.stream or "-"
    if isinstance(track, LocalAudioTrack):
        mid = peer.peer.send_audio(
            audio_input(source_of(track), loop),
            cid=cid,
            stream_id=stream_id,
            bitrate=audio_bitrate(source_of(track), options),
            dtx=bool(options.get("dtx", unset)),
            red=bool(options.get("red", unset)),
            mid=mid,
            receive=receive,
        )
        peer.sections[mid] = ("audio", True)
        return mid
    if mid is not None or not (unset or options.get("simulcast", False)):
        # A section that is there already has one layer.
        single = TrackPublishOptions()
        single.CopyFrom(options)
        single.simulcast = False
        options = single
    mid = peer.peer.send_video(
        video_input(source_of(track), loop),
        cid=cid,
        stream_id=stream_id,
        codec=codec_name(options),
        layers=layers_of(track, options),
        trailers=bool(options.frame_metadata_features),
        mid=mid,
        receive=receive,
    )
    peer.sections[mid] = ("video", True)
    return mid
