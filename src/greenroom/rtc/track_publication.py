"""Publications: what a participant offers, whether or not somebody receives it.

A program holds a `TrackPublication`. What the SDK does with it is done to its core, which the publication shows.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc as proto

from .enums import AudioTrackFeature, EncryptionType, FrameMetadataFeature, TrackKind, TrackSource, from_wire

if TYPE_CHECKING:
    from .session import Session
    from .track import LocalTrack, RemoteTrack, RemoteTrackCore, Track


REFUSAL = 3.0
"""Seconds until a server knows that a track is not wanted."""


def kind_of(info: models.TrackInfo) -> TrackKind:
    return {models.TrackType.AUDIO: TrackKind.KIND_AUDIO, models.TrackType.VIDEO: TrackKind.KIND_VIDEO}.get(
        info.type, TrackKind.KIND_UNKNOWN
    )


@dataclass
class Choice:
    """What this side decided about a remote track. None: nothing, so the default holds."""

    wanted: bool | None = None
    enabled: bool | None = None
    quality: int | None = None

    def __bool__(self) -> bool:
        return not (self.wanted is None and self.enabled is None and self.quality is None)


class PublicationCore:
    """What the server says of a published track."""

    def __init__(self, info: models.TrackInfo) -> None:
        self.info = info

    @property
    def sid(self) -> str:
        return self.info.sid

    @property
    def source(self) -> TrackSource:
        return from_wire(TrackSource, self.info.source)


class LocalPublicationCore(PublicationCore):
    def __init__(self, info: models.TrackInfo, track: LocalTrack) -> None:
        super().__init__(info)
        self.track: LocalTrack | None = track
        """None when it is not published any more."""
        self.subscribed = asyncio.Event()
        """Somebody subscribed for the first time."""
        self.view = LocalTrackPublication(self)


class RemotePublicationCore(PublicationCore):
    def __init__(
        self,
        info: models.TrackInfo,
        participant_sid: str,
        session: Session | None,
        on_wanted: Callable[[], None],
    ) -> None:
        """`on_wanted` is called when a track that was refused is refused no more."""
        super().__init__(info)
        self.track: RemoteTrackCore | None = None
        """While it is subscribed."""
        self.choice = Choice()
        self.view = RemoteTrackPublication(self)
        self._participant_sid = participant_sid
        self._session = session
        self._on_wanted = on_wanted
        self._refusal: asyncio.TimerHandle | None = None

    @property
    def refused(self) -> bool:
        """It was switched off before it came, and the server may not have known when it began to send it."""
        return self._refusal is not None

    def end_refusal(self) -> None:
        """The server knows, or has had the time to: what it sends now is meant (`update_subscriptions` of its API)."""
        if self._refusal is not None:
            self._refusal.cancel()
            self._refusal = None

    def _refuse(self, session: Session) -> None:
        def over() -> None:
            self.end_refusal()
            self._on_wanted()

        self._refusal = session.loop.call_later(REFUSAL, over)

    def set_wanted(self, wanted: bool) -> None:
        self.choice.wanted = wanted
        self._send_wanted()

    def set_quality(self, quality: int) -> None:
        self.choice.quality = quality
        self._send_settings()

    def set_enabled(self, enabled: bool) -> None:
        self.choice.enabled = enabled
        self._send_settings()

    def send_choice(self) -> None:
        """To a session that does not know it yet."""
        if self.choice.wanted is not None:
            self._send_wanted()
        if self.choice.enabled is not None or self.choice.quality is not None:
            self._send_settings()

    def _send_wanted(self) -> None:
        if self._session is not None:
            was_refused = self.refused
            self.end_refusal()
            if not self.choice.wanted and self.track is None:
                self._refuse(self._session)
            elif was_refused:
                # Its section may be there, and the server has nothing to change then.
                self._session.loop.call_soon(self._on_wanted)
            sids = [self.sid]
            self._session.send(
                proto.SignalRequest(
                    subscription=proto.UpdateSubscription(
                        track_sids=sids,
                        subscribe=bool(self.choice.wanted),
                        participant_tracks=[
                            models.ParticipantTracks(participant_sid=self._participant_sid, track_sids=sids)
                        ],
                    )
                )
            )

    def _send_settings(self) -> None:
        """The whole of them: the server takes what is left out for the default."""
        if self._session is not None:
            quality = self.choice.quality
            settings = proto.UpdateTrackSettings(
                track_sids=[self.sid],
                disabled=self.choice.enabled is False,
                quality=models.VideoQuality.HIGH if quality is None else quality,  # type: ignore[arg-type]
            )
            self._session.send(proto.SignalRequest(track_setting=settings))


class TrackPublication(ABC):
    """A published track's description; `track` is the track itself, when there is one here."""

    def __init__(self, core: PublicationCore) -> None:
        self._core = core

    @property
    @abstractmethod
    def track(self) -> Track | None: ...

    @property
    def sid(self) -> str:
        return self._core.info.sid

    @property
    def name(self) -> str:
        return self._core.info.name

    @property
    def kind(self) -> TrackKind:
        return kind_of(self._core.info)

    @property
    def source(self) -> TrackSource:
        return self._core.source

    @property
    def simulcasted(self) -> bool:
        return self._core.info.simulcast

    @property
    def width(self) -> int:
        return self._core.info.width

    @property
    def height(self) -> int:
        return self._core.info.height

    @property
    def mime_type(self) -> str:
        return self._core.info.mime_type

    @property
    def muted(self) -> bool:
        return self._core.info.muted

    @property
    def encryption_type(self) -> EncryptionType:
        return from_wire(EncryptionType, self._core.info.encryption)

    @property
    def audio_features(self) -> list[AudioTrackFeature]:
        return [from_wire(AudioTrackFeature, feature) for feature in self._core.info.audio_features]

    @property
    def frame_metadata_features(self) -> list[FrameMetadataFeature]:
        return [from_wire(FrameMetadataFeature, feature) for feature in self._core.info.packet_trailer_features]

    def __repr__(self) -> str:
        return f"rtc.{type(self).__name__}(sid={self.sid}, name={self.name}, kind={self.kind.name}, source={self.source.name})"


class LocalTrackPublication(TrackPublication):
    _core: LocalPublicationCore

    def __init__(self, core: LocalPublicationCore) -> None:
        super().__init__(core)

    @property
    def track(self) -> LocalTrack | None:
        return self._core.track

    async def wait_for_subscription(self) -> None:
        """Until somebody has subscribed for the first time."""
        await self._core.subscribed.wait()


class RemoteTrackPublication(TrackPublication):
    _core: RemotePublicationCore

    def __init__(self, core: RemotePublicationCore) -> None:
        super().__init__(core)

    @property
    def track(self) -> RemoteTrack | None:
        return self._core.track.view if self._core.track is not None else None

    @property
    def subscribed(self) -> bool:
        """True while `track` is there."""
        return self._core.track is not None

    def set_subscribed(self, subscribed: bool) -> None:
        """Ask the server to send this track, or not to. `track_subscribed` or `track_unsubscribed` follows, if that changes
        anything: a track that was switched off before it came does not come, also when the server had begun to send it."""
        self._core.set_wanted(subscribed)

    def set_video_quality(self, quality: int) -> None:
        """Prefer a layer of a simulcast video (`VideoQuality`)."""
        self._core.set_quality(int(quality))

    def set_enabled(self, enabled: bool) -> None:
        """False pauses the media of this subscription without ending it."""
        self._core.set_enabled(enabled)
