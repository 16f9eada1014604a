"""Connection quality of participants from the native core's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from livekit.protocol import models, rtc

if TYPE_CHECKING:
    from .participant import Participant
    from .room import Room

__all__ = ["QualityReporter", "score_of"]

BEST = 4.5
GOOD_BELOW, POOR_BELOW, LOST_BELOW = 80, 40, 20

LOST_PROTOCOL = 10
"""Clients up to this protocol do not know LOST."""


def score_of(stats: Mapping[str, Any] | None) -> float:
    """0..100 from round trip, jitter and loss, after the simplified E-model (ITU-T G.107).

    `stats` as `MediaServer.peer_stats` gives them; without any there is nothing to complain about."""
    if not stats:
        return 100.0
    tracks = [track for track in stats.get("tracks") or () if track.get("packets")]
    loss = max((float(track.get("fraction_lost") or 0.0) for track in tracks), default=0.0)
    jitter = max((float(track.get("jitter_ms") or 0.0) for track in tracks), default=0.0)
    delay = float(stats.get("rtt_ms") or 0.0) / 2 + 2 * jitter
    points = 100.0 - (delay / 40 if delay < 160 else (delay - 120) / 10)
    return max(0.0, min(100.0, points - 250.0 * loss))


def quality_of(score: float) -> models.ConnectionQuality:
    quality = models.ConnectionQuality
    if score < LOST_BELOW:
        return quality.LOST
    if score < POOR_BELOW:
        return quality.POOR
    return quality.GOOD if score < GOOD_BELOW else quality.EXCELLENT


class QualityReporter:
    """Tells each participant about itself and about those it receives tracks of, when something changed."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._told: dict[str, dict[str, int]] = {}
        """Receiver sid to (participant sid to quality)."""

    def report(self) -> None:
        infos = {}
        for participant in self._room.participants.values():
            score = self._score(participant)
            infos[participant.sid] = rtc.ConnectionQualityInfo(
                participant_sid=participant.sid,
                quality=quality_of(score),
                score=round(1.0 + (BEST - 1.0) * score / 100.0, 2),
            )
        for participant in self._room.participants.values():
            self._report_to(participant, infos)

    def _score(self, participant: Participant) -> float:
        if not participant.was_active:
            return 100.0
        if not participant.primary.connected:
            return 0.0
        media = self._room.media
        return min(score_of(media.peer_stats(peer.number)) for peer in participant.negotiation)

    def _report_to(self, receiver: Participant, infos: Mapping[str, rtc.ConnectionQualityInfo]) -> None:
        told = self._told.setdefault(receiver.sid, {})
        about = {receiver.sid} | {sub.track.publisher.sid for sub in receiver.subscriptions.active.values()}
        updates = []
        for sid in about & infos.keys():
            info = infos[sid]
            if info.quality == models.ConnectionQuality.LOST and receiver.protocol <= LOST_PROTOCOL:
                info = rtc.ConnectionQualityInfo(
                    participant_sid=sid, quality=models.ConnectionQuality.POOR, score=info.score
                )
            if told.get(sid) != info.quality:
                told[sid] = info.quality
                updates.append(info)
        if updates:
            receiver.send(connection_quality=rtc.ConnectionQualityUpdate(updates=updates))

    def tell_again(self, sid: str) -> None:
        """The receiver came back: what it was told last is perhaps lost."""
        self._told.pop(sid, None)

    def forget(self, sid: str) -> None:
        self._told.pop(sid, None)
        for told in self._told.values():
            told.pop(sid, None)
