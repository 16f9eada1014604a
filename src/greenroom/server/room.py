"""A room: its participants, and what they are told about each other."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from livekit.protocol import models, room as room_proto, rtc

from . import ids
from .connection import Frame, SignalConnection
from .data import DataRouter
from .participant import Action, Participant, Reason, State
from .quality import QualityReporter
from .returning import Departures, Wills
from .settings import RoomSettings
from .tracks import PublishedTrack

if TYPE_CHECKING:
    from greenroom._native import MediaServer
    from greenroom.api.grants import Claims

    from .auth import Auth
    from .join import Join
    from .manager import RoomManager

__all__ = ["Room"]

logger = logging.getLogger(__name__)

TICK = 5.0
"""Seconds between connection qualities and batched counts."""
BATCH = 0.5
"""Seconds in which a large room's participant updates are collected."""
UPDATE_BYTES = 128 * 1024
"""A `ParticipantUpdate` is split at about this size."""


class Room:
    """Made by `RoomManager`; ends with `close`."""

    def __init__(self, manager: RoomManager, number: int, request: room_proto.CreateRoomRequest) -> None:
        """`request`: what the room was asked to be, presets applied. Zero timeouts mean the configured ones."""
        settings = manager.settings
        self.manager = manager
        self.number = number
        self.name = request.name
        self.sid = ids.new_id("RM")
        self.request = request
        self.metadata = request.metadata
        self.participants: dict[str, Participant] = {}
        """By identity."""
        self.tracks: dict[str, PublishedTrack] = {}
        """All published tracks, by sid."""
        self.created_at = time.time()
        self.empty_timeout = request.empty_timeout or settings.empty_timeout
        self.departure_timeout = request.departure_timeout or settings.departure_timeout
        self.max_participants = request.max_participants or settings.max_participants
        self.sif_trailer = secrets.token_bytes(32)
        self.data: DataRouter = DataRouter(self)
        self.closed = False
        self._turn_password = secrets.token_urlsafe(32)
        self.wills = Wills()
        self._departures = Departures()
        self._speaking: dict[str, models.SpeakerInfo] = {}
        """Who speaks now, by track sid."""
        self._quality = QualityReporter(self)
        self._counts = (0, 0)
        self._stale: dict[str, Participant] = {}
        """Participants whose newest state a large room has not been told yet, by sid."""
        self._flush_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._was_used = False
        """Somebody who keeps a room was in it."""
        self._expire_after(self.empty_timeout)

    # --- services for participants -------------------------------------------------------------------------------

    @property
    def settings(self) -> RoomSettings:
        return self.manager.settings

    @property
    def media(self) -> MediaServer:
        return self.manager.media

    @property
    def sign(self) -> Callable[[Claims], str]:
        return self.manager.sign

    def next_number(self) -> int:
        return self.manager.numbers()

    def emit(self, kind: str, participant: Participant | None = None, track: models.TrackInfo | None = None) -> None:
        self.manager.emit(kind, self, participant, track)

    # --- what the API sees ---------------------------------------------------------------------------------------

    def to_proto(self) -> models.Room:
        counted = [p for p in self.participants.values() if not p.is_dependent]
        return models.Room(
            sid=self.sid,
            name=self.name,
            empty_timeout=self.empty_timeout,
            departure_timeout=self.departure_timeout,
            max_participants=self.max_participants,
            creation_time=int(self.created_at),
            creation_time_ms=int(self.created_at * 1000),
            turn_password=self._turn_password,
            enabled_codecs=[models.Codec(mime=mime) for mime in self.settings.enabled_codecs],
            metadata=self.metadata,
            num_participants=len(counted),
            num_publishers=sum(p.is_publisher for p in self.participants.values()),
            active_recording=any(p.permission.recorder for p in self.participants.values()),
        )

    def get_participant(self, identity: str) -> Participant | None:
        return self.participants.get(identity)

    def set_metadata(self, metadata: str) -> None:
        """Raises ValueError when it is longer than configured."""
        if self.settings.max_metadata_size and len(metadata.encode()) > self.settings.max_metadata_size:
            raise ValueError("metadata size exceeds the limit")
        self.metadata = metadata
        self.broadcast(room_update=rtc.RoomUpdate(room=self.to_proto()))

    def remove_participant(
        self, identity: str, reason: models.DisconnectReason = Reason.PARTICIPANT_REMOVED, *, sid: str = ""
    ) -> bool:
        """Send somebody away. `sid`: only that session of the identity. Whoever decided some time ago must name it, because
        the identity may have come back meanwhile. False when there is none."""
        participant = self.participants.get(identity)
        if participant is None or (sid and participant.sid != sid):
            return False
        participant.close(reason)
        return True

    def send_data(
        self,
        payload: bytes,
        *,
        kind: models.DataPacket.Kind = models.DataPacket.Kind.RELIABLE,
        topic: str = "",
        destination_identities: Iterable[str] = (),
        destination_sids: Iterable[str] = (),
        nonce: bytes = b"",
    ) -> None:
        """`RoomService/SendData`: from the server to everybody, or to the destinations. A nonce seen before is dropped."""
        self.data.send(payload, kind, topic, tuple(destination_identities), tuple(destination_sids), nonce)

    async def perform_rpc(self, identity: str, method: str, payload: str, timeout: float) -> str:
        """`RoomService/PerformRpc`. Raises `greenroom.server.data.RpcError`; LookupError for an unknown identity."""
        return await self.data.perform_rpc(identity, method, payload, timeout)

    @property
    def is_full(self) -> bool:
        counted = sum(not p.is_dependent for p in self.participants.values())
        return bool(self.max_participants) and counted >= self.max_participants

    # --- joining and leaving -------------------------------------------------------------------------------------

    def join(self, auth: Auth, join: Join, identity: str, connection: SignalConnection) -> Participant:
        """A new session. Whoever had the identity is sent away. Sends `join` and everything that follows it."""
        if previous := self.participants.get(identity):
            previous.close(Reason.DUPLICATE_IDENTITY)
        participant = Participant(self, auth, join, identity, connection)
        if will := self.wills.take(identity):
            participant.inherit(will)
        others = [p.to_proto() for p in self.participants.values() if not p.hidden]
        self.participants[identity] = participant
        self.presence_changed()
        for peer in participant.negotiation:
            self.manager.register_peer(peer.number, participant)
        if self.settings.top_speakers:
            # The core forgets a room with its last peer.
            self.media.set_room(self.number, top_speakers=self.settings.top_speakers)
        participant.state = State.JOINED
        participant.send(join=self._join_response(participant, others))
        participant.refresh_token()
        participant.set_timer("join", self.settings.join_timeout, participant.close, Reason.JOIN_FAILURE)
        participant.changed()
        self.emit("participant_joined", participant)
        for request in join.add_tracks:
            participant.publications.add(request)
        if join.sync_state:
            # A full reconnect: what was switched off is not switched on for a moment.
            wishes = join.sync_state.subscription
            participant.update_subscriptions(wishes.track_sids, wishes.subscribe)
            participant.subscriptions.disable(join.sync_state.track_sids_disabled)
        # Before the answer, so that it already carries the tracks that are there.
        participant.subscriptions.reconcile()
        self.data.tracks.reconcile(participant)
        if participant.subscriber_pc:
            participant.subscriber_pc.offer_now()
        if join.offer and join.description:
            participant.negotiation.take_offer(join.offer, join.description)
        self._start_ticking()
        return participant

    def resume(self, auth: Auth, join: Join, identity: str, connection: SignalConnection) -> Participant | None:
        """Give a live participant its new socket; None when there is nothing to resume."""
        participant = self.participants.get(identity)
        if participant is None or participant.closed:
            return None
        if join.participant_sid and join.participant_sid != participant.sid:
            return None
        if not participant.resumable or not self._departures.knows_since(participant.heard_at):
            return None
        participant.attach(connection)
        participant.auth = auth
        if participant.drop_signal_on_resume == "before":
            participant.drop_signal_on_resume = ""
            participant.drop_signal()
            return participant
        participant.send(
            reconnect=rtc.ReconnectResponse(
                ice_servers=self.settings.ice_servers,
                client_configuration=participant.configuration,
                server_info=self.settings.server_info(),
                last_message_seq=self.data.last_sequence(participant),
            )
        )
        self._tell_missed(participant)
        participant.refresh_token()
        if participant.subscriber_pc:
            participant.subscriber_pc.restart_ice()
        for request in join.add_tracks:
            participant.publications.add(request)
        if join.offer and join.description:
            participant.negotiation.take_offer(join.offer, join.description)
        if join.sync_state:
            self.manager.sync_state(participant, join.sync_state)
        if participant.drop_signal_on_resume == "after":
            participant.drop_signal_on_resume = ""
            participant.drop_signal(flush=True)
        return participant

    def _tell_missed(self, participant: Participant) -> None:
        """After a resume: all that may have changed while nothing could be told, first what no snapshot shows. Clients
        may take `room_update` for the end of the list of who is there."""
        gone = self._departures.since(participant.away_since)
        for update in _split([info for info in gone if info.identity not in self.participants]):
            participant.send(update=update)
        participant.send_missed_mutes()
        everybody = [p.to_proto() for p in self.participants.values() if p is participant or not p.hidden]
        for update in _split(everybody):
            participant.send(update=update)
        participant.send(room_update=rtc.RoomUpdate(room=self.to_proto()))
        heard = {track.sid: track for track in participant.tracks.values()}
        heard |= {sub.track.sid: sub.track for sub in participant.subscriptions.active.values()}
        speakers: dict[str, models.SpeakerInfo] = {}
        for sid, track in heard.items():
            if track.kind == "audio":
                speaker = self._speaking.get(sid) or models.SpeakerInfo(sid=track.publisher.sid)
                if speaker.active or speaker.sid not in speakers:
                    speakers[speaker.sid] = speaker
        if speakers:
            participant.send(speakers_changed=rtc.SpeakersChanged(speakers=speakers.values()))
        self._quality.tell_again(participant.sid)

    def participant_closed(self, participant: Participant) -> None:
        """Called by `Participant.close`."""
        self.forget_peers(participant)
        if self.participants.get(participant.identity) is participant:
            del self.participants[participant.identity]
        participant.changed()
        if not participant.hidden:
            self._departures.add(participant.to_proto())
        self._quality.forget(participant.sid)
        self.data.forget(participant)
        self.emit("participant_left" if participant.was_active else "participant_connection_aborted", participant)
        self.presence_changed()

    def forget_peers(self, participant: Participant) -> None:
        """The core's events about them concern nobody any more."""
        for peer in participant.negotiation:
            self.manager.forget_peer(peer.number)

    def _join_response(self, participant: Participant, others: list[models.ParticipantInfo]) -> rtc.JoinResponse:
        settings = self.settings
        return rtc.JoinResponse(
            room=self.to_proto(),
            participant=participant.to_proto(),
            other_participants=others,
            server_version=settings.server_info().version,
            server_info=settings.server_info(),
            server_region=settings.region,
            ice_servers=settings.ice_servers,
            subscriber_primary=participant.negotiation.subscriber_primary,
            client_configuration=participant.configuration,
            ping_timeout=settings.ping_timeout,
            ping_interval=settings.ping_interval,
            sif_trailer=self.sif_trailer,
            enabled_publish_codecs=settings.publish_codecs(participant.publishable),
            fast_publish=participant.permission.can_publish,
        )

    # --- telling everybody ---------------------------------------------------------------------------------------

    def broadcast(self, **message: Any) -> None:
        """The same `SignalResponse` to everybody, encoded once."""
        frame = Frame(rtc.SignalResponse(**message))
        for participant in self.participants.values():
            participant.send_frame(frame)

    def broadcast_participant(self, participant: Participant) -> None:
        """`ParticipantUpdate` at once in small rooms; in batches where everybody's every change would be n squared."""
        if participant.hidden:
            if not participant.closed:
                participant.send(update=rtc.ParticipantUpdate(participants=[participant.to_proto()]))
            return
        info = participant.to_proto()
        loop = asyncio.get_running_loop()
        if len(self.participants) <= self.settings.max_subscribers_uncoalesced:
            if participant.closed or not participant.state_budget.take(loop.time(), info.ByteSize()):
                self._stale.pop(participant.sid, None)
                self.broadcast(update=rtc.ParticipantUpdate(participants=[info]))
                return
            self.manager.limited["state"] += 1
        # The order of first changes is kept; a later change of the same participant only renews its entry.
        self._stale[participant.sid] = participant
        participant.send(update=rtc.ParticipantUpdate(participants=[info]))
        if self._flush_timer is None:
            self._flush_timer = loop.call_later(BATCH, self._flush)

    def introduce(self, participant: Participant, receiver: Participant) -> None:
        """Tell `receiver` what it was not told yet of `participant`, because media depends on it."""
        if participant.sid not in self._stale:
            return
        info = participant.to_proto()
        if participant.state_budget.take(asyncio.get_running_loop().time(), info.ByteSize()):
            # It changes too often for everybody to be told each time.
            receiver.send(update=rtc.ParticipantUpdate(participants=[info]))
        else:
            del self._stale[participant.sid]
            self.broadcast(update=rtc.ParticipantUpdate(participants=[info]))

    def visibility_changed(self, participant: Participant) -> None:
        """It was hidden or shown while in the room."""
        info = participant.to_proto()
        if participant.hidden:
            info.state = State.DISCONNECTED
        info.version += 1
        participant.version += 1
        if participant.hidden:
            self._departures.add(info)
        frame = Frame(rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=[info])))
        for other in self.participants.values():
            if other is not participant:
                other.send_frame(frame)

    def _flush(self) -> None:
        if self._flush_timer:
            self._flush_timer.cancel()
            self._flush_timer = None
        stale, self._stale = self._stale, {}
        infos = []
        now = asyncio.get_running_loop().time()
        for sid, participant in stale.items():
            info = participant.to_proto()
            if participant.closed or not participant.state_budget.take(now, info.ByteSize()):
                infos.append(info)
            else:
                self._stale[sid] = participant
        for update in _split(infos):
            self.broadcast(update=update)
        if self._stale and not self.closed:
            self._flush_timer = asyncio.get_running_loop().call_later(BATCH, self._flush)

    # --- tracks --------------------------------------------------------------------------------------------------

    def track_added(self, track: PublishedTrack) -> None:
        publisher = track.publisher
        self.manager.register_track(track)
        self.tracks[track.sid] = track
        publisher.is_publisher = True
        publisher.changed()
        self.emit("track_published", publisher, track.info)
        for participant in list(self.participants.values()):
            if participant is not publisher:
                participant.subscriptions.consider(track)

    def track_removed(self, track: PublishedTrack) -> None:
        self.manager.forget_track(track)
        self.tracks.pop(track.sid, None)
        self._speaking.pop(track.sid, None)
        if not track.publisher.closed:
            track.publisher.changed()
        self.emit("track_unpublished", track.publisher, track.info)
        for participant in list(self.participants.values()):
            participant.subscriptions.ended(track)

    def permissions_changed(self, publisher: Participant) -> None:
        """Whom a publisher lets have its tracks (`SubscriptionPermission`)."""
        for participant in list(self.participants.values()):
            if participant is not publisher:
                for track in list(publisher.tracks.values()):
                    participant.subscriptions.consider(track)

    # --- events of the native core -------------------------------------------------------------------------------

    def speakers(self, entries: Iterable[tuple[PublishedTrack, float, bool]]) -> None:
        """`SpeakersChanged` to the speaker itself and to whoever receives its audio."""
        heard: dict[str, list[models.SpeakerInfo]] = {}
        for track, level, active in entries:
            speaker = track.publisher
            info = models.SpeakerInfo(sid=speaker.sid, level=level if active else 0.0, active=active)
            if active and track.sid in self.tracks:
                self._speaking[track.sid] = info
            else:
                self._speaking.pop(track.sid, None)
            for identity in {speaker.identity, *track.subscriptions}:
                heard.setdefault(identity, []).append(info)
        for identity, speakers in heard.items():
            if participant := self.participants.get(identity):
                participant.send(speakers_changed=rtc.SpeakersChanged(speakers=speakers))

    def media_arrived(self, track: PublishedTrack, layer: int, ssrc: int, pt: int) -> None:
        before = track.sent
        if track.media_arrived(layer, ssrc, pt):
            track.publisher.changed()
        if track.sent != before:
            for participant in list(self.participants.values()):
                participant.subscriptions.codec_known(track)
        track.publisher.wanted_layers_changed(track)

    # --- life ----------------------------------------------------------------------------------------------------

    def _start_ticking(self) -> None:
        if self._tick_timer is None and not self.closed:
            self._tick_timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        if self.closed or not self.participants:
            return
        info = self.to_proto()
        counts = (info.num_participants, info.num_publishers)
        if counts != self._counts:
            self._counts = counts
            self.broadcast(room_update=rtc.RoomUpdate(room=info))
        self._quality.report()
        self._start_ticking()

    def presence_changed(self) -> None:
        """Somebody came, left or is somebody else now. Agents and recorders neither keep a room nor lengthen its time: it ends
        `empty_timeout` after it was made, or `departure_timeout` after the last one left who is there for himself."""
        if self.closed:
            return
        if any(not p.is_dependent for p in self.participants.values()):
            self._was_used = True
            self._stay_open()
        elif self._was_used and self._close_timer is None:
            self._expire_after(self.departure_timeout)

    def _expire_after(self, seconds: float) -> None:
        self._stay_open()
        self._close_timer = asyncio.get_running_loop().call_later(seconds, self.manager.room_expired, self)

    def _stay_open(self) -> None:
        if self._close_timer:
            self._close_timer.cancel()
            self._close_timer = None

    def close(
        self,
        reason: models.DisconnectReason = Reason.ROOM_CLOSED,
        action: Action = Action.DISCONNECT,
    ) -> None:
        """Send everybody away; `action` tells them whether to join again. Twice is fine."""
        if self.closed:
            return
        self.closed = True
        for participant in list(self.participants.values()):
            participant.close(reason, action=action)
        self._stay_open()
        for timer in (self._tick_timer, self._flush_timer):
            if timer:
                timer.cancel()
        self.data.close()
        self.emit("room_finished")


def _split(infos: list[models.ParticipantInfo]) -> list[rtc.ParticipantUpdate]:
    updates: list[rtc.ParticipantUpdate] = []
    size = UPDATE_BYTES
    for info in infos:
        if size >= UPDATE_BYTES:
            updates.append(rtc.ParticipantUpdate())
            size = 0
        updates[-1].participants.append(info)
        size += info.ByteSize()
    return updates
