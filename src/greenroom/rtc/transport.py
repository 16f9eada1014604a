"""One peer connection: its negotiation, its data channels and the sections on it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from livekit.protocol import rtc as proto

from .engine import Engine
from .errors import ConnectError
from .log import logger
from .native_peer import NativePeer
from .sdp import sections as sdp_sections

if TYPE_CHECKING:
    from .session import Session

ANSWER_TIMEOUT = 15.0
RELIABLE = "_reliable"
LOSSY = "_lossy"
DATA_TRACK = "_data_track"
DATA_CHANNELS: tuple[tuple[str, bool, int | None], ...] = (
    (RELIABLE, True, None),
    (LOSSY, False, 0),
    (DATA_TRACK, False, 0),
)
BUNDLED_SECTIONS = 3
"""Receiving sections of each kind in the first offer, so that most subscriptions need no new ones."""


def track_sids(sdp: str) -> dict[str, str]:
    """Mid to track sid, as the msid lines of a server's description say: `a=msid:PA_..|TR_.. TR_..`."""
    sent = [section for section in sdp_sections(sdp) if section.sends and section.mid]
    named = {section.mid: section.track_id or "".join(section.stream_ids[-1:]) for section in sent}
    return {mid: sid for mid, sid in named.items() if sid.startswith("TR_")}


class Transport(NativePeer):
    """A connection to a room server. At most one offer is on its way; changes that come meanwhile go into the next one."""

    def __init__(self, engine: Engine, session: Session, target: int) -> None:
        super().__init__(engine)
        self.session = session
        self.target = target
        self.local_description: proto.SessionDescription | None = None
        self.remote_description: proto.SessionDescription | None = None
        self._wanted: list[asyncio.Future[None]] = []
        self._offered: list[asyncio.Future[None]] = []
        self._offer_id = 0
        self._pending_offer: proto.SessionDescription | None = None
        self._scheduled = False
        self._ice_restart = False
        self._timer: asyncio.TimerHandle | None = None

    def on_message(self, label: str, payload: bytes, binary: bool) -> None:
        self.session.on_data(label, payload)

    def on_state(self, state: str) -> None:
        self.session.on_transport_state(self, state)

    # --- offering --------------------------------------------------------------------------------------------------

    def add_sections(self, kind: str, count: int) -> None:
        if count:
            for mid in self.peer.add_receive(kind, count):
                self.sections[mid] = (kind, False)

    def open_data_channels(self) -> None:
        for label, ordered, max_retransmits in DATA_CHANNELS:
            self.peer.add_data_channel(label, ordered, max_retransmits)

    def first_offer(self) -> proto.SessionDescription:
        """The offer that travels inside the join request."""
        self._offered.append(self._quiet_future())
        return self._make_offer()

    def negotiate(self, *, ice_restart: bool = False) -> asyncio.Future[None]:
        """Offer what changed. The future is done when the answer was applied, or fails with ConnectError."""
        future = self._quiet_future()
        if self.closed:
            future.set_exception(ConnectError("the connection is closed"))
            return future
        self._wanted.append(future)
        self._ice_restart |= ice_restart
        self._schedule()
        return future

    def _quiet_future(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.engine.loop.create_future()
        # Not everybody waits for it; an error nobody asked about is logged where it happens.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    def _schedule(self) -> None:
        # Later in this turn of the loop, so that changes made together share an offer.
        if not self._scheduled and self._pending_offer is None:
            self._scheduled = True
            self.engine.loop.call_soon(self._offer)

    def _offer(self) -> None:
        self._scheduled = False
        if self.closed or self._pending_offer is not None or not self._wanted:
            return
        self._offered, self._wanted = self._wanted, []
        try:
            offer = self._make_offer()
        except (RuntimeError, ValueError) as error:
            self._negotiation_failed(f"no offer could be made: {error}")
            return
        self.session.send(proto.SignalRequest(offer=offer))

    def _make_offer(self) -> proto.SessionDescription:
        sdp = self.peer.create_offer(self._ice_restart)
        self._ice_restart = False
        self._offer_id += 1
        self._pending_offer = proto.SessionDescription(type="offer", sdp=sdp, id=self._offer_id)
        self._timer = self.engine.loop.call_later(ANSWER_TIMEOUT, self._unanswered)
        return self._pending_offer

    def resend_pending_offer(self) -> None:
        """After a resume: what was under way when the socket broke was perhaps never read."""
        if self._pending_offer is not None:
            self.session.send(proto.SignalRequest(offer=self._pending_offer))

    def _unanswered(self) -> None:
        if self._pending_offer is not None:
            self._negotiation_failed(f"the server did not answer an offer within {ANSWER_TIMEOUT:g} s")
            self.session.on_negotiation_failed(self)

    def _negotiation_failed(self, why: str) -> None:
        logger.warning("%s", why)
        self._pending_offer = None
        failed, self._offered = self._offered, []
        for future in failed:
            if not future.done():
                future.set_exception(ConnectError(why))

    def handle_answer(self, answer: proto.SessionDescription) -> dict[str, str] | None:
        """Apply it. Mid to track sid for all that the server sends; None when the answer is not for our offer."""
        if self._pending_offer is None or (answer.id and answer.id != self._offer_id):
            logger.debug("ignored answer %d: offer %d is the newest", answer.id, self._offer_id)
            return None
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.peer.set_answer(answer.sdp)
        except (RuntimeError, ValueError) as error:
            self._negotiation_failed(f"the server's answer cannot be applied: {error}")
            self.session.on_negotiation_failed(self)
            return None
        self.local_description, self._pending_offer = self._pending_offer, None
        self.remote_description = answer
        self.described()
        answered, self._offered = self._offered, []
        self.release(answered)
        if self._wanted:
            self._schedule()
        return dict(answer.mid_to_track_id) or track_sids(answer.sdp)

    # --- being offered (the subscriber of dual mode) ---------------------------------------------------------------

    def handle_offer(self, offer: proto.SessionDescription) -> dict[str, str]:
        """Answer it. Mid to track sid for all that the server sends. ValueError when it cannot be applied."""
        sdp = self.peer.accept_offer(offer.sdp)
        self.remote_description = offer
        self.local_description = proto.SessionDescription(type="answer", sdp=sdp, id=offer.id)
        self.session.send(proto.SignalRequest(answer=self.local_description))
        self.described()
        return dict(offer.mid_to_track_id) or track_sids(offer.sdp)

    def handle_trickle(self, candidate_init: str) -> None:
        try:
            candidate = json.loads(candidate_init)["candidate"]
        except (ValueError, KeyError, TypeError):
            logger.warning("dropped a candidate that cannot be parsed")
            return
        if not candidate or not isinstance(candidate, str):
            return
        self.add_candidate(candidate)

    def close(self) -> None:
        """Twice is fine."""
        if self.closed:
            return
        super().close()
        if self._timer is not None:
            self._timer.cancel()
        failed, self._offered, self._wanted = self._offered + self._wanted, [], []
        for future in failed:
            if not future.done():
                future.set_exception(ConnectError("the connection was closed"))
