"""One participant of a room: who it is, what it may do, how it is told things, and when it ends."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from aiohttp import WSCloseCode
from livekit.protocol import models, rtc

from . import ids
from .budgets import Bucket, DataBudget, SignalBudget
from .client_rules import client_configuration, publishable_codecs, receivable_codecs
from .connection import Frame, SignalConnection
from .join import joined_attributes
from .negotiation import Negotiation
from .permissions import Grants
from .profile import LimitExceeded, Profile
from .publishing import Publications
from .returning import ApiMutes, Will, key_of
from .subscriptions import SubscriptionSet
from .tracks import PublishedTrack
from .transport import Answerer, Offerer

if TYPE_CHECKING:
    from greenroom.api.grants import Claims

    from .auth import Auth
    from .join import Join
    from .room import Room

__all__ = ["Action", "LimitExceeded", "Participant", "Reason", "State", "is_dependent", "kind_of"]

logger = logging.getLogger(__name__)

REFRESH_INTERVAL = 300.0
RETURN_TIMEOUT = 5.0
"""Seconds that a client whose transport failed has to come back."""

KINDS = {
    "ingress": models.ParticipantInfo.Kind.INGRESS,
    "egress": models.ParticipantInfo.Kind.EGRESS,
    "sip": models.ParticipantInfo.Kind.SIP,
    "agent": models.ParticipantInfo.Kind.AGENT,
    "connector": models.ParticipantInfo.Kind.CONNECTOR,
    "bridge": models.ParticipantInfo.Kind.BRIDGE,
}
DEPENDENT = (models.ParticipantInfo.Kind.AGENT, models.ParticipantInfo.Kind.EGRESS)

State = models.ParticipantInfo.State
Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action


_BROKEN = frozenset(
    (
        Reason.UNKNOWN_REASON,
        Reason.DUPLICATE_IDENTITY,
        Reason.STATE_MISMATCH,
        Reason.MIGRATION,
        Reason.SIGNAL_CLOSE,
        Reason.CONNECTION_TIMEOUT,
        Reason.MEDIA_FAILURE,
    )
)
"""Ends that a client does not mean: it comes back with a full reconnect."""


def kind_of(claims: Claims) -> models.ParticipantInfo.Kind:
    return KINDS.get(claims.kind, models.ParticipantInfo.Kind.STANDARD)


def is_dependent(kind: int, permission: models.ParticipantPermission) -> bool:
    """Whether somebody of this kind, with these permissions, is in a room only for the sake of others."""
    return kind in DEPENDENT or permission.agent or permission.recorder


class Participant:
    """Made by `Room.join`; ends with `close`, once."""

    def __init__(self, room: Room, auth: Auth, join: Join, identity: str, connection: SignalConnection) -> None:
        self.room = room
        self.auth = auth
        self.claims = auth.claims
        self.join = join
        self.identity = identity
        self.sid = ids.new_id("PA")
        own = joined_attributes(self.claims, join)
        self.profile = Profile(self.claims.name, join.metadata or self.claims.metadata, own)
        self.grants = Grants(auth.video, publish_only=bool(join.publish_only))
        self.kind = kind_of(self.claims)
        self.kind_details = [
            cast("models.ParticipantInfo.KindDetail", models.ParticipantInfo.KindDetail.Value(name))
            for detail in self.claims.kind_details
            if (name := detail.upper()) in models.ParticipantInfo.KindDetail.keys()
        ]
        self.configuration = client_configuration(join.client)
        self.receivable = receivable_codecs(room.settings.enabled_codecs, self.configuration)
        self.publishable = publishable_codecs(room.settings.enabled_codecs, self.configuration)
        self.state = State.JOINING
        self.version = 0
        self.joined_at = time.time()
        self.is_publisher = False
        self.was_active = False
        self.disconnect_reason = Reason.UNKNOWN_REASON
        rates = room.settings.rates
        self.signal_budget = SignalBudget(rates)
        """For all its signalling connections: who comes back does not begin anew."""
        self.data_budget = DataBudget(rates)
        self.state_budget = Bucket(rates.state_bytes)
        """What others are told about it."""
        self.data_tracks: dict[int, models.DataTrackInfo] = {}
        """Published data tracks by their publisher handle."""
        self.publications = Publications(self)
        self.subscriptions = SubscriptionSet(self, join.auto_subscribe)
        self.heard_at = asyncio.get_running_loop().time()
        """When its last message came: what was sent to it since then is perhaps lost."""
        self.away_since = self.heard_at
        """`heard_at` as it was before the last resume."""
        self._api_mutes = ApiMutes()
        self.drop_signal_on_resume = ""
        """Set by `SimulateScenario`: "after" or "before" the messages of the next resume."""
        self.resumable = True
        """False once there is nothing left to come back to: the client has to join anew."""
        self._connection: SignalConnection | None = connection
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        self.negotiation = Negotiation(self, single=join.single)

    # --- what others see -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def metadata(self) -> str:
        return self.profile.metadata

    @property
    def attributes(self) -> Mapping[str, str]:
        return self.profile.attributes

    @property
    def tracks(self) -> dict[str, PublishedTrack]:
        return self.publications.tracks

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def permission(self) -> models.ParticipantPermission:
        """What it may do, as everybody is shown it."""
        return self.grants.permission

    @property
    def broke(self) -> bool:
        """Its session ended in a way that the client did not mean: it is expected back."""
        return self._closed and self.disconnect_reason in _BROKEN

    @property
    def hidden(self) -> bool:
        return self.permission.hidden

    @property
    def is_dependent(self) -> bool:
        """Does not keep a room alive and takes no place in it: agents and recorders."""
        return is_dependent(self.kind, self.permission)

    @property
    def protocol(self) -> int:
        return self.join.client.protocol

    @property
    def wants_synced_streams(self) -> bool:
        """Firefox cannot have several tracks come and go in one stream, and old clients expect one a track."""
        room = self.room
        wanted = room.request.sync_streams or room.settings.sync_streams
        return wanted and self.protocol > 9 and self.join.client.browser != "firefox"

    @property
    def publisher_pc(self) -> Answerer:
        return self.negotiation.publisher

    @property
    def subscriber_pc(self) -> Offerer | None:
        return self.negotiation.subscriber

    @property
    def downlink(self) -> Answerer | Offerer:
        return self.negotiation.downlink

    @property
    def primary(self) -> Answerer | Offerer:
        return self.negotiation.primary

    def to_proto(self) -> models.ParticipantInfo:
        return models.ParticipantInfo(
            sid=self.sid,
            identity=self.identity,
            state=self.state,
            tracks=[track.info for track in self.tracks.values()],
            metadata=self.metadata,
            joined_at=int(self.joined_at),
            joined_at_ms=int(self.joined_at * 1000),
            name=self.name,
            version=self.version,
            permission=self.permission,
            region=self.room.settings.region,
            is_publisher=self.is_publisher,
            kind=self.kind,
            attributes=self.attributes,
            disconnect_reason=self.disconnect_reason,
            kind_details=self.kind_details,
            data_tracks=self.data_tracks.values(),
            client_protocol=self.join.client.client_protocol,
            capabilities=self.join.client.capabilities,
        )

    def changed(self) -> None:
        """Tell everybody the new `ParticipantInfo`."""
        self.version += 1
        self.room.broadcast_participant(self)

    # --- signalling ----------------------------------------------------------------------------------------------

    @property
    def connected_signal(self) -> bool:
        return self._connection is not None

    def send(self, **message: Any) -> None:
        """Send a `SignalResponse` with this one field; dropped while the socket is away (a resume sends state anew)."""
        if self._connection:
            self._connection.send(Frame(rtc.SignalResponse(**message)))

    def send_frame(self, frame: Frame) -> None:
        if self._connection:
            self._connection.send(frame)

    def request_response(
        self, reason: rtc.RequestResponse.Reason, message: str = "", request_id: int = 0, **request: Any
    ) -> None:
        """`RequestResponse`; success is told only to clients that know it (protocol > 14)."""
        if reason != rtc.RequestResponse.Reason.OK or self.protocol > 14:
            self.send(
                request_response=rtc.RequestResponse(reason=reason, message=message, request_id=request_id, **request)
            )

    def send_leave(self, reason: models.DisconnectReason, action: Action) -> None:
        self.send(
            leave=rtc.LeaveRequest(
                reason=reason, action=action, can_reconnect=self.protocol <= 12 and action != Action.DISCONNECT
            )
        )

    def refresh_token(self) -> None:
        """A token with the current claims, now and again before the old one ends."""
        claims = copy.copy(self.auth.claims)
        claims.name, claims.metadata, claims.attributes = self.name, self.metadata, dict(self.attributes)
        claims.video = self.grants.token(self.room.name)
        self.send(refresh_token=self.room.sign(claims))
        self.set_timer("token", REFRESH_INTERVAL, self.refresh_token)

    def attach(self, connection: SignalConnection) -> None:
        """A resumed session has a new socket."""
        if self._connection:
            self._connection.abort()
        self._connection = connection
        self.away_since = self.heard_at
        self.cancel_timer("return")
        if self.was_active and not self.primary.connected:
            # It came back because its media was lost: that has to come back too.
            self.set_timer("return", self.room.settings.join_timeout, self.close, Reason.CONNECTION_TIMEOUT)

    def signal_lost(self, connection: SignalConnection) -> None:
        """The socket ended without `leave`: the media decides."""
        if self._connection is not connection:
            return
        self._connection = None
        self.cancel_timer("token")
        if not self._closed and not self.was_active:
            self.close(Reason.SIGNAL_CLOSE)
        elif not self._closed and not self.primary.connected:
            self.set_timer("return", RETURN_TIMEOUT, self.close, Reason.SIGNAL_CLOSE)

    def drop_signal(self, *, flush: bool = False) -> None:
        """End the socket without a farewell, as a broken network would. `flush`: after what was sent."""
        if self._connection and flush:
            self._connection.close(WSCloseCode.GOING_AWAY)
        elif self._connection:
            self._connection.abort()

    # --- transport events ----------------------------------------------------------------------------------------

    def peer_connected(self, number: int) -> None:
        self.negotiation.set_connected(number, True)
        if self.primary.connected:
            self.cancel_timer("return")
            self.cancel_timer("join")
            if self.state != State.ACTIVE:
                self.state = State.ACTIVE
                self.was_active = True
                self.changed()
                self.room.emit("participant_active", self)

    def peer_lost(self, number: int, *, resumable: bool) -> None:
        """Media is gone: ask the client to come back, and wait for it a little while."""
        self.negotiation.set_connected(number, False)
        if self.primary.number != number and resumable:
            return
        if not self.connected_signal:
            self.close(Reason.CONNECTION_TIMEOUT)
            return
        self.resumable = self.resumable and resumable
        self._send_back(Reason.CONNECTION_TIMEOUT, Action.RESUME if resumable else Action.RECONNECT)

    def media_lost(self) -> None:
        """The core forgot the peer connections: there is nothing to resume, so the client joins anew."""
        self.resumable = False
        self.room.forget_peers(self)
        self.negotiation.lose()
        if self.connected_signal:
            self._send_back(Reason.STATE_MISMATCH, Action.RECONNECT)
        else:
            self.close(Reason.CONNECTION_TIMEOUT)

    def _send_back(self, reason: models.DisconnectReason, action: Action) -> None:
        self.send_leave(reason, action)
        if self._connection:
            self._connection.close()
        self.set_timer("return", RETURN_TIMEOUT, self.close, Reason.CONNECTION_TIMEOUT)

    # --- permissions and attributes ------------------------------------------------------------------------------

    def may_publish(self, source: models.TrackSource) -> bool:
        return self.grants.may_publish(source)

    def allows(self, subscriber: Participant, sid: str) -> bool:
        return self.publications.allows(subscriber, sid)

    def wanted_layers_changed(self, track: PublishedTrack) -> None:
        self.publications.wanted_layers_changed(track)

    def track_was_subscribed(self, track: PublishedTrack) -> None:
        self.publications.was_subscribed(track)

    def update(
        self,
        *,
        name: str | None = None,
        metadata: str | None = None,
        attributes: Mapping[str, str] | None = None,
        permission: models.ParticipantPermission | None = None,
    ) -> None:
        """Change what is given. An attribute with an empty value goes. Raises LimitExceeded and then changes nothing."""
        self.profile.change(self.room.settings, name=name, metadata=metadata, attributes=attributes)
        if permission is not None:
            self._set_permission(permission)
            self.room.presence_changed()
        self.changed()
        self.refresh_token()

    def update_by_client(self, request: rtc.UpdateParticipantMetadata) -> None:
        """The client's own `UpdateParticipantMetadata`; empty name and metadata mean: not this one. Raises LimitExceeded."""
        meant = self.profile.meant(request, asyncio.get_running_loop().time())
        self.update(name=meant["name"], metadata=meant["metadata"], attributes=dict(request.attributes))

    def update_by_api(self, **changes: Any) -> None:
        """`update` by somebody else than the client, which does not know of it yet."""
        before = self.profile.own()
        self.update(**changes)
        self.profile.replaced(before, asyncio.get_running_loop().time())

    def _set_permission(self, permission: models.ParticipantPermission) -> None:
        was_hidden = self.permission.hidden
        if not self.grants.update(permission):
            return
        self.publications.withdraw_forbidden()
        if not permission.can_publish_data:
            self.room.data.tracks.withdraw(self)
        if not permission.can_publish:
            self.is_publisher = False
        self.negotiation.receivers_changed()
        self.subscriptions.reconcile()
        self.room.data.tracks.reconcile(self)
        if was_hidden != permission.hidden:
            self.room.visibility_changed(self)

    def set_muted(self, sid: str, muted: bool) -> None:
        """The client's own `MuteTrackRequest`."""
        if self.publications.set_muted(sid, muted):
            self.changed()

    def mute_track(self, track_sid: str, muted: bool) -> models.TrackInfo:
        """Mute for the client. LookupError for an unknown track, PermissionError for an unmute that is switched off."""
        info = self.publications.info(track_sid)
        if not muted and not self.room.settings.enable_remote_unmute:
            raise PermissionError("remote unmute not enabled")
        if info.muted != muted:
            self._api_mutes.add(track_sid, muted, asyncio.get_running_loop().time(), self.tracks)
            self.send(mute=rtc.MuteTrackRequest(sid=track_sid, muted=muted))
            self.set_muted(track_sid, muted)
        return info

    def send_missed_mutes(self) -> None:
        """After a resume: the API's mutes that the client perhaps never heard of."""
        for sid, muted in self._api_mutes.since(self.away_since).items():
            if sid in self.tracks:
                self.send(mute=rtc.MuteTrackRequest(sid=sid, muted=muted))

    def update_subscriptions(
        self,
        track_sids: Iterable[str],
        subscribe: bool,
        participant_tracks: Iterable[models.ParticipantTracks] = (),
        *,
        by_api: bool = False,
    ) -> None:
        sids = dict.fromkeys(track_sids)
        for entry in participant_tracks:
            sids |= dict.fromkeys(entry.track_sids)
        self.subscriptions.update(sids, subscribe, by_api=by_api)

    # --- life ----------------------------------------------------------------------------------------------------

    def _will(self) -> Will:
        allowed, sids = self.publications.bequeath()
        unheard = {sid for sid, muted in self._api_mutes.since(self.heard_at).items() if muted}
        return Will(
            allowed=allowed,
            sids=sids,
            name=self.name,
            metadata=self.metadata,
            attributes=dict(self.attributes),
            permission=self.permission,
            changed_at=self.profile.changed_at,
            muted={key_of(track.info) for sid, track in self.tracks.items() if sid in unheard and track.info.muted},
        )

    def inherit(self, will: Will) -> None:
        """Go on from the session of this identity that broke. Its token may be older than the last change: then the client
        never heard of that."""
        self.publications.inherit(will)
        if will.changed_at and will.changed_at >= self.claims.issued:
            self.profile = Profile(will.name, will.metadata, will.attributes)
            self.profile.changed_at = will.changed_at
            self.grants.update(will.permission)

    def set_timer(self, name: str, delay: float, callback: Any, *args: Any) -> None:
        """One named timer; setting it again replaces it. All end with the participant."""
        self.cancel_timer(name)
        if not self._closed:
            self._timers[name] = asyncio.get_running_loop().call_later(delay, callback, *args)

    def cancel_timer(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()

    def close(
        self,
        reason: models.DisconnectReason,
        *,
        action: Action = Action.DISCONNECT,
        leave: bool = True,
        code: int = WSCloseCode.OK,
        text: str = "",
    ) -> None:
        """Leave the room. `action`: whether to come back; `leave`: tell the client so at all. `code`, `text`: how the
        socket is closed, and why in words. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self.disconnect_reason = reason
        if action == Action.DISCONNECT and leave:
            self.room.manager.endings.add(self.sid, reason, asyncio.get_running_loop().time())
        self.room.manager.before_leaving(self)
        for name in list(self._timers):
            self.cancel_timer(name)
        if leave:
            self.send_leave(reason, action)
        if self._connection:
            self._connection.close(code, text)
            self._connection = None
        if reason in _BROKEN:
            self.room.wills.leave(self.identity, self._will())
        self.subscriptions.close()
        self.publications.close()
        self.negotiation.close()
        self.state = State.DISCONNECTED
        self.room.participant_closed(self)
