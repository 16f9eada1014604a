"""Participants: those in the room, and what they publish."""

from __future__ import annotations

import datetime
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from livekit.protocol import models

from .enums import (
    KIND_FROM_PROTO,
    ConnectionQuality,
    DisconnectReason,
    ParticipantKind,
    ParticipantKindDetail,
    ParticipantState,
    from_wire,
)
from .errors import (
    PublishDataError,
    PublishDataTrackError,
    PublishDTMFError,
    PublishTrackError,
    PublishTranscriptionError,
    UnpublishTrackError,
)
from .track_publication import RemoteTrackPublication, TrackPublication

if TYPE_CHECKING:
    from .media_stream import MediaStream

__all__ = [
    "Participant",
    "PublishDTMFError",
    "PublishDataError",
    "PublishDataTrackError",
    "PublishTrackError",
    "PublishTranscriptionError",
    "RemoteParticipant",
    "UnpublishTrackError",
]


class Participant(ABC):
    """What is known of somebody in the room, ourselves included. Kept up to date by the room."""

    def __init__(self, info: models.ParticipantInfo) -> None:
        self._info = info
        self._connection_quality = ConnectionQuality.QUALITY_UNKNOWN
        self._followers: weakref.WeakSet[MediaStream[Any]] = weakref.WeakSet()

    @property
    @abstractmethod
    def track_publications(self) -> Mapping[str, TrackPublication]:
        """Sid to publication."""

    @property
    def sid(self) -> str:
        """`PA_...`, new with every session."""
        return self._info.sid

    @property
    def identity(self) -> str:
        """Who it is, unique in the room; from the token."""
        return self._info.identity

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def metadata(self) -> str:
        return self._info.metadata

    @property
    def attributes(self) -> dict[str, str]:
        return dict(self._info.attributes)

    @property
    def kind(self) -> ParticipantKind:
        return ParticipantKind(KIND_FROM_PROTO.get(self._info.kind, 0))

    @property
    def kind_details(self) -> list[ParticipantKindDetail]:
        return [from_wire(ParticipantKindDetail, detail) for detail in self._info.kind_details]

    @property
    def state(self) -> ParticipantState:
        return from_wire(ParticipantState, self._info.state)

    @property
    def joined_at(self) -> datetime.datetime | None:
        """In UTC; None when not known."""
        milliseconds = self._info.joined_at_ms or self._info.joined_at * 1000
        return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC) if milliseconds else None

    @property
    def permissions(self) -> models.ParticipantPermission:
        return self._info.permission

    @property
    def connection_quality(self) -> ConnectionQuality:
        return self._connection_quality

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """None while connected."""
        return from_wire(DisconnectReason, self._info.disconnect_reason) if self._info.disconnect_reason else None

    def _follow(self, stream: MediaStream[Any]) -> None:
        """Attach a stream to the track with its source, now and whenever there is a new one."""
        self._followers.add(stream)
        for publication in self.track_publications.values():
            if publication.source == stream._track_source and self._attach_to(stream, publication):
                return

    def _unfollow(self, stream: MediaStream[Any]) -> None:
        self._followers.discard(stream)

    def _track_available(self, publication: TrackPublication) -> None:
        for stream in list(self._followers):
            if publication.source == stream._track_source and stream._sink is None:
                self._attach_to(stream, publication)

    @staticmethod
    def _attach_to(stream: MediaStream[Any], publication: TrackPublication) -> bool:
        if publication.track is None or not stream._accepts(publication.track):
            return False
        stream._attach(publication.track)
        return True

    def _gone(self) -> None:
        """No track of this participant will come any more."""
        for stream in list(self._followers):
            stream._finish()
        self._followers.clear()


class RemoteParticipant(Participant):
    def __init__(self, info: models.ParticipantInfo) -> None:
        super().__init__(info)
        self._track_publications: dict[str, RemoteTrackPublication] = {}

    @property
    def track_publications(self) -> Mapping[str, RemoteTrackPublication]:
        return self._track_publications

    def __repr__(self) -> str:
        return f"rtc.RemoteParticipant(sid={self.sid}, identity={self.identity}, name={self.name})"
