"""Publishing our tracks, and publishing them again after a full reconnect."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc as proto

from .errors import ConnectError, PublishTrackError, UnpublishTrackError
from .log import logger
from .messages import ParticipantTrackPermission, TrackPublishOptions
from .publishing import add_track_request
from .sending import send_track
from .track import LocalAudioTrack, LocalTrack, LocalTrackCore, LocalVideoTrack, local_core
from .track_publication import LocalPublicationCore
from .transport import Transport

if TYPE_CHECKING:
    from .local_participant import LocalParticipant
    from .room_core import RoomCore

PUBLISH_TIMEOUT = 10.0


class TrackPublisher:
    """What we publish, who may subscribe to it, and how it is published again."""

    def __init__(
        self, room: RoomCore, participant: LocalParticipant, publications: dict[str, LocalPublicationCore]
    ) -> None:
        self._room = room
        self._participant = participant
        self._publications = publications
        self._options: dict[str, TrackPublishOptions] = {}
        """By track cid: how to publish it again after a full reconnect."""
        self._cids: dict[LocalTrack, str] = {}
        self._former_sids: dict[str, LocalPublicationCore] = {}
        """Sids from before a full reconnect: what the program still holds of them means the track as it is now."""
        self._permissions: tuple[bool, list[ParticipantTrackPermission]] | None = None
        """What `set_permissions` was told. None: nothing, so everybody may subscribe."""

    async def publish(self, track: LocalTrack, options: TrackPublishOptions | None) -> LocalPublicationCore:
        """As `LocalParticipant.publish_track`."""
        if track in self._cids:
            raise PublishTrackError(f"{track!r} is published already")
        if isinstance(track, LocalAudioTrack | LocalVideoTrack) and not isinstance(
            local_core(track).transport, Transport | None
        ):
            raise PublishTrackError(f"{track!r} is sent by a peer connection")
        kept = TrackPublishOptions()
        if options is not None:
            kept.CopyFrom(options)
        cid = str(uuid.uuid4())
        self._cids[track] = cid
        self._options[cid] = kept
        try:
            info = await self._publish(track, cid, kept)
        except BaseException:
            self._forget(track)
            raise
        publication = LocalPublicationCore(info, track)
        self._publications[info.sid] = publication
        if self._room.state.take_early_subscription(info.sid):
            publication.subscribed.set()
        self._room.emit("local_track_published", publication.view, track)
        return publication

    async def _publish(
        self, track: LocalTrack, cid: str, options: TrackPublishOptions, again: LocalPublicationCore | None = None
    ) -> models.TrackInfo:
        """`again`: the publication whose track it is, after a full reconnect."""
        session = self._room.session
        if session is None or session.closed or session.publisher is None:
            raise PublishTrackError("cannot publish: the room is not connected")
        key = ("track", cid)
        answer = session.expect(key)
        session.send(proto.SignalRequest(add_track=add_track_request(track, cid, options)))
        transport, mid = None, ""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                info: models.TrackInfo = await answer
                if again is not None:
                    # Before there is any media: a permission for this track names its sid.
                    again.info = info
                    self.send_permissions()
                transport = session.publisher
                if transport is None:
                    raise PublishTrackError("cannot publish: the room was disconnected")
                if not isinstance(track, LocalAudioTrack | LocalVideoTrack):
                    raise PublishTrackError(f"{track!r} is not a local track")
                mid = send_track(transport, track, cid, options, unset=True)
                session.publisher_offered = True
                await transport.negotiate()
        except BaseException as error:
            if mid and transport is not None and not transport.closed:
                # Cancelled or given up half way: nothing may go on sending that nobody here holds.
                transport.peer.remove_send(mid)
                transport.sections.pop(mid, None)
                transport.negotiate()
            if isinstance(error, TimeoutError):
                raise PublishTrackError(f"the server did not answer within {PUBLISH_TIMEOUT:g} s") from None
            if isinstance(error, ConnectError):
                raise PublishTrackError(f"cannot publish {track.name!r}: {error.message}") from None
            raise
        finally:
            session.forget(key)
        core = local_core(track)
        core.connect(transport, mid)
        core.sid = info.sid
        core.publisher = self
        core.apply_mute()
        if core.muted != info.muted:
            # It was muted or unmuted while the request was under way.
            self.send_mute(info.sid, core.muted)
            info.muted = core.muted
        return info

    def unpublish(self, track_sid: str) -> None:
        """UnpublishTrackError when there is no such publication."""
        # While it is being published again it has its new sid and its old place.
        key = next((key for key, kept in self._publications.items() if kept.sid == track_sid), None)
        publication = self._publications.pop(key or self.current_sid(track_sid), None)
        if publication is None:
            raise UnpublishTrackError(f"there is no published track {track_sid!r}")
        track = publication.track
        if track is not None:
            self._forget(track)
            self._withdraw(track)
        self._room.emit("local_track_unpublished", publication.view)
        publication.track = None

    @staticmethod
    def _withdraw(track: LocalTrack) -> None:
        core = local_core(track)
        transport, mid = core.transport, core.mid
        core.disconnect()
        if isinstance(transport, Transport) and not transport.closed:
            transport.peer.remove_send(mid)
            transport.negotiate()

    def _forget(self, track: LocalTrack) -> None:
        self._options.pop(self._cids.pop(track, ""), None)

    async def republish(self) -> None:
        """After a full reconnect: all tracks anew, under new sids, their publications kept."""
        for previous_sid, publication in list(self._publications.items()):
            track = publication.track
            if track is None:
                continue
            cid = str(uuid.uuid4())
            options = self._options.pop(self._cids[track])
            self._cids[track], self._options[cid] = cid, options
            try:
                publication.info = await self._publish(track, cid, options, publication)
            except PublishTrackError as error:
                logger.error("%r is not published any more: %s", track, error)
                self._forget(track)
                local_core(track).disconnect()
                del self._publications[previous_sid]
                self._room.emit("local_track_unpublished", publication.view)
                continue
            if self._publications.pop(previous_sid, None) is None:
                # The program unpublished it meanwhile.
                self._forget(track)
                self._withdraw(track)
                continue
            self._publications[publication.sid] = publication
            self._former_sids = {
                sid: former for sid, former in self._former_sids.items() if former.sid in self._publications
            }
            self._former_sids[previous_sid] = publication
            if self._room.state.take_early_subscription(publication.sid):
                publication.subscribed.set()
            self._room.emit("local_track_republished", publication.view, previous_sid)

    def current_sid(self, sid: str) -> str:
        """The sid of now for one from before a full reconnect."""
        former = self._former_sids.get(sid)
        return former.sid if former is not None and sid not in self._publications else sid

    def room_left(self) -> None:
        """The publications stay readable; the tracks may be published elsewhere."""
        for track in self._cids:
            local_core(track).disconnect()
        self._cids.clear()
        self._options.clear()
        self._former_sids.clear()
        self._permissions = None

    def track_muted(self, track: LocalTrackCore, muted: bool) -> None:
        """Our own `mute` or `unmute`: tell the server and the program."""
        publication = self._publications.get(track.sid)
        if publication is None:
            return
        self.send_mute(track.sid, muted)
        publication.info.muted = muted
        self._room.emit("track_muted" if muted else "track_unmuted", self._participant, publication.view)

    def send_mute(self, sid: str, muted: bool) -> None:
        if self._room.session is not None:
            self._room.session.send(proto.SignalRequest(mute=proto.MuteTrackRequest(sid=sid, muted=muted)))

    def set_permissions(self, allow_all: bool, entries: list[ParticipantTrackPermission]) -> None:
        """As `LocalParticipant.set_track_subscription_permissions`."""
        kept = []
        for permission in entries:
            copy = ParticipantTrackPermission()
            copy.CopyFrom(permission)
            kept.append(copy)
        self._permissions = (allow_all, kept)
        self.send_permissions()

    def send_permissions(self) -> None:
        if self._permissions is None or self._room.session is None:
            return
        allow_all, entries = self._permissions
        for entry in entries:
            entry.allowed_track_sids = [self._named_sid(sid) for sid in entry.allowed_track_sids]
        permissions = [
            proto.TrackPermission(
                participant_identity=p.participant_identity, all_tracks=p.allow_all, track_sids=p.allowed_track_sids
            )
            for p in entries
        ]
        self._room.session.send(
            proto.SignalRequest(
                subscription_permission=proto.SubscriptionPermission(
                    all_participants=allow_all, track_permissions=permissions
                )
            )
        )

    def _named_sid(self, sid: str) -> str:
        """The sid of now, also while the track is being published again."""
        publication = self._publications.get(sid)
        return publication.sid if publication is not None else self.current_sid(sid)

    def published(self) -> list[proto.TrackPublishedResponse]:
        """For `SyncState`."""
        return [
            proto.TrackPublishedResponse(cid=self._cids[publication.track], track=publication.info)
            for publication in self._publications.values()
            if publication.track is not None
        ]
