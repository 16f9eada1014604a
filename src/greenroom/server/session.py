"""What a client may ask for: every `SignalRequest` and its effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from livekit.protocol import models, rtc

from .budgets import offer_weight
from .connection import Frame
from .participant import Action, LimitExceeded, Participant, Reason
from .rules import Refused, publishing
from .sdp import SdpError, SessionDescription, parse_in_pieces
from .turns import Turns

__all__ = ["handle_request", "read_description", "sync_state", "weight_of"]

RequestReason = rtc.RequestResponse.Reason

MAX_WEIGHT = 256.0
"""Of one message: what it names beyond that is ignored anyway."""


def weight_of(kind: str, request: rtc.SignalRequest) -> float:
    """How much of its budget a message takes: long lists and long descriptions cost more."""
    if kind == "offer":
        return offer_weight(request.offer.sdp.count("\nm="))
    if kind == "subscription":
        named = len(request.subscription.track_sids)
        named += sum(len(entry.track_sids) for entry in request.subscription.participant_tracks)
    elif kind == "track_setting":
        named = len(request.track_setting.track_sids)
    elif kind == "update_data_subscription":
        named = len(request.update_data_subscription.updates)
    elif kind == "subscription_permission":
        named = len(request.subscription_permission.track_permissions)
    elif kind == "sync_state":
        state = request.sync_state  # comes once a resume, and may have data sent again
        named = 16 * len(state.datachannel_receive_states) + len(state.subscription.track_sids) + 320
    else:
        return 1.0
    return min(1 + named / 16, MAX_WEIGHT)


async def read_description(turns: Turns, room: str, text: str) -> SessionDescription | SdpError:
    """Read what a client sent, a piece in each of its room's turns. Returns the error when it cannot be read."""
    try:
        return await turns.run(room, parse_in_pieces(text))
    except SdpError as error:
        return error


async def handle_request(participant: Participant, request: rtc.SignalRequest) -> bool:
    """Act on one message. False: the client has left."""
    kind = request.WhichOneof("message")
    participant.heard_at = asyncio.get_running_loop().time()
    if kind == "leave":
        participant.close(Reason.CLIENT_INITIATED)
        return False
    if kind == "offer":
        offer = await read_description(participant.room.manager.turns, participant.room.name, request.offer.sdp)
        if not participant.closed:
            participant.negotiation.take_offer(request.offer, offer)
    elif kind == "answer":
        if participant.negotiation.expects_answer(request.answer):
            answer = await read_description(participant.room.manager.turns, participant.room.name, request.answer.sdp)
            if not participant.closed:
                participant.negotiation.take_answer(request.answer, answer)
    elif kind == "add_track":
        await _add_track(participant, request.add_track)
    elif handler := HANDLERS.get(kind or ""):
        handler(participant, getattr(request, kind))
    return True


def sync_state(participant: Participant, state: rtc.SyncState) -> None:
    """After a resume: the client's view. What the server does not know of it needs a full reconnect."""
    published = [published.track.sid for published in state.publish_tracks]
    data_tracks = {published.info.sid for published in state.publish_data_tracks}
    tracks = participant.room.data.tracks
    if not participant.publications.knows(published) or not tracks.knows(participant, data_tracks):
        participant.send_leave(Reason.STATE_MISMATCH, Action.RECONNECT)
        return
    subscription = state.subscription
    named = dict.fromkeys(subscription.track_sids)
    named |= {sid: None for entry in subscription.participant_tracks for sid in entry.track_sids}
    # What the API decided while the client was away is newer than what the client remembers.
    kept = [s for s in named if not participant.subscriptions.imposed_since(s, participant.away_since)]
    participant.update_subscriptions(kept, subscription.subscribe)
    participant.subscriptions.disable(state.track_sids_disabled)
    if state.data_subscription.updates:
        tracks.subscribe(participant, state.data_subscription)
    participant.room.data.resend(
        participant, {entry.publisher_sid: entry.last_seq for entry in state.datachannel_receive_states}
    )


async def _add_track(participant: Participant, request: rtc.AddTrackRequest) -> None:
    referee = participant.room.manager.referee
    if referee.asks_publish and participant.may_publish(request.source):
        try:
            await referee.authorise_publish(publishing(participant, request))
        except Refused as refused:
            participant.request_response(RequestReason.NOT_ALLOWED, str(refused), add_track=request)
            return
        if participant.closed:
            return
    participant.publications.add(request)


def _ping(participant: Participant, _: int) -> None:
    participant.send(pong=_now())


def _ping_req(participant: Participant, request: rtc.Ping) -> None:
    participant.send(pong_resp=rtc.Pong(last_ping_timestamp=request.timestamp, timestamp=_now()))


def _trickle(participant: Participant, request: rtc.TrickleRequest) -> None:
    # An ICE-lite server never sends a check, so it has no use for the client's candidates (RFC 8445 2.5).
    del participant, request


def _mute(participant: Participant, request: rtc.MuteTrackRequest) -> None:
    try:
        participant.set_muted(request.sid, request.muted)
    except LookupError as error:
        participant.request_response(RequestReason.NOT_FOUND, str(error), mute=request)


def _subscription(participant: Participant, request: rtc.UpdateSubscription) -> None:
    participant.update_subscriptions(request.track_sids, request.subscribe, request.participant_tracks)


def _subscription_permission(participant: Participant, request: rtc.SubscriptionPermission) -> None:
    try:
        participant.publications.set_permission(request)
    except ValueError as error:
        participant.request_response(RequestReason.LIMIT_EXCEEDED, str(error))
        return
    participant.room.permissions_changed(participant)


def _update_metadata(participant: Participant, request: rtc.UpdateParticipantMetadata) -> None:
    def respond(reason: rtc.RequestResponse.Reason, text: str = "") -> None:
        participant.request_response(reason, text, request.request_id, update_metadata=request)

    if not participant.permission.can_update_metadata:
        respond(RequestReason.NOT_ALLOWED, "does not have permission to update own metadata")
        return
    try:
        participant.update_by_client(request)
    except LimitExceeded as error:
        respond(RequestReason.LIMIT_EXCEEDED, str(error))
        return
    respond(RequestReason.OK)


def _update_audio_track(participant: Participant, request: rtc.UpdateLocalAudioTrack) -> None:
    try:
        info = participant.publications.info(request.track_sid)
    except LookupError as error:
        participant.request_response(RequestReason.NOT_FOUND, str(error), update_audio_track=request)
        return
    del info.audio_features[:]
    known = models.AudioTrackFeature.values()
    info.audio_features.extend(feature for feature in dict.fromkeys(request.features) if feature in known)
    participant.changed()


def _update_video_track(participant: Participant, request: rtc.UpdateLocalVideoTrack) -> None:
    try:
        info = participant.publications.info(request.track_sid)
    except LookupError as error:
        participant.request_response(RequestReason.NOT_FOUND, str(error), update_video_track=request)
        return
    info.width, info.height = request.width, request.height
    participant.changed()


def _simulate(participant: Participant, request: rtc.SimulateScenario) -> None:
    """Failures on request, for the tests of client libraries."""
    scenario = request.WhichOneof("scenario")
    if scenario == "speaker_update":
        _say_speaking(participant, True)
        participant.set_timer("speaker", max(0, min(request.speaker_update, 60)), _say_speaking, participant, False)
    elif scenario == "node_failure":
        # As a lost machine would: no farewell, and nothing to resume.
        participant.drop_signal()
        participant.close(Reason.UNKNOWN_REASON, leave=False)
    elif scenario == "migration":
        participant.drop_signal()
    elif scenario == "server_leave":
        participant.close(Reason.SERVER_SHUTDOWN)
    elif scenario in ("switch_candidate_protocol", "leave_request_full_reconnect"):
        participant.send_leave(Reason.UNKNOWN_REASON, Action.RECONNECT)
    elif scenario == "disconnect_signal_on_resume":
        participant.drop_signal_on_resume = "after"
        participant.drop_signal()
    elif scenario == "disconnect_signal_on_resume_no_messages":
        participant.drop_signal_on_resume = "before"
        participant.drop_signal()


def _say_speaking(participant: Participant, active: bool) -> None:
    info = models.SpeakerInfo(sid=participant.sid, level=0.75 if active else 0.0, active=active)
    frame = Frame(rtc.SignalResponse(speakers_changed=rtc.SpeakersChanged(speakers=[info])))
    for other in participant.room.participants.values():
        other.send_frame(frame)


def _now() -> int:
    return time.time_ns() // 1_000_000


HANDLERS: dict[str, Callable[[Participant, Any], None]] = {
    "trickle": _trickle,
    "mute": _mute,
    "subscription": _subscription,
    "track_setting": lambda participant, request: participant.subscriptions.set_settings(request),
    "subscription_permission": _subscription_permission,
    "sync_state": sync_state,
    "simulate": _simulate,
    "ping": _ping,
    "ping_req": _ping_req,
    "update_metadata": _update_metadata,
    "update_audio_track": _update_audio_track,
    "update_video_track": _update_video_track,
    "publish_data_track_request": lambda participant, request: participant.room.data.tracks.publish(
        participant, request
    ),
    "unpublish_data_track_request": (
        lambda participant, request: participant.room.data.tracks.unpublish(participant, request)
    ),
    "update_data_subscription": lambda participant, request: participant.room.data.tracks.subscribe(
        participant, request
    ),
}
