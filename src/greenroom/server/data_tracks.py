"""Data tracks: framed packets on the `_data_track` channel, addressed by handles.

A publisher numbers its tracks itself; every subscriber is given handles of its own, and the server changes nothing in a
packet but the handle.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc

from . import ids
from .bounds import MAX_DATA_TRACK_REQUEST, MAX_DATA_TRACKS, MAX_NAMED, MAX_SID

if TYPE_CHECKING:
    from .participant import Participant
    from .room import Room

__all__ = ["DataTracks"]

HEADER_BYTES = 12
HANDLE = slice(2, 4)
MAX_HANDLE = 65535
MAX_NAME = 256

Reason = rtc.RequestResponse.Reason


@dataclass(eq=False, slots=True)
class DataTrack:
    publisher: Participant
    info: models.DataTrackInfo
    handles: dict[str, int] = field(default_factory=dict)
    """Subscriber identity to its handle."""


@dataclass(eq=False, slots=True)
class Subscriber:
    handles: dict[int, str] = field(default_factory=dict)
    """Handle to track sid."""
    wishes: dict[str, bool] = field(default_factory=dict)
    next_handle: int = 1


class DataTracks:
    def __init__(self, room: Room) -> None:
        self._room = room
        self._tracks: dict[str, DataTrack] = {}
        """By sid."""
        self._subscribers: dict[str, Subscriber] = {}
        """By identity."""
        self.dropped: Counter[str] = Counter()

    def publish(self, publisher: Participant, request: rtc.PublishDataTrackRequest) -> None:
        """Answers with `PublishDataTrackResponse` or a refusing `RequestResponse`."""
        taken = publisher.data_tracks
        refusal = None
        if not publisher.permission.can_publish_data:
            refusal = Reason.NOT_ALLOWED
        elif not 1 <= request.pub_handle <= MAX_HANDLE:
            refusal = Reason.INVALID_HANDLE
        elif not 1 <= len(request.name) <= MAX_NAME:
            refusal = Reason.INVALID_NAME
        elif request.pub_handle in taken:
            refusal = Reason.DUPLICATE_HANDLE
        elif any(info.name == request.name for info in taken.values()):
            refusal = Reason.DUPLICATE_NAME
        elif len(taken) >= MAX_DATA_TRACKS or request.ByteSize() > MAX_DATA_TRACK_REQUEST:
            refusal = Reason.LIMIT_EXCEEDED
        if refusal is not None:
            publisher.request_response(refusal, publish_data_track=request)
            return
        info = models.DataTrackInfo(
            pub_handle=request.pub_handle, sid=ids.data_track_sid(), name=request.name, encryption=request.encryption
        )
        if request.HasField("frame_encoding"):
            info.frame_encoding.CopyFrom(request.frame_encoding)
        if request.HasField("schema"):
            info.schema.CopyFrom(request.schema)
        taken[request.pub_handle] = info
        self._tracks[info.sid] = DataTrack(publisher, info)
        publisher.send(publish_data_track_response=rtc.PublishDataTrackResponse(info=info))
        publisher.changed()
        for participant in self._room.participants.values():
            self.reconcile(participant)

    def unpublish(self, publisher: Participant, request: rtc.UnpublishDataTrackRequest) -> None:
        info = publisher.data_tracks.pop(request.pub_handle, None)
        if info is None:
            publisher.request_response(Reason.NOT_FOUND, unpublish_data_track=request)
            return
        del self._tracks[info.sid]
        publisher.send(unpublish_data_track_response=rtc.UnpublishDataTrackResponse(info=info))
        publisher.changed()
        for participant in self._room.participants.values():
            self.reconcile(participant)

    def withdraw(self, publisher: Participant) -> None:
        """It may no longer publish data: its tracks end."""
        for info in list(publisher.data_tracks.values()):
            self.unpublish(publisher, rtc.UnpublishDataTrackRequest(pub_handle=info.pub_handle))

    def subscribe(self, subscriber: Participant, update: rtc.UpdateDataSubscription) -> None:
        state = self._of(subscriber)
        wishes = state.wishes
        if len(wishes) + len(update.updates) > MAX_NAMED:
            # Tracks that are gone make room: their ids never come back.
            for sid in wishes.keys() - self._tracks.keys():
                del wishes[sid]
        for entry in update.updates:
            if len(entry.track_sid) <= MAX_SID and (len(wishes) < MAX_NAMED or entry.track_sid in wishes):
                wishes[entry.track_sid] = entry.subscribe
        if not self.reconcile(subscriber):
            # The client waits for an answer, also when it has already got what it asks for.
            self._tell(subscriber, state)

    def reconcile(self, subscriber: Participant) -> bool:
        """Give and take handles until the subscriber has what it wants; tell it all of them when something changed.

        Returns whether something did."""
        state = self._of(subscriber)
        wanted = {
            sid: track
            for sid, track in self._tracks.items()
            if track.publisher is not subscriber
            and subscriber.permission.can_subscribe
            and state.wishes.get(sid, subscriber.join.auto_subscribe_data_track)
        }
        changed = False
        for handle, sid in list(state.handles.items()):
            if sid not in wanted:
                del state.handles[handle]
                if track := self._tracks.get(sid):
                    track.handles.pop(subscriber.identity, None)
                changed = True
        for sid, track in wanted.items():
            if subscriber.identity not in track.handles and len(state.handles) < MAX_HANDLE:
                while state.next_handle in state.handles:
                    state.next_handle = state.next_handle % MAX_HANDLE + 1
                handle, state.next_handle = state.next_handle, state.next_handle % MAX_HANDLE + 1
                state.handles[handle] = sid
                track.handles[subscriber.identity] = handle
                changed = True
        if changed:
            self._tell(subscriber, state)
        return changed

    def _tell(self, subscriber: Participant, state: Subscriber) -> None:
        message = rtc.DataTrackSubscriberHandles()
        for handle, sid in state.handles.items():
            publisher = self._tracks[sid].publisher
            entry = message.sub_handles[handle]
            entry.publisher_identity, entry.publisher_sid, entry.track_sid = publisher.identity, publisher.sid, sid
        subscriber.send(data_track_subscriber_handles=message)

    def receive(self, sender: Participant, payload: bytes) -> None:
        """Forward one packet with each subscriber's own handle."""
        if len(payload) < HEADER_BYTES:
            self.dropped["malformed"] += 1
            return
        info = sender.data_tracks.get(int.from_bytes(payload[HANDLE]))
        track = self._tracks.get(info.sid) if info else None
        if track is None:
            self.dropped["unknown_handle"] += 1
            return
        packet = bytearray(payload)
        for identity, handle in track.handles.items():
            if receiver := self._room.participants.get(identity):
                packet[HANDLE] = handle.to_bytes(2)
                self._room.media.send_data([receiver.primary.number], "_data_track", bytes(packet))
        sender.data_budget.spend_deliveries(len(track.handles))

    def knows(self, publisher: Participant, sids: set[str]) -> bool:
        return {info.sid for info in publisher.data_tracks.values()} >= sids

    def forget(self, participant: Participant) -> None:
        """It left: its tracks end, its handles are free."""
        self._subscribers.pop(participant.identity, None)
        for track in self._tracks.values():
            track.handles.pop(participant.identity, None)
        if participant.data_tracks:
            for info in participant.data_tracks.values():
                self._tracks.pop(info.sid, None)
            participant.data_tracks.clear()
            for other in self._room.participants.values():
                self.reconcile(other)

    def _of(self, subscriber: Participant) -> Subscriber:
        return self._subscribers.setdefault(subscriber.identity, Subscriber())
