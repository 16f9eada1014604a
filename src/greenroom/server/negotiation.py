"""The peer connections of one participant: what is negotiated on them, and what their state means for the participant."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc

from .budgets import Bucket
from .sdp import SdpError, SessionDescription
from .transport import Answerer, Offerer

if TYPE_CHECKING:
    from .participant import Participant

__all__ = ["Negotiation"]

logger = logging.getLogger(__name__)

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action


class Negotiation:
    """One connection on which the client offers; with old clients a second one on which the server does."""

    def __init__(self, participant: Participant, *, single: bool) -> None:
        room = participant.room
        addresses = room.settings.node_ips
        self.participant = participant
        self.publisher = Answerer(
            room.media,
            room.next_number(),
            room.number,
            addresses,
            ask=self._ask_sections,
            until_offer=participant.signal_budget.until_offer,
        )
        self.subscriber: Offerer | None = None
        if not single:
            self.subscriber = Offerer(
                room.media,
                room.next_number(),
                room.number,
                addresses,
                enabled=participant.receivable,
                pace=Bucket(room.settings.rates.server_offers),
                send_offer=self._send_offer,
                stuck=self._stuck,
            )

    def __iter__(self) -> Iterator[Answerer | Offerer]:
        yield self.publisher
        if self.subscriber:
            yield self.subscriber

    @property
    def downlink(self) -> Answerer | Offerer:
        """The peer connection on which the participant receives."""
        return self.subscriber or self.publisher

    @property
    def subscriber_primary(self) -> bool:
        return self.subscriber is not None and self.participant.permission.can_subscribe

    @property
    def primary(self) -> Answerer | Offerer:
        """The peer connection whose state is the participant's, and which carries data to it."""
        return self.downlink if self.subscriber_primary else self.publisher

    # --- descriptions --------------------------------------------------------------------------------------------

    def take_offer(self, offered: rtc.SessionDescription, offer: SessionDescription | SdpError) -> None:
        """The client's offer, read, or why it cannot be. What cannot be answered is told as a full reconnect: the client
        would wait in vain."""
        participant = self.participant
        try:
            if isinstance(offer, SdpError):
                raise offer
            matches = participant.publications.match(offer)
            answer = self.publisher.answer(
                offer,
                enabled=participant.receivable,
                publishable=participant.publishable,
                options=participant.publications.options(matches),
            )
        except SdpError as error:
            self._refuse("offer", error)
            return
        participant.publications.negotiated(matches, answer.sections)
        self.receivers_changed()
        participant.send(
            answer=rtc.SessionDescription(
                type="answer", sdp=answer.text, id=offered.id, mid_to_track_id=answer.mid_to_track
            )
        )
        self.publisher.apply()
        participant.subscriptions.bound(answer.bound)
        participant.subscriptions.refused(answer.refused)

    def expects_answer(self, answered: rtc.SessionDescription) -> bool:
        """Whether it is worth reading."""
        return self.subscriber is not None and self.subscriber.expects(answered.id)

    def take_answer(self, answered: rtc.SessionDescription, answer: SessionDescription | SdpError) -> None:
        if self.subscriber is None:
            return
        try:
            if isinstance(answer, SdpError):
                raise answer
            bound, refused = self.subscriber.take_answer(answer, answered.id)
        except SdpError as error:
            self._refuse("answer", error)
            return
        self.participant.subscriptions.bound(bound)
        self.participant.subscriptions.refused(refused)

    def _refuse(self, what: str, error: SdpError) -> None:
        participant = self.participant
        logger.warning("%s in %s: %s refused: %s", participant.identity, participant.room.name, what, error)
        participant.send_leave(Reason.STATE_MISMATCH, Action.RECONNECT)

    def receivers_changed(self) -> None:
        """Other tracks are published, or may be."""
        self.publisher.set_receivers(list(self.participant.tracks.values()))

    def _ask_sections(self, audios: int, videos: int) -> None:
        requirement = rtc.MediaSectionsRequirement(num_audios=audios, num_videos=videos)
        self.participant.send(media_sections_requirement=requirement)

    def _send_offer(self, sdp: str, offer_id: int, mid_to_track: dict[str, str]) -> None:
        offer = rtc.SessionDescription(type="offer", sdp=sdp, id=offer_id, mid_to_track_id=mid_to_track)
        self.participant.send(offer=offer)

    def _stuck(self) -> None:
        if self.downlink.connected:
            self.participant.send_leave(Reason.STATE_MISMATCH, Action.RECONNECT)

    # --- state ---------------------------------------------------------------------------------------------------

    def set_connected(self, number: int, connected: bool) -> None:
        for peer in self:
            if peer.number == number:
                peer.connected = connected

    def lose(self) -> None:
        """The core forgot them all."""
        for peer in self:
            peer.connected = False
            peer.close()

    def close(self) -> None:
        for peer in self:
            peer.close()
