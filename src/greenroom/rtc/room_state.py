"""Applying what the server says to the room's objects, and telling the program what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livekit.protocol import models, rtc as proto

from .enums import ConnectionQuality, DisconnectReason, from_wire
from .local_participant import LocalParticipantCore
from .log import logger
from .participant import ParticipantCore, RemoteParticipantCore
from .track import local_core
from .track_publication import LocalPublicationCore, RemotePublicationCore

if TYPE_CHECKING:
    from .room_core import RoomCore

_ACTIVE = models.ParticipantInfo.State.ACTIVE
_DISCONNECTED = models.ParticipantInfo.State.DISCONNECTED
MAX_EARLY = 1000
MEANT = frozenset(
    (DisconnectReason.CLIENT_INITIATED, DisconnectReason.PARTICIPANT_REMOVED, DisconnectReason.ROOM_DELETED)
)
"""Ends of a session after which nobody is expected back."""


class RoomState:
    def __init__(self, room: RoomCore) -> None:
        self._room = room
        self._speakers: dict[str, models.SpeakerInfo] = {}
        self._early_subscriptions: dict[str, None] = {}
        """Own tracks that somebody subscribed to before `publish_track` was done."""
        self._listed: set[str] | None = None
        """While a resume is under way: the sids that the server has named since."""
        self._mutes_under_way: set[str] = set()
        """Own tracks that were muted or unmuted while the socket was away: the server does not know yet."""
        self._handlers = {
            "update": lambda m: self._update(m.update.participants),
            "speakers_changed": lambda m: self._speakers_changed(m.speakers_changed),
            "room_update": lambda m: self._room_update(m.room_update.room),
            "connection_quality": lambda m: self._connection_quality(m.connection_quality),
            "stream_state_update": lambda m: room.subscriptions.stream_state(m.stream_state_update),
            "mute": lambda m: self._muted_by_server(m.mute),
            "track_unpublished": lambda m: self._unpublished_by_server(m.track_unpublished.track_sid),
            "track_subscribed": lambda m: self._own_track_subscribed(m.track_subscribed.track_sid),
            "subscription_response": lambda m: room.subscriptions.failed(m.subscription_response),
            "room_moved": lambda m: self._moved(m.room_moved),
            "data_track_subscriber_handles": lambda m: room.data_tracks.set_handles(m.data_track_subscriber_handles),
        }

    def handle(self, message: proto.SignalResponse) -> None:
        kind = message.WhichOneof("message")
        handler = self._handlers.get(kind or "")
        if handler is not None:
            handler(message)
        else:
            logger.debug("ignored signalling message %r", kind)

    # --- joining ---------------------------------------------------------------------------------------------------

    def joined(self, join: proto.JoinResponse) -> None:
        room = self._room
        room.set_info(join.room)
        previous = room.local
        if previous is not None and previous.identity == join.participant.identity:
            previous.info = join.participant
            previous.publications.clear()
        else:
            room.local = LocalParticipantCore(join.participant, room)
            if previous is not None:
                room.local.rpc.handlers.update(previous.rpc.handlers)
        room.remotes.clear()
        for info in join.other_participants:
            if info.state == _DISCONNECTED:
                continue
            participant = RemoteParticipantCore(info)
            room.remotes[info.identity] = participant
            for track in info.tracks:
                self._new_publication(participant, track)
            room.data_tracks.set_published(info, announce=True)

    def rejoined(self, join: proto.JoinResponse) -> None:
        """After a full reconnect: the same room seen anew. What is gone is said, tracks come again."""
        room, local = self._room, self._room.local
        assert local is not None
        self._listed = None
        self._change_room(join.room)
        old, local.info = local.info, join.participant
        self._tell_changes(local, old, join.participant)
        room.subscriptions.forget_sections()
        self._speakers.clear()
        self._tell_speakers()
        room.data_tracks.session_replaced()
        local.tracks.send_permissions()
        present = {info.identity for info in join.other_participants}
        for participant in list(room.remotes.values()):
            if participant.identity not in present:
                self._remove(participant)
                continue
            for publication in participant.publications.values():
                self._room.subscriptions.unsubscribe(participant, publication)
        for info in join.other_participants:
            known = room.remotes.get(info.identity)
            if known is not None:
                if known.sid != info.sid:
                    # It came back too. To the program it is the same participant, with tracks under new sids.
                    room.subscriptions.keep_choices(known)
                    known.info.sid = info.sid
                known.info.version = 0
                known.connection_quality = ConnectionQuality.QUALITY_UNKNOWN
            self._apply_remote(info)
        room.subscriptions.send_choices()

    def resuming(self, unsent: list[proto.SignalRequest]) -> None:
        """The server goes on with the session and now says who is there. `unsent`: what it does not know yet."""
        self._listed = set()
        self._mutes_under_way = {r.mute.sid for r in unsent if r.WhichOneof("message") == "mute"}

    def resumed(self) -> None:
        self._listed = None
        self._mutes_under_way.clear()

    def _list_ended(self) -> None:
        """Whoever the server did not name left while we were away. A list without ourselves is not the whole list."""
        listed, self._listed = self._listed, None
        room = self._room
        if listed is None or room.local is None or room.local.sid not in listed:
            return
        for participant in list(room.remotes.values()):
            if participant.sid not in listed:
                self._remove(participant)

    def _room_update(self, info: models.Room) -> None:
        self._change_room(info)
        self._list_ended()

    def _change_room(self, info: models.Room) -> None:
        old = self._room.info.metadata
        self._room.set_info(info)
        if old != info.metadata:
            self._room.emit("room_metadata_changed", old, info.metadata)
        self._room.emit("room_updated")

    def _moved(self, moved: proto.RoomMovedResponse) -> None:
        room = self._room
        room.set_info(moved.room)
        if moved.token and room.session is not None:
            room.session.token = moved.token
            room.on_token(moved.token)
        if room.local is not None and moved.HasField("participant"):
            room.local.info = moved.participant
            if room.session is not None:
                room.session.participant_sid = moved.participant.sid
        present = {info.identity for info in moved.other_participants}
        for participant in list(room.remotes.values()):
            if participant.identity not in present:
                self._remove(participant)
        self._update(moved.other_participants)
        room.emit("moved")

    # --- participants ----------------------------------------------------------------------------------------------

    def _update(self, infos: Any) -> None:
        for info in infos:
            if self._listed is not None:
                self._listed.add(info.sid)
            local = self._room.local
            if local is not None and info.identity == local.identity:
                if info.sid == local.sid:
                    self._apply_local(local, info)
            else:
                self._apply_remote(info)

    def _apply_local(self, local: LocalParticipantCore, info: models.ParticipantInfo) -> None:
        if info.version and info.version < local.info.version:
            return
        old, local.info = local.info, info
        for track in info.tracks:
            publication = local.publications.get(track.sid)
            if publication is not None:
                muted, track_muted = publication.info.muted, track.muted
                publication.info = track
                # Whether we are muted is our own affair; the server says otherwise with a `mute` message.
                publication.info.muted = muted
                if self._listed is not None and track_muted != muted and publication.sid not in self._mutes_under_way:
                    self._agree_on_mute(publication, track_muted)
        self._tell_changes(local, old, info)

    def _agree_on_mute(self, publication: LocalPublicationCore, muted: bool) -> None:
        """After a resume the server sees it otherwise: its `mute` or our request went into the dead socket. Whoever wants
        silence gets it."""
        track = publication.track
        if track is None:
            return
        core = local_core(track)
        if muted:
            core.set_muted(True)
        elif core.publisher is not None:
            core.publisher.send_mute(core.sid, True)

    def _apply_remote(self, info: models.ParticipantInfo) -> None:
        room = self._room
        participant = room.remotes.get(info.identity)
        if info.state == _DISCONNECTED:
            if participant is not None and participant.sid == info.sid:
                participant.info = info
                self._remove(participant)
            return
        if participant is not None and participant.sid != info.sid:
            self._remove(participant)
            participant = None
        if participant is None:
            participant = RemoteParticipantCore(info)
            room.remotes[info.identity] = participant
            room.emit("participant_connected", participant.view)
            if info.state == _ACTIVE:
                room.emit("participant_active", participant.view)
            for track in info.tracks:
                room.emit("track_published", self._new_publication(participant, track).view, participant.view)
            room.data_tracks.set_published(info, announce=True)
            room.subscriptions.subscribe_known()
            return
        if info.version and info.version < participant.info.version:
            return
        old, participant.info = participant.info, info
        self._tell_changes(participant, old, info)
        if old.state != _ACTIVE and info.state == _ACTIVE:
            room.emit("participant_active", participant.view)
        self._apply_publications(participant, info)
        room.data_tracks.set_published(info, announce=True)
        room.subscriptions.subscribe_known()

    def _apply_publications(self, participant: RemoteParticipantCore, info: models.ParticipantInfo) -> None:
        room = self._room
        present = {track.sid for track in info.tracks}
        for sid, publication in list(participant.publications.items()):
            if sid not in present:
                self._unpublish(participant, publication)
        for track in info.tracks:
            known = participant.publications.get(track.sid)
            if known is None:
                room.emit("track_published", self._new_publication(participant, track).view, participant.view)
                continue
            was_muted = known.info.muted
            known.info = track
            if known.track is not None:
                known.track.muted = track.muted
            if was_muted != track.muted:
                room.emit("track_muted" if track.muted else "track_unmuted", participant.view, known.view)

    def _new_publication(self, participant: RemoteParticipantCore, info: models.TrackInfo) -> RemotePublicationCore:
        subscriptions = self._room.subscriptions
        publication = RemotePublicationCore(info, participant.sid, self._room.session, subscriptions.subscribe_known)
        participant.publications[info.sid] = publication
        subscriptions.restore_choice(participant, publication)
        return publication

    def _unpublish(self, participant: RemoteParticipantCore, publication: RemotePublicationCore) -> None:
        self._room.subscriptions.unsubscribe(participant, publication)
        participant.publications.pop(publication.sid, None)
        self._room.emit("track_unpublished", publication.view, participant.view)

    def _remove(self, participant: RemoteParticipantCore) -> None:
        room = self._room
        expected_back = participant.view.disconnect_reason not in MEANT
        if expected_back:
            room.subscriptions.keep_choices(participant)
        for publication in list(participant.publications.values()):
            self._unpublish(participant, publication)
        if room.remotes.get(participant.identity) is participant:
            del room.remotes[participant.identity]
        participant.gone()
        self._speakers.pop(participant.sid, None)
        room.streams.sender_left(participant.identity)
        room.data_tracks.participant_left(participant.identity, expected_back=expected_back)
        if room.local is not None:
            room.local.rpc.participant_left(participant.identity)
        participant.info.state = _DISCONNECTED
        room.emit("participant_disconnected", participant.view)

    def _tell_changes(
        self, participant: ParticipantCore[Any], old: models.ParticipantInfo, new: models.ParticipantInfo
    ) -> None:
        emit, view = self._room.emit, participant.view
        if old.metadata != new.metadata:
            emit("participant_metadata_changed", view, old.metadata, new.metadata)
        if old.name != new.name:
            emit("participant_name_changed", view, old.name, new.name)
        before, after = dict(old.attributes), dict(new.attributes)
        if before != after:
            changed = {key: value for key, value in after.items() if before.get(key) != value}
            changed.update({key: "" for key in before if key not in after})
            emit("participant_attributes_changed", changed, view)
        if old.permission != new.permission:
            emit("participant_permissions_changed", view, new.permission)

    # --- own tracks ------------------------------------------------------------------------------------------------

    def _muted_by_server(self, mute: proto.MuteTrackRequest) -> None:
        local = self._room.local
        # By its sid of now: while it is being published again it is still listed under the one before.
        publications = list(local.publications.values()) if local is not None else []
        publication = next((p for p in publications if p.sid == mute.sid), None)
        if publication is not None and publication.track is not None:
            local_core(publication.track).set_muted(mute.muted)

    def _unpublished_by_server(self, sid: str) -> None:
        room = self._room
        local = room.local
        if local is not None and room.session is not None and sid in local.publications:
            local.tracks.unpublish(sid)

    def _own_track_subscribed(self, sid: str) -> None:
        local = self._room.local
        publication = local.publications.get(sid) if local is not None else None
        if publication is None:
            if len(self._early_subscriptions) < MAX_EARLY:
                self._early_subscriptions[sid] = None
            return
        publication.subscribed.set()
        self._room.emit("local_track_subscribed", publication.track)

    def take_early_subscription(self, sid: str) -> bool:
        """True when somebody subscribed to this own track before it was known here; then the event follows."""
        if sid not in self._early_subscriptions:
            return False
        del self._early_subscriptions[sid]
        return True

    # --- the rest --------------------------------------------------------------------------------------------------

    def _speakers_changed(self, changed: proto.SpeakersChanged) -> None:
        for speaker in changed.speakers:
            if speaker.active:
                self._speakers[speaker.sid] = speaker
            else:
                self._speakers.pop(speaker.sid, None)
        self._tell_speakers()

    def _tell_speakers(self) -> None:
        room = self._room
        by_sid: dict[str, ParticipantCore[Any]] = {p.sid: p for p in room.remotes.values()}
        if room.local is not None:
            by_sid[room.local.sid] = room.local
        loudest = sorted(self._speakers.values(), key=lambda speaker: -speaker.level)
        speakers = [by_sid[speaker.sid].view for speaker in loudest if speaker.sid in by_sid]
        room.emit("active_speakers_changed", speakers)

    def _connection_quality(self, update: proto.ConnectionQualityUpdate) -> None:
        room = self._room
        by_sid: dict[str, ParticipantCore[Any]] = {p.sid: p for p in room.remotes.values()}
        if room.local is not None:
            by_sid[room.local.sid] = room.local
        for info in update.updates:
            participant = by_sid.get(info.participant_sid)
            if participant is None:
                continue
            quality = from_wire(ConnectionQuality, info.quality, -1)
            if participant.connection_quality != quality:
                participant.connection_quality = quality
                room.emit("connection_quality_changed", participant.view, quality)

    def sync_state(self) -> proto.SyncState:
        """What the server needs to pick up the session after a lost socket (`SyncState`)."""
        room = self._room
        session, local = room.session, room.local
        assert session is not None and local is not None
        transport = session.publisher if session.single else session.subscriber
        state = room.subscriptions.wishes()
        state.MergeFrom(
            proto.SyncState(
                publish_tracks=local.tracks.published(),
                publish_data_tracks=room.data_tracks.published(),
                data_subscription=room.data_tracks.subscribed(),
                datachannel_receive_states=session.reliable.receive_states(),
            )
        )
        if (
            transport is not None
            and transport.local_description is not None
            and transport.remote_description is not None
        ):
            ours, theirs = transport.local_description, transport.remote_description
            state.offer.CopyFrom(ours if session.single else theirs)
            state.answer.CopyFrom(theirs if session.single else ours)
        return state
