"""Publications: what a participant offers, whether or not somebody receives it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc as proto

from .enums import AudioTrackFeature, EncryptionType, FrameMetadataFeature, TrackKind, TrackSource, from_wire

if TYPE_CHECKING:
    from .session import Session
    from .track import LocalTrack, RemoteTrack, Track


def kind_of(info: models.TrackInfo) -> TrackKind:
    return {models.TrackType.AUDIO: TrackKind.KIND_AUDIO, models.TrackType.VIDEO: TrackKind.KIND_VIDEO}.get(
        info.type, TrackKind.KIND_UNKNOWN
    )


class TrackPublication:
    """A published track's description; `track` is the track itself, when there is one here."""

    def __init__(self, info: models.TrackInfo) -> None:
        self._info = info
        self._track: Track | None = None

    @property
    def track(self) -> Track | None:
        return self._track

    @property
    def sid(self) -> str:
        return self._info.sid

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def kind(self) -> TrackKind:
        return kind_of(self._info)

    @property
    def source(self) -> TrackSource:
        return from_wire(TrackSource, self._info.source)

    @property
    def simulcasted(self) -> bool:
        return self._info.simulcast

    @property
    def width(self) -> int:
        return self._info.width

    @property
    def height(self) -> int:
        return self._info.height

    @property
    def mime_type(self) -> str:
        return self._info.mime_type

    @property
    def muted(self) -> bool:
        return self._info.muted

    @property
    def encryption_type(self) -> EncryptionType:
        return from_wire(EncryptionType, self._info.encryption)

    @property
    def audio_features(self) -> list[AudioTrackFeature]:
        return [from_wire(AudioTrackFeature, feature) for feature in self._info.audio_features]

    @property
    def frame_metadata_features(self) -> list[FrameMetadataFeature]:
        return [from_wire(FrameMetadataFeature, feature) for feature in self._info.packet_trailer_features]

    def __repr__(self) -> str:
        return f"rtc.{type(self).__name__}(sid={self.sid}, name={self.name}, kind={self.kind.name}, source={self.source.name})"


class LocalTrackPublication(TrackPublication):
    def __init__(self, info: models.TrackInfo, track: LocalTrack) -> None:
        super().__init__(info)
        self._track: LocalTrack | None = track
        self._subscribed = asyncio.Event()

    @property
    def track(self) -> LocalTrack | None:
        return self._track

    async def wait_for_subscription(self) -> None:
        """Until somebody has subscribed for the first time."""
        await self._subscribed.wait()


@dataclass
class Choice:
    """What this side decided about a remote track. None: nothing, so the default holds."""

    wanted: bool | None = None
    enabled: bool | None = None
    quality: int | None = None

    def __bool__(self) -> bool:
        return not (self.wanted is None and self.enabled is None and self.quality is None)


class RemoteTrackPublication(TrackPublication):
    def __init__(self, info: models.TrackInfo, participant_sid: str, session: Session | None) -> None:
        super().__init__(info)
        self._track: RemoteTrack | None = None
        self._participant_sid = participant_sid
        self._session = session
        self._choice = Choice()

    @property
    def track(self) -> RemoteTrack | None:
        return self._track

    @property
    def subscribed(self) -> bool:
        """True while `track` is there."""
        return self._track is not None

    def set_subscribed(self, subscribed: bool) -> None:
        """Ask the server to send this track, or not to. `track_subscribed` or `track_unsubscribed` follows."""
        self._choice.wanted = subscribed
        self._send_wanted()

    def set_video_quality(self, quality: int) -> None:
        """Prefer a layer of a simulcast video (`VideoQuality`)."""
        self._choice.quality = int(quality)
        self._send_settings()

    def set_enabled(self, enabled: bool) -> None:
        """False pauses the media of this subscription without ending it."""
        self._choice.enabled = enabled
        self._send_settings()

    def _send_choice(self) -> None:
        """To a session that does not know it yet."""
        if self._choice.wanted is not None:
            self._send_wanted()
        if self._choice.enabled is not None or self._choice.quality is not None:
            self._send_settings()

    def _send_wanted(self) -> None:
        if self._session is not None:
            sids = [self.sid]
            self._session.send(
                proto.SignalRequest(
                    subscription=proto.UpdateSubscription(
                        track_sids=sids,
                        subscribe=bool(self._choice.wanted),
                        participant_tracks=[
                            models.ParticipantTracks(participant_sid=self._participant_sid, track_sids=sids)
                        ],
                    )
                )
            )

    def _send_settings(self) -> None:
        """The whole of them: the server takes what is left out for the default."""
        if self._session is not None:
            quality = self._choice.quality
            settings = proto.UpdateTrackSettings(
                track_sids=[self.sid],
                disabled=self._choice.enabled is False,
                quality=models.VideoQuality.HIGH if quality is None else quality,  # type: ignore[arg-type]
            )
            self._session.send(proto.SignalRequest(track_setting=settings))
