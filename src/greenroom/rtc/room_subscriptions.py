"""What the server sends us: its sections made into tracks, and what the program decided about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit.protocol import models, rtc as proto

from .enums import StreamState, TrackKind
from .native_peer import NativePeer
from .participant import RemoteParticipantCore
from .track import RemoteTrackCore
from .track_publication import Choice, RemotePublicationCore, kind_of
from .transport import Transport

if TYPE_CHECKING:
    from .room_core import RoomCore

MAX_CHOICES = 1000


class RoomSubscriptions:
    def __init__(self, room: RoomCore) -> None:
        self._room = room
        self._sections: dict[NativePeer, dict[str, str]] = {}
        """What the server sends on each section: mid to track sid."""
        self._choices: dict[tuple[str, str, int, int], Choice] = {}
        """What was decided about tracks whose publisher's session broke: they come back under new sids. By identity, name,
        source and type."""

    # --- tracks ----------------------------------------------------------------------------------------------------

    def set_tracks(self, transport: Transport, track_by_mid: dict[str, str]) -> None:
        """What the newest description says the server sends on this connection: the whole truth about it."""
        before = self._sections.get(transport, {})
        self._sections[transport] = track_by_mid
        for mid, sid in before.items():
            if track_by_mid.get(mid) != sid:
                participant, publication = self.find(sid)
                if participant is None or publication is None:
                    continue
                publication.end_refusal()
                track = publication.track
                if track is not None and track.transport is transport and track.mid == mid:
                    self.unsubscribe(participant, publication)
        self.subscribe_known()

    def find(self, sid: str) -> tuple[RemoteParticipantCore | None, RemotePublicationCore | None]:
        for participant in self._room.remotes.values():
            publication = participant.publications.get(sid)
            if publication is not None:
                return participant, publication
        return None, None

    def subscribe_known(self) -> None:
        """Make tracks of sections whose publication is known; the others wait for their update."""
        for transport, track_by_mid in self._sections.items():
            for mid, sid in track_by_mid.items():
                participant, publication = self.find(sid)
                if participant is None or publication is None or publication.track is not None:
                    continue
                if not publication.refused:
                    self._subscribe(transport, mid, participant, publication)

    def _subscribe(
        self, transport: NativePeer, mid: str, participant: RemoteParticipantCore, publication: RemotePublicationCore
    ) -> None:
        info = publication.info
        kind = kind_of(info)
        if kind not in (TrackKind.KIND_AUDIO, TrackKind.KIND_VIDEO):
            return
        track = RemoteTrackCore(info.sid, info.name, kind, muted=info.muted)
        track.connect(transport, mid)
        transport.sections.setdefault(mid, ("audio" if kind == TrackKind.KIND_AUDIO else "video", False))
        track.set_room(self._room)
        publication.track = track
        participant.track_available(publication)
        self._room.emit("track_subscribed", track.view, publication.view, participant.view)

    def unsubscribe(self, participant: RemoteParticipantCore, publication: RemotePublicationCore) -> None:
        track = publication.track
        if track is None:
            return
        publication.track = None
        if track.transport is not None:
            sections = self._sections.get(track.transport, {})
            if sections.get(track.mid) == track.sid:
                del sections[track.mid]
        track.end()
        self._room.emit("track_unsubscribed", track.view, publication.view, participant.view)

    def stream_state(self, update: proto.StreamStateUpdate) -> None:
        states = {
            proto.StreamState.ACTIVE: StreamState.STATE_ACTIVE,
            proto.StreamState.PAUSED: StreamState.STATE_PAUSED,
        }
        for state in update.stream_states:
            _, publication = self.find(state.track_sid)
            if publication is not None and publication.track is not None:
                publication.track.stream_state = states.get(state.state, StreamState.STATE_UNKNOWN)

    def failed(self, response: proto.SubscriptionResponse) -> None:
        participant, _ = self.find(response.track_sid)
        if participant is not None and response.err:
            error = models.SubscriptionError.Name(response.err)
            self._room.emit("track_subscription_failed", participant.view, response.track_sid, error)

    # --- choices ---------------------------------------------------------------------------------------------------

    def keep_choices(self, participant: RemoteParticipantCore) -> None:
        for publication in participant.publications.values():
            if publication.choice:
                self._choices[_choice_key(participant, publication.info)] = publication.choice
        while len(self._choices) > MAX_CHOICES:
            del self._choices[next(iter(self._choices))]

    def restore_choice(self, participant: RemoteParticipantCore, publication: RemotePublicationCore) -> None:
        """Of a publication that is new here."""
        choice = self._choices.pop(_choice_key(participant, publication.info), None)
        if choice is not None:
            publication.choice = choice
            publication.send_choice()

    def send_choices(self) -> None:
        """To a session that does not know them yet."""
        for participant in self._room.remotes.values():
            for publication in participant.publications.values():
                publication.send_choice()

    def wishes(self) -> proto.SyncState:
        """The part of `SyncState` that also holds for a new session: what deviates from `auto_subscribe`, what is paused."""
        room = self._room
        session = room.session
        assert session is not None
        auto = session.options.auto_subscribe
        publications = [
            publication for participant in room.remotes.values() for publication in participant.publications.values()
        ]
        deviating = [p.sid for p in publications if p.choice.wanted is (not auto)]
        return proto.SyncState(
            subscription=proto.UpdateSubscription(track_sids=deviating, subscribe=not auto),
            track_sids_disabled=[p.sid for p in publications if p.choice.enabled is False],
        )

    # --- the room's ways -------------------------------------------------------------------------------------------

    def tell_readers(self) -> None:
        """The room has a new token."""
        for participant in self._room.remotes.values():
            for publication in participant.publications.values():
                if publication.track is not None:
                    publication.track.tell_readers()

    def end_all(self) -> None:
        """The connection is gone: streams end; nothing is emitted for each."""
        self._sections.clear()
        for participant in self._room.remotes.values():
            for publication in participant.publications.values():
                if publication.track is not None:
                    publication.track.end()
            participant.gone()

    def forget_sections(self) -> None:
        """The session has new connections."""
        self._sections.clear()


def _choice_key(participant: RemoteParticipantCore, info: models.TrackInfo) -> tuple[str, str, int, int]:
    return participant.identity, info.name, info.source, info.type
