"""The peer connection on which the server offers: the subscriber connection of dual mode.

One offer at a time; changes made while one is open go into the next. A section whose track is gone is used again for
the next track of its kind, after the client has acknowledged its end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.server.budgets import Bucket, offer_weight
from greenroom.server.sdp import (
    MAX_MESSAGE_SIZE,
    MediaSection,
    OfferedSection,
    SessionDescription,
    build_offer,
    can_receive,
    native_codecs,
    offer_codecs,
)

from .peer import PeerConnection

if TYPE_CHECKING:
    from greenroom._native import MediaServer
    from greenroom.server.media import Codec
    from greenroom.server.subscriptions import Subscription

__all__ = ["CHANNELS", "Offerer"]

COALESCE = 0.005
ANSWER_TIMEOUT = 15.0
"""Seconds that a client has for its answer before the connection counts as stuck."""

CHANNELS = (("_reliable", True, None), ("_lossy", False, 0), ("_data_track", False, 0))
"""Data channels that the server opens: label, ordered, retransmissions."""

DATA_MID = "0"


class Offerer(PeerConnection):
    def __init__(
        self,
        media: MediaServer,
        number: int,
        room: int,
        addresses: tuple[str, ...],
        *,
        enabled: tuple[str, ...],
        pace: Bucket,
        send_offer: Callable[[str, int, dict[str, str]], None],
        stuck: Callable[[], None],
    ) -> None:
        """`pace`: how often to offer; changes wait for it and go out together. `send_offer(sdp, id, mid_to_track)`;
        `stuck()` when no answer came in time."""
        super().__init__(media, number, room, addresses)
        self._enabled = enabled
        self._pace = pace
        self._send_offer = send_offer
        self._stuck = stuck
        self._sections: list[OfferedSection] = [OfferedSection(DATA_MID, "application")]
        self._subscriptions: dict[str, Subscription] = {}
        self._answered: dict[str, tuple[MediaSection, tuple[Codec, ...]]] = {}
        self._ending: set[str] = set()
        """mids that carried a track which the client still believes in."""
        self._ended_at: dict[str, float] = {}
        """mid to the loop time at which its last track ended."""
        self._offer_id = random.randint(1, 256)
        self._open_offer: dict[str, Subscription] | None = None
        """What the unanswered offer promises."""
        self._dirty = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        media.set_data(number, MAX_MESSAGE_SIZE, CHANNELS)

    def offer_now(self) -> None:
        """Send an offer unless one is open; then it follows the answer."""
        self._dirty = True
        self._cancel()
        if self._open_offer is None:
            self._offer()

    def restart_ice(self) -> None:
        super().restart_ice()
        # The client lost what was under way; the open offer will never be answered.
        self._offer_closed()
        self.offer_now()

    def add(self, subscription: Subscription) -> None:
        """Send this track from the next offer on."""
        before = self.rested_since()
        kind = subscription.track.kind
        free = next(
            (
                section
                for section in self._sections
                if section.kind == kind
                and section.mid not in self._subscriptions
                and section.mid not in self._ending
                and self._ended_at.get(section.mid, float("-inf")) <= before
            ),
            None,
        )
        if free is None:
            free = OfferedSection(str(len(self._sections)), kind)
            self._sections.append(free)
        free.codecs = offer_codecs(kind, self._enabled, stereo=subscription.track.stereo)
        self._subscriptions[free.mid] = subscription
        free.outgoing = subscription.outgoing()
        self._changed()

    def remove(self, subscription: Subscription) -> None:
        """Stop sending. The client learns with the next offer."""
        for mid, current in list(self._subscriptions.items()):
            if current is subscription:
                del self._subscriptions[mid]
                self._ending.add(mid)
                self._ended_at[mid] = asyncio.get_running_loop().time()
                next(section for section in self._sections if section.mid == mid).outgoing = None
                self.update_senders()
                self._changed()

    def expects(self, offer_id: int) -> bool:
        """Whether an answer to this offer would be of use."""
        return self._open_offer is not None and offer_id in (0, self._offer_id)

    def can_send(self, subscription: Subscription) -> bool:
        """Whether the client can decode the track, as far as it has said by now."""
        for mid, current in self._subscriptions.items():
            if current is subscription and mid in self._answered:
                return can_receive(self._answered[mid][0].codecs, subscription.track.possible_codecs)
        return True

    def take_answer(self, answer: SessionDescription, offer_id: int) -> tuple[list[Subscription], list[Subscription]]:
        """Returns the subscriptions that now flow for the first time, and those that the client cannot receive.

        An answer to another offer than the open one is ignored. Raises SdpError when it cannot be used."""
        if not self.expects(offer_id):
            return [], []
        new, _ = self.take_remote(answer)
        promised = self._open_offer
        self._offer_closed()
        if new:
            self.publish_remote()
        bound: list[Subscription] = []
        refused: list[Subscription] = []
        for section in answer.media:
            if not section.is_rtp:
                continue
            subscription = promised.get(section.mid) if promised else None
            if subscription is None:
                self._ending.discard(section.mid)
            elif self._subscriptions.get(section.mid) is subscription:
                usable = not section.rejected and section.receives
                if usable and can_receive(section.codecs, subscription.track.possible_codecs):
                    if section.mid not in self._answered or not subscription.bound:
                        bound.append(subscription)
                    self._answered[section.mid] = (section, native_codecs(section))
                else:
                    refused.append(subscription)
        self.update_senders()
        if self._dirty:
            self._changed()
        return bound, refused

    def update_senders(self) -> None:
        """Tell the core what goes out: the tracks whose section the client answered."""
        if self.closed:
            return
        senders = []
        for mid, subscription in self._subscriptions.items():
            if mid in self._answered:
                section, codecs = self._answered[mid]
                senders.append(subscription.sender(mid, codecs, section.extensions))
        self.media.set_senders(self.number, senders)

    def close(self) -> None:
        self._cancel()
        self._offer_closed()
        super().close()

    def _changed(self) -> None:
        self._dirty = True
        if self._open_offer is None and self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(COALESCE, self._pace.lack(loop.time())), self._offer)

    def _offer(self) -> None:
        self._timer = None
        if self.closed or not self._dirty or self._open_offer is not None:
            return
        self._dirty = False
        self._pace.spend(offer_weight(len(self._sections)))
        self._offer_id += 1
        self._open_offer = dict(self._subscriptions)
        for mid in self._ending:
            self._answered.pop(mid, None)
        description = build_offer(self.local, session=self.next_session(), sections=self._sections)
        mid_to_track = {mid: subscription.track.sid for mid, subscription in self._subscriptions.items()}
        self._deadline = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self._timed_out)
        self._send_offer(description.to_text(), self._offer_id, mid_to_track)

    def _offer_closed(self) -> None:
        """The open offer was answered, or never will be."""
        self._open_offer = None
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _timed_out(self) -> None:
        self._deadline = None
        if not self.closed:
            self._stuck()

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
