"""What one participant publishes: requests, their media sections, mute, permissions, layers in demand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc

from .bounds import (
    MAX_LAYERS,
    MAX_PENDING,
    MAX_PERMISSIONS,
    MAX_PUBLICATIONS,
    MAX_STATE,
    MAX_TRACK_REQUEST,
)
from .returning import Permissions, TrackKey, Will, key_of
from .sdp import MediaSection, PublishOptions, SessionDescription
from .tracks import PendingTrack, PublishedTrack, pending_track, publish_options

if TYPE_CHECKING:
    from .participant import Participant

__all__ = ["Publications"]

PAUSE_DELAY = 5.0
"""Seconds before the publisher is told that a layer is no longer wanted (`dynacast_pause_delay`)."""
NOBODY_DELAY = 10.0
"""Seconds after the publication in which somebody may still subscribe before all layers are switched off."""

Sections = Mapping[str, tuple[MediaSection, MediaSection]]


class Publications:
    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self.tracks: dict[str, PublishedTrack] = {}
        """By sid."""
        self._pending: list[PendingTrack] = []
        self._unmatched: dict[str, tuple[MediaSection, MediaSection]] = {}
        """Sections (mid to offered, answered) whose `AddTrackRequest` has not come yet: the offer may be first."""
        self._allowed: Permissions | None = None
        """None: everybody may have its tracks."""
        self._inherited: dict[str, TrackKey] = {}
        """Track sids in `_allowed` that are of the session before, which broke: the tracks come back under new ones."""
        self._to_mute: set[TrackKey] = set()
        """Tracks that were muted by the API when the session before broke."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, request: rtc.AddTrackRequest) -> None:
        """`AddTrackRequest`: answered with `TrackPublishedResponse`, or refused with a `RequestResponse`."""
        participant = self._participant
        refusal = self._refusal(request)
        if refusal is not None:
            participant.request_response(refusal, add_track=request)
            return
        if request.sid and (track := self.tracks.get(request.sid)):
            # A backup codec of a published track: nobody needs it as long as everybody decodes the first.
            participant.send(track_published=rtc.TrackPublishedResponse(cid=request.cid, track=track.info))
            return
        pending = pending_track(request)
        self._pending.append(pending)
        participant.send(track_published=rtc.TrackPublishedResponse(cid=request.cid, track=pending.info))
        mid = next((mid for mid, (offered, _) in self._unmatched.items() if pending.is_called(_cid(offered))), None)
        if mid is None:
            same_kind = [mid for mid, (offered, _) in self._unmatched.items() if offered.kind == pending.kind]
            mid = same_kind[0] if len(same_kind) == 1 else None
        if mid is not None:
            offered, answered = self._unmatched.pop(mid)
            self._publish(pending, offered, answered)
            participant.negotiation.receivers_changed()

    def _refusal(self, request: rtc.AddTrackRequest) -> rtc.RequestResponse.Reason | None:
        reason = rtc.RequestResponse.Reason
        if not self._participant.may_publish(request.source):
            return reason.NOT_ALLOWED
        if request.type not in (models.TrackType.AUDIO, models.TrackType.VIDEO):
            return reason.UNSUPPORTED_TYPE
        size = request.ByteSize()
        if len(self._pending) >= MAX_PENDING or size > MAX_TRACK_REQUEST:
            return reason.LIMIT_EXCEEDED
        codecs = request.simulcast_codecs
        if max(len(request.layers), len(codecs), *(len(codec.layers) for codec in codecs), 0) > MAX_LAYERS:
            return reason.LIMIT_EXCEEDED
        if len(self.tracks) + len(self._pending) >= MAX_PUBLICATIONS:
            return reason.LIMIT_EXCEEDED
        if size + sum(track.info.ByteSize() for track in self.tracks.values()) > MAX_STATE:
            return reason.LIMIT_EXCEEDED
        return None

    def match(self, offer: SessionDescription) -> dict[str, PublishedTrack | PendingTrack]:
        """Which track each sending section carries, by mid. Tracks whose section ended are unpublished."""
        sending = {s.mid: s for s in offer.media if s.is_rtp and s.sends and not s.rejected}
        for track in list(self.tracks.values()):
            section = sending.get(track.mid)
            # Firefox renames the section when a track is replaced; only a request for the new name makes it another.
            if section is None or (
                _cid(section) != track.cid and any(pending.is_called(_cid(section)) for pending in self._pending)
            ):
                self.unpublish(track)
        by_mid: dict[str, PublishedTrack | PendingTrack] = {track.mid: track for track in self.tracks.values()}
        taken: set[int] = set()
        left: list[MediaSection] = []
        for mid, section in sending.items():
            if mid in by_mid:
                continue
            exact = next((p for p in self._pending if id(p) not in taken and p.is_called(_cid(section))), None)
            if exact is None:
                left.append(section)
            else:
                taken.add(id(exact))
                by_mid[mid] = exact
        for section in left:
            # Some browsers name the track differently in SDP: the oldest request of the kind is meant.
            oldest = next((p for p in self._pending if id(p) not in taken and p.kind == section.kind), None)
            if oldest is not None:
                taken.add(id(oldest))
                by_mid[section.mid] = oldest
        return by_mid

    def options(self, matches: Mapping[str, PublishedTrack | PendingTrack]) -> dict[str, PublishOptions]:
        return {mid: publish_options(track.info) for mid, track in matches.items()}

    def negotiated(self, matches: Mapping[str, PublishedTrack | PendingTrack], sections: Sections) -> None:
        """The answer is decided: make tracks of the matched sections, keep the others for later requests."""
        self._unmatched = {}
        for mid, (offered, answered) in sections.items():
            match = matches.get(mid)
            if match is None:
                self._unmatched[mid] = (offered, answered)
            elif isinstance(match, PendingTrack):
                self._publish(match, offered, answered)
            else:
                match.negotiated(offered, answered)

    def _publish(self, pending: PendingTrack, offered: MediaSection, answered: MediaSection) -> None:
        self._pending.remove(pending)
        participant = self._participant
        track = PublishedTrack(
            number=participant.room.next_number(),
            publisher=participant,
            info=pending.info,
            cid=_cid(offered) or pending.request.cid,
        )
        track.negotiated(offered, answered)
        if (key := key_of(track.info)) in self._to_mute:
            self._to_mute.discard(key)
            if not track.info.muted:
                track.info.muted = True
                participant.send(mute=rtc.MuteTrackRequest(sid=track.sid, muted=True))
        self.tracks[track.sid] = track
        participant.room.track_added(track)
        if track.info.muted:
            participant.room.media.set_muted(track.number, True)

    def unpublish(self, track: PublishedTrack, *, tell_publisher: bool = False) -> None:
        if self.tracks.pop(track.sid, None) is None:
            return
        self._cancel_timer(track.sid)
        if tell_publisher:
            self._participant.send(track_unpublished=rtc.TrackUnpublishedResponse(track_sid=track.sid))
        self._participant.room.track_removed(track)

    def withdraw_forbidden(self) -> None:
        """Permissions became narrower: end what may no longer be published."""
        for track in list(self.tracks.values()):
            if not self._participant.may_publish(track.info.source):
                self.unpublish(track, tell_publisher=True)
        self._pending = [p for p in self._pending if self._participant.may_publish(p.info.source)]

    def info(self, sid: str) -> models.TrackInfo:
        """The `TrackInfo` of a published or pending track. LookupError when there is none."""
        if track := self.tracks.get(sid):
            return track.info
        for pending in self._pending:
            if pending.info.sid == sid:
                return pending.info
        raise LookupError(f"no track {sid}")

    def set_muted(self, sid: str, muted: bool) -> bool:
        """True when that is news for a published track."""
        info = self.info(sid)
        if info.muted == muted:
            return False
        info.muted = muted
        track = self.tracks.get(sid)
        if track is None:
            return False
        self._participant.room.media.set_muted(track.number, muted)
        if not muted:
            track.qualities = -2
            self.wanted_layers_changed(track)
        return True

    def set_permission(self, permission: rtc.SubscriptionPermission) -> None:
        """Raises ValueError when it has too many entries."""
        entries = permission.track_permissions
        if len(entries) > MAX_PERMISSIONS or sum(len(e.track_sids) for e in entries) > 16 * MAX_PERMISSIONS:
            raise ValueError(f"more than {MAX_PERMISSIONS} permissions")
        self._inherited = {}
        if permission.all_participants:
            self._allowed = None
            return
        allowed: Permissions = {}
        for entry in entries:
            for key in (("sid", entry.participant_sid), ("identity", entry.participant_identity)):
                if not key[1]:
                    continue
                if entry.all_tracks:
                    allowed[key] = None
                elif (known := allowed.setdefault(key, set())) is not None:
                    known.update(entry.track_sids)
        self._allowed = allowed

    def bequeath(self) -> tuple[Permissions | None, dict[str, TrackKey]]:
        """The permissions, and what tracks their sids mean."""
        if self._allowed is None:
            return None, {}
        named = {sid for sids in self._allowed.values() for sid in sids or ()}
        known = {sid: key_of(track.info) for sid, track in self.tracks.items()} | self._inherited
        return self._allowed, {sid: key for sid, key in known.items() if sid in named}

    def inherit(self, will: Will) -> None:
        """Take over the permissions of the session before, which broke. What the client says anew replaces them."""
        self._allowed = will.allowed
        self._inherited = will.sids
        self._to_mute = will.muted

    def allows(self, subscriber: Participant, sid: str) -> bool:
        """Whether the publisher lets `subscriber` have the track (`SubscriptionPermission`). Recorders are exempt."""
        allowed = self._allowed
        if allowed is None or subscriber.permission.recorder:
            return True
        sids = {sid}
        if self._inherited and (track := self.tracks.get(sid)):
            own = key_of(track.info)
            sids.update(before for before, key in self._inherited.items() if key == own)
        for key in (("sid", subscriber.sid), ("identity", subscriber.identity)):
            if key in allowed:
                tracks = allowed[key]
                if tracks is None or not sids.isdisjoint(tracks):
                    return True
        return False

    def knows(self, sids: Iterable[str]) -> bool:
        known = set(self.tracks) | {pending.info.sid for pending in self._pending}
        return known.issuperset(sids)

    def was_subscribed(self, track: PublishedTrack) -> None:
        if not track.noticed:
            track.noticed = True
            self._participant.send(track_subscribed=rtc.TrackSubscribed(track_sid=track.sid))

    def wanted_layers_changed(self, track: PublishedTrack) -> None:
        """Subscriptions or their settings changed: more is asked for at once, less after a while."""
        if track.kind != "video" or not track.live or track.info.muted or track.sid not in self.tracks:
            return
        wanted = _wanted_layer(track)
        if wanted > track.qualities and wanted >= 0:
            self._cancel_timer(track.sid)
            self._ask_layers(track)
        elif wanted < track.qualities or track.qualities == -2:
            if track.sid not in self._timers:
                delay = NOBODY_DELAY if track.qualities == -2 else PAUSE_DELAY
                loop = asyncio.get_running_loop()
                self._timers[track.sid] = loop.call_later(delay, self._ask_layers, track)
        else:
            self._cancel_timer(track.sid)

    def _ask_layers(self, track: PublishedTrack) -> None:
        self._timers.pop(track.sid, None)
        if track.sid not in self.tracks or track.info.muted:
            return
        wanted = _wanted_layer(track)
        if wanted == track.qualities:
            return
        track.qualities = wanted
        qualities = [
            rtc.SubscribedQuality(quality=quality, enabled=quality <= wanted)
            for quality in (models.LOW, models.MEDIUM, models.HIGH)
        ]
        self._participant.send(
            subscribed_quality_update=rtc.SubscribedQualityUpdate(
                track_sid=track.sid,
                subscribed_qualities=qualities,
                subscribed_codecs=[rtc.SubscribedCodec(codec=track.codec, qualities=qualities)],
            )
        )

    def close(self) -> None:
        for sid in list(self._timers):
            self._cancel_timer(sid)
        for track in list(self.tracks.values()):
            self.unpublish(track)
        self._pending.clear()
        self._unmatched.clear()

    def _cancel_timer(self, sid: str) -> None:
        if timer := self._timers.pop(sid, None):
            timer.cancel()


def _wanted_layer(track: PublishedTrack) -> int:
    """The highest layer that somebody wants, -1 when nobody does."""
    return max(
        (sub.settings.layer(track.info) for sub in track.subscriptions.values() if not sub.settings.disabled),
        default=-1,
    )


def _cid(section: MediaSection) -> str:
    """The client's id of the track: the second word of a=msid, or of an a=ssrc msid attribute."""
    if section.msid and section.msid[1]:
        return section.msid[1]
    for attributes in section.ssrcs.values():
        _, _, track = attributes.get("msid", "").partition(" ")
        if track:
            return track
    return ""
