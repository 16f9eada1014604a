"""What a published track asks the server for, and how it is encoded."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from livekit.protocol import models, rtc as proto

from .audio_source import AudioSource
from .enums import TrackSource, VideoCodec
from .log import logger
from .messages import TrackPublishOptions
from .track import LocalAudioTrack, LocalTrack, LocalVideoTrack, source_of
from .video_source import is_screencast

Layer = tuple[str, float, int, float]
"""rid, scale_down_by, max_bitrate (bit/s), max_fps"""

MONO_BITRATE = 48_000
STEREO_BITRATE = 96_000
DEFAULT_FPS = 30.0

# Bits per second for a picture of so many pixels, at 30 frames a second.
_BITRATES = (
    (160 * 90, 90_000),
    (320 * 180, 160_000),
    (640 * 360, 450_000),
    (960 * 540, 800_000),
    (1280 * 720, 1_700_000),
    (1920 * 1080, 3_000_000),
    (2560 * 1440, 5_000_000),
    (3840 * 2160, 8_000_000),
)
_QUALITIES = {"q": models.VideoQuality.LOW, "h": models.VideoQuality.MEDIUM, "f": models.VideoQuality.HIGH}


def video_bitrate(width: int, height: int) -> int:
    """A bitrate that suits a size, between the neighbours of the table."""
    pixels = width * height
    if pixels <= _BITRATES[0][0]:
        return _BITRATES[0][1]
    for (small, low), (large, high) in pairwise(_BITRATES):
        if pixels <= large:
            return int(low + (high - low) * (pixels - small) / (large - small))
    return _BITRATES[-1][1]


def video_layers(
    width: int, height: int, *, simulcast: bool, max_bitrate: int = 0, max_fps: float = 0.0
) -> list[Layer]:
    """Layers, largest first: three (f, h, q) from 960 pixels on, two (h, q) from 480, else one without a rid."""
    bitrate = max_bitrate or video_bitrate(width, height)
    fps = max_fps or DEFAULT_FPS
    longest = max(width, height)
    if not simulcast or longest < 480:
        return [("", 1.0, bitrate, fps)]
    rids = ("f", "h", "q") if longest >= 960 else ("h", "q")
    layers: list[Layer] = []
    for index, rid in enumerate(rids):
        scale = float(2**index)
        size_rate = video_bitrate(int(width / scale), int(height / scale))
        layers.append((rid, scale, bitrate if index == 0 else min(size_rate, bitrate), fps))
    return layers


def codec_name(options: TrackPublishOptions) -> str:
    if options.video_codec == VideoCodec.H264:
        return "h264"
    if options.video_codec != VideoCodec.VP8:
        logger.warning("%s cannot be encoded here: publishing VP8", VideoCodec(options.video_codec).name)
    return "vp8"


def audio_bitrate(source: AudioSource, options: TrackPublishOptions) -> int:
    if options.audio_encoding.max_bitrate:
        return int(options.audio_encoding.max_bitrate)
    return STEREO_BITRATE if source.num_channels > 1 else MONO_BITRATE


def layers_of(track: LocalVideoTrack, options: TrackPublishOptions) -> list[Layer]:
    source = source_of(track)
    screen = is_screencast(source) or options.source == TrackSource.SOURCE_SCREENSHARE
    return video_layers(
        source.width,
        source.height,
        simulcast=bool(options.get("simulcast", not screen)),
        max_bitrate=int(options.video_encoding.max_bitrate),
        max_fps=float(options.video_encoding.max_framerate),
    )


def add_track_request(track: LocalTrack, cid: str, options: TrackPublishOptions) -> proto.AddTrackRequest:
    """Unset options mean: DTX, RED and simulcast on."""
    request = proto.AddTrackRequest(
        cid=cid,
        name=track.name,
        source=cast("models.TrackSource", int(options.source)),
        muted=track.muted,
        stream=options.stream,
    )
    if isinstance(track, LocalAudioTrack):
        request.type = models.TrackType.AUDIO
        request.disable_dtx = not options.get("dtx", True)
        request.disable_red = not options.get("red", True)
        if source_of(track).num_channels > 1:
            request.stereo = True
            request.audio_features.append(models.AudioTrackFeature.TF_STEREO)
        if request.disable_dtx:
            request.audio_features.append(models.AudioTrackFeature.TF_NO_DTX)
        if options.preconnect_buffer:
            request.audio_features.append(models.AudioTrackFeature.TF_PRECONNECT_BUFFER)
        return request
    request.type = models.TrackType.VIDEO
    request.packet_trailer_features.extend(map(int, options.frame_metadata_features))  # type: ignore[arg-type]
    source = source_of(track)
    request.width, request.height = source.width, source.height
    layers = [
        models.VideoLayer(
            quality=_QUALITIES[rid] if rid else models.VideoQuality.HIGH,
            width=int(request.width / scale),
            height=int(request.height / scale),
            bitrate=bitrate,
            rid=rid,
        )
        for rid, scale, bitrate, _ in layers_of(track, options)
    ]
    request.layers.extend(layers)
    request.simulcast_codecs.append(proto.SimulcastCodec(codec=codec_name(options), cid=cid, layers=layers))
    return request
