"""One peer connection: its negotiation, its data channels and the sections on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livekit.protocol import rtc as proto

from .engine import Engine
from .errors import ConnectError
from .log import logger

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
    found: dict[str, str] = {}
    mid = sid = ""
    sending = True
    for line in [*sdp.splitlines(), "m="]:
        if line.startswith("m="):
            if mid and sid.startswith("TR_") and sending:
                found[mid] = sid
            mid = sid = ""
            sending = True
        elif line.startswith("a=mid:"):
            mid = line[6:].strip()
        elif line.startswith("a=msid:"):
            sid = line[7:].split(" ")[-1].strip()
        elif line in ("a=recvonly", "a=inactive"):
            sending = False
    return found


class Transport:
    """A native peer. At most one offer is on its way; changes that come meanwhile go into the next one."""

    def __init__(self, engine: Engine, session: Session, target: int) -> None:
        from greenroom import _native

        self.engine = engine
        self.session = session
        self.target = target
        self.peer = _native.Peer(engine.native)
        self.connected = False
        self.failure = ""
        self.channels: set[str] = set()
        self.sections: dict[str, tuple[str, bool]] = {}
        """mid to (kind, outbound), for statistics."""
        self.local_description: proto.SessionDescription | None = None
        self.remote_description: proto.SessionDescription | None = None
        self._wanted: list[asyncio.Future[None]] = []
        self._offered: list[asyncio.Future[None]] = []
        self._offer_id = 0
        self._pending_offer: proto.SessionDescription | None = None
        self._scheduled = False
        self._ice_restart = False
        self._timer: asyncio.TimerHandle | None = None
        self._early_candidates: list[str] = []
        self._described = False
        self._state_waiters: list[asyncio.Future[None]] = []
        self._drain_waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._closed = False
        self._id = self.peer.id
        engine.peers[self._id] = self._on_event

    @property
    def closed(self) -> bool:
        return self._closed

    def fail(self, why: str) -> None:
        """It will not be connected any more: tell those who wait."""
        self.failure = why
        self._state_changed()

    # --- events ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: tuple[Any, ...]) -> None:
        match event[0]:
            case "data":
                self.session.on_data(event[2], bytes(event[3]))
            case "drained":
                self._release(self._drain_waiters.pop(event[2], []))
            case "connected":
                self.connected, self.failure = True, ""
                self._state_changed()
                self.session.on_transport_state(self, "connected")
            case "disconnected":
                self.connected = False
                self._state_changed()
                self.session.on_transport_state(self, "disconnected")
            case "failed":
                self.connected, self.failure = False, str(event[2])
                self._state_changed()
                self.session.on_transport_state(self, "failed")
            case "channel":
                self.channels.add(event[2])
                self._state_changed()

    @staticmethod
    def _release(waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _state_changed(self) -> None:
        waiters, self._state_waiters = self._state_waiters, []
        self._release(waiters)

    async def wait_for(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Until `condition` holds. ConnectError when it does not within `timeout`, or when the connection failed."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._closed:
                        raise ConnectError(f"{what}: the connection was closed")
                    if self.failure:
                        raise ConnectError(f"{what}: {self.failure}")
                    waiter = self.engine.loop.create_future()
                    self._state_waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise ConnectError(f"{what}: nothing within {timeout:g} s") from None

    async def wait_connected(self, timeout: float) -> None:
        await self.wait_for(lambda: self.connected, timeout, "the media connection could not be made")

    async def wait_channel(self, label: str, timeout: float) -> None:
        await self.wait_for(lambda: label in self.channels, timeout, f"data channel {label} could not be opened")

    async def wait_drained(self, label: str, timeout: float) -> bool:
        """Until the channel's buffer is low again. False after `timeout`."""
        waiter = self.engine.loop.create_future()
        self._drain_waiters.setdefault(label, []).append(waiter)
        done, _ = await asyncio.wait([waiter], timeout=timeout)
        return bool(done)

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
        if self._closed:
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
        if self._closed or self._pending_offer is not None or not self._wanted:
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
        self._now_described()
        answered, self._offered = self._offered, []
        self._release(answered)
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
        self._now_described()
        return dict(offer.mid_to_track_id) or track_sids(offer.sdp)

    def _now_described(self) -> None:
        self._described = True
        early, self._early_candidates = self._early_candidates, []
        for candidate in early:
            self.peer.add_candidate(candidate)

    def handle_trickle(self, candidate_init: str) -> None:
        try:
            candidate = json.loads(candidate_init)["candidate"]
        except (ValueError, KeyError, TypeError):
            logger.warning("dropped a candidate that cannot be parsed")
            return
        if not candidate or not isinstance(candidate, str):
            return
        if self._described:
            self.peer.add_candidate(candidate)
        elif len(self._early_candidates) < 100:
            self._early_candidates.append(candidate)

    # --- the rest --------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        return self.peer.stats()

    def close(self) -> None:
        """Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self.connected = False
        if self._timer is not None:
            self._timer.cancel()
        self.engine.peers.pop(self._id, None)
        self.peer.close()
        self._offered += self._wanted
        self._wanted = []
        failed, self._offered = self._offered, []
        for future in failed:
            if not future.done():
                future.set_exception(ConnectError("the connection was closed"))
        self._state_changed()
        for waiters in self._drain_waiters.values():
            self._release(waiters)
