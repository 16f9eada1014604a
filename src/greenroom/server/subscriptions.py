"""Who receives what: the wish is kept, and reality is brought to it.

`SubscriptionSet.reconcile` is called after anything that may matter (a join, a publication, a permission, a request) and
compares what one participant should receive with what it receives. A track that is not there yet, a permission
that comes late, a resumed session are then all the same case.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from livekit.protocol import models, rtc

from . import ids
from .bounds import MAX_NAMED, MAX_SID, MAX_SUBSCRIPTIONS
from .media import Codec, Sender
from .returning import TrackKey, key_of
from .sdp import Outgoing
from .tracks import PublishedTrack

if TYPE_CHECKING:
    from .participant import Participant

__all__ = ["Subscription", "SubscriptionSet", "TrackSettings"]

NOT_FOUND_AFTER = 60.0
"""Seconds that a wanted track may be unknown before `SubscriptionResponse{SE_TRACK_NOTFOUND}`."""


@dataclass(slots=True)
class TrackSettings:
    """`UpdateTrackSettings` of one subscriber for one track."""

    disabled: bool = False
    quality: int = models.VideoQuality.HIGH
    width: int = 0
    height: int = 0
    fps: int = 0
    priority: int = 0

    def layer(self, info: models.TrackInfo) -> int:
        """The highest spatial layer worth sending: dimensions win over quality."""
        layers = sorted(info.layers, key=lambda layer: layer.spatial_layer)
        if self.width and self.height and len(layers) > 1:
            for layer in layers:
                if layer.width >= self.width and layer.height >= self.height:
                    return layer.spatial_layer
            return layers[-1].spatial_layer
        if self.quality == models.VideoQuality.OFF:
            return 0
        return min(self.quality, 2)


@dataclass(eq=False, slots=True)
class Subscription:
    """One track on its way to one subscriber."""

    track: PublishedTrack
    stream_id: str
    ssrc: int
    rtx_ssrc: int
    settings: TrackSettings
    bound: bool = False
    """The client has agreed to a section for it."""

    def outgoing(self) -> Outgoing:
        return Outgoing(self.stream_id, self.track.sid, self.track.publisher.sid, self.ssrc, self.rtx_ssrc)

    def sender(self, mid: str, codecs: tuple[Codec, ...], extensions: Mapping[int, str]) -> Sender:
        return Sender(
            mid=mid,
            track=self.track.number,
            kind=self.track.kind,
            ssrc=self.ssrc,
            rtx_ssrc=self.rtx_ssrc,
            codecs=codecs,
            extensions={uri: number for number, uri in extensions.items()},
            paused=self.settings.disabled,
            max_layer=self.settings.layer(self.track.info) if self.track.kind == "video" else 0,
            stream=self.track.publisher.sid,
        )


@dataclass(slots=True)
class Wish:
    """An explicit `UpdateSubscription` for one track."""

    subscribe: bool
    imposed_at: float = 0.0
    """When the API asked for it; 0 when the subscriber itself did."""
    timer: asyncio.TimerHandle | None = None
    """Runs while the track is unknown."""


@dataclass(eq=False, slots=True)
class SubscriptionSet:
    """What one participant should receive, and receives."""

    subscriber: Participant
    auto_subscribe: bool
    active: dict[str, Subscription] = field(default_factory=dict)
    """By track sid."""
    _wishes: dict[str, Wish] = field(default_factory=dict)
    _settings: dict[str, TrackSettings] = field(default_factory=dict)
    _denied: set[str] = field(default_factory=set)
    """Tracks that we told the subscriber it may not have."""
    _refused: set[str] = field(default_factory=set)
    """Tracks whose codec the client cannot take."""
    _pending: dict[str, PublishedTrack] = field(default_factory=dict)
    """Tracks that wait for others to end, by sid: the participant receives as many as it may."""
    _filling: asyncio.Handle | None = None
    _lasting: dict[tuple[str, TrackKey], tuple[Wish | None, TrackSettings | None]] = field(default_factory=dict)
    """What was asked of tracks whose publisher's session broke, by its identity: they come back under new sids."""

    def update(self, track_sids: Iterable[str], subscribe: bool, *, by_api: bool = False) -> None:
        """`UpdateSubscription`: wish for tracks, known or not."""
        imposed_at = asyncio.get_running_loop().time() if by_api else 0.0
        tracks = self.subscriber.room.tracks
        for sid in track_sids:
            if len(sid) > MAX_SID or not self._has_place(self._wishes, sid):
                continue
            self._end_wait(sid)
            self._wishes[sid] = Wish(subscribe, imposed_at=imposed_at)
            self._refused.discard(sid)
            track = tracks.get(sid)
            if track is None:
                self._wait_for(sid)
            elif track.publisher is not self.subscriber:
                self.consider(track)

    def imposed_since(self, sid: str, time: float) -> bool:
        """Whether the API decided about the track after `time`."""
        wish = self._wishes.get(sid)
        return wish is not None and wish.imposed_at >= max(time, 1e-9)

    def _has_place(self, table: dict[str, Any], sid: str) -> bool:
        """Whether one more track may be named. Those that do not exist make room for it."""
        if sid in table or len(table) < MAX_NAMED:
            return True
        for gone in table.keys() - self.subscriber.room.tracks.keys():
            if table is self._wishes:
                self._end_wait(gone)
            del table[gone]
        return len(table) < MAX_NAMED

    def set_settings(self, request: rtc.UpdateTrackSettings) -> None:
        settings = TrackSettings(
            disabled=request.disabled,
            quality=request.quality,
            width=request.width,
            height=request.height,
            fps=request.fps,
            priority=request.priority,
        )
        changed = False
        for sid in request.track_sids:
            if len(sid) <= MAX_SID and self._has_place(self._settings, sid):
                self._settings[sid] = settings
            subscription = self.active.get(sid)
            if subscription and subscription.settings != settings:
                changed = True
                subscription.settings = settings
                subscription.track.publisher.wanted_layers_changed(subscription.track)
        if changed:
            self.subscriber.downlink.update_senders()

    def disable(self, track_sids: Iterable[str]) -> None:
        """`SyncState.track_sids_disabled`."""
        for sid in track_sids:
            settings = dataclasses.replace(self._settings.get(sid) or self._default_settings(), disabled=True)
            if len(sid) <= MAX_SID and self._has_place(self._settings, sid):
                self._settings[sid] = settings
            if subscription := self.active.get(sid):
                subscription.settings = settings
        self.subscriber.downlink.update_senders()

    def wants(self, sid: str) -> bool:
        wish = self._wishes.get(sid)
        return wish.subscribe if wish else self.auto_subscribe

    def reconcile(self) -> None:
        """Bring reality to the wish, for all tracks."""
        subscriber = self.subscriber
        if subscriber.closed:
            return
        available = {
            track.sid: track
            for publisher in subscriber.room.participants.values()
            if publisher is not subscriber
            for track in publisher.tracks.values()
        }
        for subscription in [sub for sid, sub in self.active.items() if sid not in available]:
            self._remove(subscription)
        for track in available.values():
            self.consider(track)
        for sid in self._wishes.keys() - available.keys():
            self._wait_for(sid)

    def consider(self, track: PublishedTrack) -> None:
        """Bring reality to the wish, for a track that is published."""
        subscriber = self.subscriber
        if subscriber.closed:
            return
        sid = track.sid
        self._end_wait(sid)
        if self._lasting:
            self._remember(track)
        wanted = self.wants(sid) and sid not in self._refused and subscriber.permission.can_subscribe
        allowed = track.publisher.allows(subscriber, sid)
        subscription = self.active.get(sid)
        if subscription is not None and not (wanted and allowed):
            self._remove(subscription)
        if wanted and not allowed:
            self._tell_permission(track, allowed=False)
        elif wanted and subscription is None:
            if self._may_have_more(track.kind):
                self._pending.pop(sid, None)
                self._add(track)
            elif sid not in self._pending:
                self._pending[sid] = track
                subscriber.room.manager.limited["subscriptions"] += 1
        else:
            self._pending.pop(sid, None)

    def _may_have_more(self, kind: str) -> bool:
        settings = self.subscriber.room.settings
        limit = settings.subscription_limit_audio if kind == "audio" else settings.subscription_limit_video
        if len(self.active) >= MAX_SUBSCRIPTIONS:
            return False
        return not limit or sum(sub.track.kind == kind for sub in self.active.values()) < limit

    def _fill(self) -> None:
        """A track ended: others that wait may come, those that waited longest first."""
        self._filling = None
        for track in list(self._pending.values()):
            if self._may_have_more(track.kind):
                self.consider(track)

    def _remember(self, track: PublishedTrack) -> None:
        wish, settings = self._lasting.pop((track.publisher.identity, key_of(track.info)), (None, None))
        if wish is not None and track.sid not in self._wishes and self._has_place(self._wishes, track.sid):
            self._wishes[track.sid] = Wish(wish.subscribe, imposed_at=wish.imposed_at)
        if settings is not None and track.sid not in self._settings and self._has_place(self._settings, track.sid):
            self._settings[track.sid] = settings

    def ended(self, track: PublishedTrack) -> None:
        """The track is gone, and its id never comes back."""
        sid = track.sid
        asked = self._wishes.get(sid), self._settings.get(sid)
        if track.publisher.broke and asked != (None, None) and len(self._lasting) < MAX_NAMED:
            self._lasting[track.publisher.identity, key_of(track.info)] = asked
        if subscription := self.active.get(sid):
            self._remove(subscription)
        self._end_wait(sid)
        self._wishes.pop(sid, None)
        self._settings.pop(sid, None)
        self._pending.pop(sid, None)
        self._denied.discard(sid)
        self._refused.discard(sid)

    def bound(self, subscriptions: Iterable[Subscription]) -> None:
        """The client has agreed to receive these."""
        for subscription in subscriptions:
            subscription.bound = True
            subscription.track.publisher.track_was_subscribed(subscription.track)

    def refused(self, subscriptions: Iterable[Subscription]) -> None:
        """The client has no codec for these."""
        for subscription in subscriptions:
            sid = subscription.track.sid
            self._refused.add(sid)
            self._remove(subscription)
            self.subscriber.send(
                subscription_response=rtc.SubscriptionResponse(
                    track_sid=sid, err=models.SubscriptionError.SE_CODEC_UNSUPPORTED
                )
            )

    def codec_known(self, track: PublishedTrack) -> None:
        """What the publisher sends turned out to be something else: what was decided by the codec is decided again."""
        subscription = self.active.get(track.sid)
        if track.sid in self._refused:
            self._refused.discard(track.sid)
            self.consider(track)
        elif subscription is not None and not self.subscriber.downlink.can_send(subscription):
            self.refused([subscription])

    def close(self) -> None:
        for sid in self._wishes:
            self._end_wait(sid)
        if self._filling:
            self._filling.cancel()
            self._filling = None
        self._pending.clear()
        for subscription in list(self.active.values()):
            self._detach(subscription)
        self.active.clear()

    def _default_settings(self) -> TrackSettings:
        low = self.subscriber.join.adaptive_stream
        return TrackSettings(quality=models.VideoQuality.LOW if low else models.VideoQuality.HIGH)

    def _add(self, track: PublishedTrack) -> None:
        downlink = self.subscriber.downlink
        settings = self._settings.get(track.sid)
        if settings is None:
            settings = self._default_settings()
        subscription = Subscription(
            track=track,
            stream_id=track.stream_id(sync=self.subscriber.wants_synced_streams),
            ssrc=ids.new_ssrc(downlink.ssrcs),
            rtx_ssrc=ids.new_ssrc(downlink.ssrcs) if track.kind == "video" else 0,
            settings=settings,
        )
        self.active[track.sid] = subscription
        track.subscriptions[self.subscriber.identity] = subscription
        # What is sent must be known first: clients drop the media of a stranger.
        self.subscriber.room.introduce(track.publisher, self.subscriber)
        self._tell_permission(track, allowed=True)
        downlink.add(subscription)
        track.publisher.wanted_layers_changed(track)

    def _remove(self, subscription: Subscription) -> None:
        self.active.pop(subscription.track.sid, None)
        self._detach(subscription)
        self.subscriber.downlink.remove(subscription)
        self.subscriber.downlink.ssrcs.difference_update((subscription.ssrc, subscription.rtx_ssrc))
        if self._pending and self._filling is None:
            self._filling = asyncio.get_running_loop().call_soon(self._fill)

    def _detach(self, subscription: Subscription) -> None:
        track = subscription.track
        if track.subscriptions.get(self.subscriber.identity) is subscription:
            del track.subscriptions[self.subscriber.identity]
        track.publisher.wanted_layers_changed(track)

    def _tell_permission(self, track: PublishedTrack, *, allowed: bool) -> None:
        if allowed:
            self._denied.discard(track.sid)
        elif track.sid in self._denied:
            return
        else:
            self._denied.add(track.sid)
        self.subscriber.send(
            subscription_permission_update=rtc.SubscriptionPermissionUpdate(
                participant_sid=track.publisher.sid, track_sid=track.sid, allowed=allowed
            )
        )

    def _wait_for(self, sid: str) -> None:
        """A wish for a track that is not there is kept for a while."""
        wish = self._wishes[sid]
        if wish.timer is None:
            wish.timer = asyncio.get_running_loop().call_later(NOT_FOUND_AFTER, self._not_found, sid)

    def _not_found(self, sid: str) -> None:
        wish = self._wishes.pop(sid, None)
        if wish and wish.subscribe:
            self.subscriber.send(
                subscription_response=rtc.SubscriptionResponse(
                    track_sid=sid, err=models.SubscriptionError.SE_TRACK_NOTFOUND
                )
            )

    def _end_wait(self, sid: str) -> None:
        wish = self._wishes.get(sid)
        if wish and wish.timer:
            wish.timer.cancel()
            wish.timer = None
