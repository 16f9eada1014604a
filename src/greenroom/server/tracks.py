"""Published tracks: from `AddTrackRequest` to what subscribers are told and what the native core receives."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc

from . import ids
from .media import Receiver
from .sdp import MediaSection, PublishOptions, RtpCodec, native_codecs

if TYPE_CHECKING:
    from .participant import Participant
    from .subscriptions import Subscription

__all__ = ["PendingTrack", "PublishedTrack", "layer_of_rid", "pending_track"]

MAX_CID = 256
"""Characters of a track id in SDP that is passed on (`SimulcastCodecInfo.sdp_cid`)."""

# Never by position: browsers list rids from low to high, the Rust engine from high to low.
RID_LAYERS = {"q": 0, "h": 1, "f": 2, "2": 0, "1": 1, "0": 2}
RIDS = ("q", "h", "f")

# Tracks that belong together on the receiver's side are of one stream, for lip sync.
STREAM_NAMES = {
    models.TrackSource.CAMERA: "camera",
    models.TrackSource.MICROPHONE: "camera",
    models.TrackSource.SCREEN_SHARE: "screen",
    models.TrackSource.SCREEN_SHARE_AUDIO: "screen",
}


@dataclass(slots=True)
class PendingTrack:
    """An accepted `AddTrackRequest` whose media section has not been seen yet."""

    request: rtc.AddTrackRequest
    info: models.TrackInfo

    @property
    def kind(self) -> str:
        return "audio" if self.info.type == models.TrackType.AUDIO else "video"

    def is_called(self, cid: str) -> bool:
        """Whether `cid` (the track id in a=msid) names this track or one of its codecs."""
        return bool(cid) and (
            cid == self.request.cid or any(cid == codec.cid for codec in self.request.simulcast_codecs)
        )


def pending_track(request: rtc.AddTrackRequest) -> PendingTrack:
    """The `TrackInfo` that answers the request (`TrackPublishedResponse`)."""
    info = models.TrackInfo(
        sid=ids.track_sid(request.type, request.source),
        type=request.type,
        name=request.name,
        muted=request.muted,
        width=request.width,
        height=request.height,
        source=request.source,
        disable_dtx=request.disable_dtx,
        stereo=request.stereo,
        disable_red=request.disable_red,
        encryption=request.encryption,
        stream=request.stream or STREAM_NAMES.get(request.source, ""),
        backup_codec_policy=request.backup_codec_policy,
        audio_features=request.audio_features,
        packet_trailer_features=request.packet_trailer_features,
    )
    features = info.audio_features
    if request.stereo and models.AudioTrackFeature.TF_STEREO not in features:
        features.append(models.AudioTrackFeature.TF_STEREO)
    if request.disable_dtx and models.AudioTrackFeature.TF_NO_DTX not in features:
        features.append(models.AudioTrackFeature.TF_NO_DTX)
    mode = models.VideoLayer.Mode.ONE_SPATIAL_LAYER_PER_STREAM
    if request.type == models.TrackType.VIDEO:
        layers = sorted(request.layers, key=lambda layer: layer.quality)
        info.layers.extend(layers)
        info.simulcast = len(layers) > 1 or any(len(codec.layers) > 1 for codec in request.simulcast_codecs)
        for codec in request.simulcast_codecs:
            svc = codec.codec.lower() in ("vp9", "av1")
            info.codecs.add(
                mime_type=f"video/{codec.codec}" if codec.codec else "",
                cid=codec.cid,
                layers=sorted(codec.layers, key=lambda layer: layer.quality) or layers,
                video_layer_mode=codec.video_layer_mode
                or (models.VideoLayer.Mode.MULTIPLE_SPATIAL_LAYERS_PER_STREAM if svc else mode),
            )
    if not info.codecs:
        info.codecs.add(cid=request.cid, layers=info.layers, video_layer_mode=mode)
    return PendingTrack(request, info)


def layer_of_rid(rid: str, position: int) -> int:
    """The spatial layer 0..2 that a rid names; an unknown name counts by its place in the simulcast line."""
    return RID_LAYERS.get(rid, min(position, 2))


def publish_options(info: models.TrackInfo) -> PublishOptions:
    features = set(info.audio_features)
    return PublishOptions(
        dtx=not info.disable_dtx and models.AudioTrackFeature.TF_NO_DTX not in features,
        stereo=info.stereo or models.AudioTrackFeature.TF_STEREO in features,
        codec=info.codecs[0].mime_type.partition("/")[2].lower() if info.codecs else "",
    )


@dataclass(eq=False, slots=True)
class PublishedTrack:
    """A track whose media section is negotiated. `number` names it in the native core."""

    number: int
    publisher: Participant
    info: models.TrackInfo
    cid: str
    mid: str = ""
    section: MediaSection | None = None
    """As answered: the codecs and extensions on which the client sends."""
    offered: MediaSection | None = None
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    """By the subscriber's identity."""
    sent: RtpCodec | None = None
    """What the publisher was seen to send."""
    live: bool = False
    """Media has arrived: the publisher's side knows the track by now and takes messages about it."""
    noticed: bool = False
    """`TrackSubscribed` was sent to the publisher."""
    qualities: int = -2
    """The highest layer asked of the publisher; -1: none, -2: not told yet."""

    @property
    def sid(self) -> str:
        return self.info.sid

    @property
    def kind(self) -> str:
        return "audio" if self.info.type == models.TrackType.AUDIO else "video"

    @property
    def codec(self) -> str:
        """Lower case without the kind: vp8, opus, ... Empty before anything was negotiated."""
        return self.info.mime_type.partition("/")[2].lower()

    @property
    def possible_codecs(self) -> list[RtpCodec]:
        """What its packets may be: one codec once media has come, until then all that go by its name. Empty: unknown."""
        if self.sent is not None:
            return [self.sent]
        return [codec for codec in self.section.codecs if codec.key == self.codec] if self.section else []

    @property
    def stereo(self) -> bool:
        return publish_options(self.info).stereo

    def stream_id(self, *, sync: bool) -> str:
        """The msid stream id on the subscriber's side: one a track, or one for what belongs together."""
        return f"{self.publisher.sid}|{self.info.stream if sync and self.info.stream else self.info.sid}"

    def negotiated(self, offered: MediaSection, section: MediaSection) -> None:
        """Take mid, codec and layers from an answered section."""
        self.offered, self.section, self.mid = offered, section, section.mid
        if self.sent is not None:
            self.sent = section.codec(self.sent.pt)
        info = self.info
        info.mid = section.mid
        if not info.mime_type and section.codecs:
            # Until the first packet: the codec that the request named, else the answer's first.
            asked = info.codecs[0].mime_type.partition("/")[2].lower() if info.codecs else ""
            codec = next((codec for codec in section.codecs if codec.key == asked), section.codecs[0])
            info.mime_type = f"{self.kind}/{codec.name}"
        if self.kind == "video":
            self._name_layers()
        for first in info.codecs[:1]:
            first.mid, first.mime_type = info.mid, info.mime_type
            del first.layers[:]
            first.layers.extend(info.layers)
            cid = offered.msid[1] if offered.msid else ""
            if cid and cid != first.cid and len(cid) <= MAX_CID:
                first.sdp_cid = cid
        self._stamp()

    def media_arrived(self, layer: int, ssrc: int, pt: int) -> bool:
        """Note what the first packet of a layer showed. True: `TrackInfo` changed."""
        self.live = True
        before = self.info.SerializeToString(deterministic=True)
        codec = self.section.codec(pt) if self.section else None
        if codec is not None and codec.name:
            self.sent = codec
            self.info.mime_type = f"{self.kind}/{codec.name}"
        for entry in self.info.layers:
            if entry.spatial_layer == layer:
                entry.ssrc = ssrc
        for first in self.info.codecs[:1]:
            first.mime_type = self.info.mime_type
            del first.layers[:]
            first.layers.extend(self.info.layers)
        changed = before != self.info.SerializeToString(deterministic=True)
        if changed:
            self._stamp()
        return changed

    def receiver(self) -> Receiver | None:
        """What the native core needs to receive this track; None before it is negotiated."""
        if self.section is None or self.offered is None or not self.section.codecs:
            return None
        rids = self.section.simulcast.get("recv", [])
        repairs = {group[0]: group[1] for name, group in self.offered.ssrc_groups if name == "FID" and len(group) == 2}
        primary = [ssrc for ssrc in self.offered.ssrcs if ssrc not in repairs.values()]
        return Receiver(
            track=self.number,
            mid=self.mid,
            kind=self.kind,
            codecs=native_codecs(self.section),
            extensions={uri: number for number, uri in self.section.extensions.items()},
            layers=tuple((rid, layer_of_rid(rid, index)) for index, rid in enumerate(rids)),
            ssrcs=tuple((ssrc, repairs.get(ssrc, 0)) for ssrc in primary),
            nack=any("nack" in codec.feedback for codec in self.section.codecs),
            transport_cc=any("transport-cc" in codec.feedback for codec in self.section.codecs),
        )

    def _name_layers(self) -> None:
        assert self.section is not None
        rids = self.section.simulcast.get("recv", [])
        if not self.info.layers:
            self.info.layers.add(quality=models.VideoQuality.HIGH, width=self.info.width, height=self.info.height)
        if not rids:
            if not self._is_svc:
                # One stream is one layer, whatever was announced: the best one.
                best = max(self.info.layers, key=lambda layer: (layer.quality, layer.width))
                kept = models.VideoLayer()
                kept.CopyFrom(best)
                del self.info.layers[:]
                self.info.layers.append(kept)
            for index, layer in enumerate(self.info.layers):
                layer.spatial_layer = index
            return
        by_layer = {layer_of_rid(rid, index): rid for index, rid in enumerate(rids)}
        for index, layer in enumerate(self.info.layers):
            spatial = min(index, len(rids) - 1)
            layer.spatial_layer = spatial
            layer.rid = by_layer.get(spatial, "")

    @property
    def _is_svc(self) -> bool:
        many = models.VideoLayer.Mode.MULTIPLE_SPATIAL_LAYERS_PER_STREAM
        return any(codec.video_layer_mode == many for codec in self.info.codecs) and self.codec in ("vp9", "av1")

    def _stamp(self) -> None:
        self.info.version.unix_micro = time.time_ns() // 1000
