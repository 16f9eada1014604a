"""The peer connection on which the client offers.

In single mode it carries everything; in dual mode it is the publisher connection. The client's `recvonly` sections are
slots: a subscription waits until one is free, and only the client can make more of them or learn of a change, so the
server asks with `MediaSectionsRequirement` and the client offers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenroom.server.sdp import (
    MAX_MESSAGE_SIZE,
    CodecChoice,
    MediaSection,
    PublishOptions,
    RtpCodec,
    SessionDescription,
    build_answer,
    can_receive,
    native_codecs,
)

from .peer import PeerConnection

if TYPE_CHECKING:
    from greenroom._native import MediaServer
    from greenroom.server.media import Codec
    from greenroom.server.subscriptions import Subscription
    from greenroom.server.tracks import PublishedTrack

__all__ = ["Answer", "Answerer"]

COALESCE = 0.005
"""Seconds in which changes are collected before the client is asked to offer."""
ASK_AGAIN = 5.0
"""Seconds after which an unanswered request is repeated."""


@dataclass(slots=True)
class Slot:
    """A section on which the client receives."""

    section: MediaSection
    """As answered; as offered while the answer is made."""
    codecs: list[RtpCodec]
    """What the client takes here of what may be sent to it."""
    native: tuple[Codec, ...] = ()
    """The answered codecs for the core."""
    subscription: Subscription | None = None
    ending: bool = False
    """Its track is gone, and the client was not told yet: the receiver ends only through `inactive`."""
    ended_at: float = float("-inf")
    """Loop time at which its last track ended."""

    def is_free(self, before: float) -> bool:
        """Whether another track may come, if the last one ended before this loop time."""
        return self.subscription is None and not self.ending and self.ended_at <= before

    def fits(self, track: PublishedTrack) -> bool:
        return can_receive(self.codecs, track.possible_codecs)


@dataclass(slots=True)
class Answer:
    """Everything that follows from one offer."""

    text: str
    mid_to_track: dict[str, str]
    sections: dict[str, tuple[MediaSection, MediaSection]]
    """mid to (offered, answered) of the sections on which the client sends."""
    bound: list[Subscription]
    """Subscriptions that got their section with this answer."""
    refused: list[Subscription]
    """Subscriptions whose codec the client cannot receive."""


class Answerer(PeerConnection):
    def __init__(
        self,
        media: MediaServer,
        number: int,
        room: int,
        addresses: tuple[str, ...],
        *,
        ask: Callable[[int, int], None],
        until_offer: Callable[[float, int], float],
    ) -> None:
        """`ask(audios, videos)` sends a `MediaSectionsRequirement`. `until_offer(now, sections)`: seconds until the client
        may offer so many; nothing is asked of it before."""
        super().__init__(media, number, room, addresses)
        self._ask = ask
        self._until_offer = until_offer
        self._slots: dict[str, Slot] = {}
        self._waiting: list[Subscription] = []
        self._sent_on: set[str] = set()
        """mids on which the client ever sent: never slots, even after the client turned them around."""
        self._answered = False
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._has_data = False

    def answer(
        self,
        offer: SessionDescription,
        *,
        enabled: tuple[str, ...],
        publishable: tuple[str, ...],
        options: Mapping[str, PublishOptions],
    ) -> Answer:
        """Take an offer and make the answer to it. Raises SdpError when the offer has no usable transport.

        `enabled` and `publishable`: MIME types that the client may receive and send. `options`: what is known about the
        sections on which the client sends, by mid. Call `apply` after the answer is on its way."""
        new, replaced = self.take_remote(offer)
        if replaced:
            self.restart_ice()
        # A client takes no section back (RFC 8829 5.2.2), so a mid that is gone was never a client's of that kind.
        self._sent_on &= {section.mid for section in offer.media}
        self._sent_on |= {section.mid for section in offer.media if section.is_rtp and section.sends}
        receiving = {
            section.mid: section
            for section in offer.media
            if section.is_rtp and section.receives and not section.rejected and section.mid not in self._sent_on
        }
        self._forget_missing(receiving)
        choice = CodecChoice()
        for mid, section in receiving.items():
            codecs = choice.codecs(section, enabled, None)
            if slot := self._slots.get(mid):
                slot.codecs = codecs
            else:
                self._slots[mid] = Slot(section, codecs)
        unfit = self._release_unfit()
        bound, refused = self._assign()
        silent = {mid for mid, slot in self._slots.items() if slot.ending} | self._sent_on
        send = {mid: slot.subscription.outgoing() for mid, slot in self._slots.items() if slot.subscription}
        answer = build_answer(
            offer,
            self.local,
            session=self.next_session(),
            enabled=enabled,
            publishable=publishable,
            publish=options,
            send=send,
            silent=silent,
            choice=choice,
        )
        sections = {}
        native: dict[int, tuple[Codec, ...]] = {}
        for offered, section in zip(offer.media, answer.media, strict=True):
            if section.mid in self._slots:
                slot = self._slots[section.mid]
                slot.section = section
                # Sections that list the same share the list.
                slot.native = native.get(id(section.codecs)) or native_codecs(section)
                native[id(section.codecs)] = slot.native
            elif section.is_rtp and offered.sends and section.port:
                sections[section.mid] = (offered, section)
            elif section.kind == "application" and section.port:
                self._start_data(offered)
        if new:
            self.publish_remote()
        for slot in self._slots.values():
            slot.ending = False
        mid_to_track = {mid: outgoing.track_id for mid, outgoing in send.items()}
        return Answer(answer.to_text(), mid_to_track, sections, bound, unfit + refused)

    def apply(self) -> None:
        """The answer was sent: start what it promised, ask for more where it was not enough."""
        self._answered = True
        self._asked = False
        self._cancel_timer()
        self.update_senders()
        if self._waiting or any(slot.ending for slot in self._slots.values()):
            self._renegotiate()

    def add(self, subscription: Subscription) -> None:
        """Send this track as soon as a section is free."""
        self._waiting.append(subscription)
        self._renegotiate()

    def can_send(self, subscription: Subscription) -> bool:
        """Whether the client can decode the track, as far as it has said by now."""
        slots = (slot for slot in self._slots.values() if slot.subscription is subscription)
        return all(slot.fits(subscription.track) for slot in slots)

    def remove(self, subscription: Subscription) -> None:
        """Stop sending. The client learns with the next answer."""
        if subscription in self._waiting:
            self._waiting.remove(subscription)
            return
        for slot in self._slots.values():
            if slot.subscription is subscription:
                self._release(slot)
                self.update_senders()
                self._renegotiate()

    def update_senders(self) -> None:
        """Tell the core what goes out now. Cheap to repeat."""
        if self.closed:
            return
        self.media.set_senders(
            self.number,
            [
                slot.subscription.sender(mid, slot.native, slot.section.extensions)
                for mid, slot in self._slots.items()
                if slot.subscription
            ],
        )

    def set_receivers(self, tracks: list[PublishedTrack]) -> None:
        receivers = [receiver for track in tracks if (receiver := track.receiver())]
        self.media.set_receivers(self.number, receivers)

    def close(self) -> None:
        self._cancel_timer()
        super().close()

    def _assign(self) -> tuple[list[Subscription], list[Subscription]]:
        bound: list[Subscription] = []
        refused: list[Subscription] = []
        waiting: list[Subscription] = []
        before = self.rested_since()
        for subscription in self._waiting:
            kind = subscription.track.kind
            slots = [slot for slot in self._slots.values() if slot.section.kind == kind and slot.is_free(before)]
            # The one that has been free for longest: the client may still be busy with the end of a later one.
            slots.sort(key=lambda slot: slot.ended_at)
            if not slots:
                waiting.append(subscription)
                continue
            slot = next((slot for slot in slots if slot.fits(subscription.track)), None)
            if slot is None:
                refused.append(subscription)
                continue
            slot.subscription = subscription
            bound.append(subscription)
        self._waiting = waiting
        return bound, refused

    def _release_unfit(self) -> list[Subscription]:
        """The client lists fewer codecs than it did: what it cannot take any more ends."""
        out = []
        for slot in self._slots.values():
            if slot.subscription and not slot.fits(slot.subscription.track):
                out.append(slot.subscription)
                self._release(slot)
        return out

    def _release(self, slot: Slot) -> None:
        slot.subscription = None
        slot.ending = True
        slot.ended_at = asyncio.get_running_loop().time()

    def _forget_missing(self, receiving: Mapping[str, MediaSection]) -> None:
        """A section that the client took back frees its subscription for another one."""
        for mid in [mid for mid in self._slots if mid not in receiving]:
            slot = self._slots.pop(mid)
            if slot.subscription:
                self._waiting.insert(0, slot.subscription)

    def _start_data(self, offered: MediaSection) -> None:
        if not self._has_data:
            self._has_data = True
            self.media.set_data(self.number, offered.max_message_size or MAX_MESSAGE_SIZE)

    def _renegotiate(self) -> None:
        if self._answered and not self._asked and self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            sections = len(self._slots) + len(self._sent_on) + len(self._waiting) + 1
            self._timer = loop.call_later(max(COALESCE, self._until_offer(loop.time(), sections)), self._ask_now)

    def _ask_now(self) -> None:
        self._timer = None
        if self.closed or not (self._waiting or any(slot.ending for slot in self._slots.values())):
            return
        missing = []
        before = self.rested_since()
        for kind in ("audio", "video"):
            free = sum(slot.section.kind == kind and slot.is_free(before) for slot in self._slots.values())
            missing.append(max(0, sum(sub.track.kind == kind for sub in self._waiting) - free))
        self._asked = True
        self._ask(*missing)
        self._timer = asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_now)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
