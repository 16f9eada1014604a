"""Participants: those in the room, and what they publish.

A program holds a `Participant`. What the SDK does with it is done to its core, which the participant shows.
"""

from __future__ import annotations

import datetime
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

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
from .track_publication import PublicationCore, RemotePublicationCore, RemoteTrackPublication, TrackPublication
from .views import Views

if TYPE_CHECKING:
    from .local_participant import LocalParticipant, LocalParticipantCore
    from .media_stream import FrameReader

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

P = TypeVar("P", bound=PublicationCore)


class ParticipantCore(Generic[P]):
    """What the server says of somebody, and who reads whatever they publish."""

    view: Participant
    """What programs see."""

    def __init__(self, info: models.ParticipantInfo) -> None:
        self.info = info
        self.connection_quality = ConnectionQuality.QUALITY_UNKNOWN
        self.publications: dict[str, P] = {}
        self._followers: weakref.WeakSet[FrameReader[Any]] = weakref.WeakSet()

    @property
    def sid(self) -> str:
        return self.info.sid

    @property
    def identity(self) -> str:
        return self.info.identity

    def follow(self, reader: FrameReader[Any]) -> None:
        """Have it read the track with its source, now and whenever there is a new one."""
        self._followers.add(reader)

    def unfollow(self, reader: FrameReader[Any]) -> None:
        self._followers.discard(reader)


class RemoteParticipantCore(ParticipantCore[RemotePublicationCore]):
    view: RemoteParticipant

    def __init__(self, info: models.ParticipantInfo) -> None:
        super().__init__(info)
        self.view = RemoteParticipant(self)

    def follow(self, reader: FrameReader[Any]) -> None:
        super().follow(reader)
        for publication in self.publications.values():
            if self._attach(reader, publication):
                return

    def track_available(self, publication: RemotePublicationCore) -> None:
        for reader in list(self._followers):
            if not reader.attached:
                self._attach(reader, publication)

    @staticmethod
    def _attach(reader: FrameReader[Any], publication: RemotePublicationCore) -> bool:
        track = publication.track
        if track is None or publication.source != reader.track_source or track.kind not in reader.kinds:
            return False
        reader.attach(track)
        return True

    def gone(self) -> None:
        """No track of this participant will come any more."""
        for reader in list(self._followers):
            reader.finish()
        self._followers.clear()


class Participant(ABC):
    """What is known of somebody in the room, ourselves included. Kept up to date by the room."""

    def __init__(self, core: ParticipantCore[Any]) -> None:
        self._core = core

    @property
    @abstractmethod
    def track_publications(self) -> Mapping[str, TrackPublication]:
        """Sid to publication."""

    @property
    def sid(self) -> str:
        """`PA_...`, new with every session."""
        return self._core.info.sid

    @property
    def identity(self) -> str:
        """Who it is, unique in the room; from the token."""
        return self._core.info.identity

    @property
    def name(self) -> str:
        return self._core.info.name

    @property
    def metadata(self) -> str:
        return self._core.info.metadata

    @property
    def attributes(self) -> dict[str, str]:
        return dict(self._core.info.attributes)

    @property
    def kind(self) -> ParticipantKind:
        return ParticipantKind(KIND_FROM_PROTO.get(self._core.info.kind, 0))

    @property
    def kind_details(self) -> list[ParticipantKindDetail]:
        return [from_wire(ParticipantKindDetail, detail) for detail in self._core.info.kind_details]

    @property
    def state(self) -> ParticipantState:
        return from_wire(ParticipantState, self._core.info.state)

    @property
    def joined_at(self) -> datetime.datetime | None:
        """In UTC; None when not known."""
        milliseconds = self._core.info.joined_at_ms or self._core.info.joined_at * 1000
        return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC) if milliseconds else None

    @property
    def permissions(self) -> models.ParticipantPermission:
        return self._core.info.permission

    @property
    def connection_quality(self) -> ConnectionQuality:
        return self._core.connection_quality

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """None while connected."""
        return (
            from_wire(DisconnectReason, self._core.info.disconnect_reason)
            if self._core.info.disconnect_reason
            else None
        )


class RemoteParticipant(Participant):
    def __init__(self, core: RemoteParticipantCore) -> None:
        super().__init__(core)
        self._track_publications = Views(core.publications)

    @property
    def track_publications(self) -> Mapping[str, RemoteTrackPublication]:
        return self._track_publications

    def __repr__(self) -> str:
        return f"rtc.RemoteParticipant(sid={self.sid}, identity={self.identity}, name={self.name})"


@overload
def core_of(participant: LocalParticipant) -> LocalParticipantCore: ...
@overload
def core_of(participant: Participant) -> ParticipantCore[Any]: ...
def core_of(participant: Participant) -> ParticipantCore[Any]:
    """For the SDK: the core of a participant that a program names."""
    return participant._core
