"""A peer connection without a room: for gateways and browsers with which a program exchanges descriptions itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Literal, Self

from . import sdp
from .data_channel import DataChannel
from .engine import get_engine
from .errors import ConnectError
from .event_emitter import EventEmitter
from .log import logger
from .messages import TrackPublishOptions
from .native_peer import NativePeer
from .peer_channels import PeerChannels
from .peer_sections import KINDS, PeerSections
from .stats import RtcStats, peer_stats
from .track import LocalTrack
from .transceiver import Transceiver

PeerConnectionEvent = Literal["connection_state_changed", "data_channel", "negotiation_needed", "track", "track_ended"]


class PeerConnectionState(StrEnum):
    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    """The other side has answered no checks for about 15 s; it may come back by itself."""
    FAILED = "failed"
    """Not connected in time, or disconnected for too long: an ICE restart may help. Or the other side said goodbye, or the
    connection broke: then nothing does. `PeerConnection.failure` says which."""
    CLOSED = "closed"


class PeerConnection(EventEmitter[PeerConnectionEvent]):
    """Audio, video and messages between this program and one other side, in the terms of the W3C's `RTCPeerConnection`.

    Descriptions are exchanged by the program. They are complete: all candidates of this side (host candidates over UDP, of
    all IPv4 addresses) are in each, and none comes later. Media sections and data channels share one transport.

    Events, which may have coroutine functions for handlers:
        "track" (RemoteTrack, Transceiver): a stream comes in; also on a section that is used again.
        "track_ended" (RemoteTrack, Transceiver): it does no more; its `AudioStream`s and `VideoStream`s have ended.
        "data_channel" (DataChannel): the other side opened one.
        "connection_state_changed" (PeerConnectionState).
        "negotiation_needed" (): something was added or removed that the next offer will say.

    Args:
        connect_timeout: seconds from the exchange of descriptions until "failed", unless it is connected.
        disconnect_timeout: seconds from "disconnected" until "failed".

    Close it with `aclose`, or use it with `async with`: until then its sockets are open. Calls on a connection that is
    closed or broken raise ConnectError, impossible arguments ValueError.
    """

    def __init__(self, *, connect_timeout: float = 30.0, disconnect_timeout: float = 15.0) -> None:
        super().__init__()
        self._peer = _Peer(self._native_state, lambda channel: self._tell("data_channel", channel))
        self._loop = self._peer.engine.loop
        self._connect_timeout = connect_timeout
        self._disconnect_timeout = disconnect_timeout
        self._state = PeerConnectionState.NEW
        self._sections = PeerSections(self._peer)
        self._channels = self._peer.data
        self._local = self._remote = self._offer = ""
        self._restart = self._offered_restart = False
        self._asked = False
        self._broken = False
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def connection_state(self) -> PeerConnectionState:
        return self._state

    @property
    def signaling_state(self) -> str:
        """ "stable", "have-local-offer" or "closed"."""
        if self._peer.closed:
            return "closed"
        return "have-local-offer" if self._offer else "stable"

    @property
    def failure(self) -> str:
        """A sentence when the state is "failed"."""
        return self._peer.failure

    @property
    def local_description(self) -> str:
        """The SDP that was negotiated last, or the offer that waits for its answer."""
        return self._offer or self._local

    @property
    def remote_description(self) -> str:
        return self._remote

    @property
    def transceivers(self) -> list[Transceiver]:
        return list(self._sections.transceivers)

    @property
    def negotiation_needed(self) -> bool:
        """Whether there is something that an offer would say."""
        if self._peer.closed or self._broken:
            return False
        return self._sections.negotiation_needed or self._restart or self._channels.unsaid

    # --- media -----------------------------------------------------------------------------------------------------

    def add_track(
        self,
        track: LocalTrack,
        options: TrackPublishOptions | None = None,
        *,
        direction: Literal["sendrecv", "sendonly"] = "sendrecv",
    ) -> Transceiver:
        """Send a track, from the next negotiation on. "sendonly" is what WHIP wants.

        It goes out on a section that the other side offers and that nothing is sent on yet, on one whose track was removed,
        or on one of its own. Several connections can send one source: make a track for each.

        Args:
            options: codec, bitrates and the stream's name (`stream`). Unset ones mean no DTX, no RED and no simulcast,
                and VP8. Only a section of its own can have simulcast.

        Raises:
            ValueError: it is no local track, or one that a connection sends already.
        """
        self._check_open()
        added = self._sections.send(track, options, direction, addable=True)
        self._ask()
        return added

    def add_transceiver(
        self,
        track_or_kind: LocalTrack | Literal["audio", "video"],
        direction: Literal["sendrecv", "sendonly", "recvonly"] = "recvonly",
        options: TrackPublishOptions | None = None,
    ) -> Transceiver:
        """A section of its own in the next offer: for a track of ours, or, by its kind, for one of the other side's.

        Raises:
            ValueError: a track with "recvonly", or a kind with another direction.
        """
        self._check_open()
        if not isinstance(track_or_kind, str):
            added = self._sections.send(track_or_kind, options, direction, addable=False)
        elif track_or_kind in KINDS and direction == "recvonly":
            added = self._sections.receive(track_or_kind)
        else:
            raise ValueError(f"{track_or_kind!r} with {direction!r}: without a track it is audio or video and recvonly")
        self._ask()
        return added

    def remove_track(self, track_or_transceiver: LocalTrack | Transceiver) -> None:
        """Send it no more; the other side learns it from the next offer. The track may be sent by another connection at
        once. ValueError when it is not sent here."""
        self._check_open()
        self._sections.remove(track_or_transceiver)
        self._ask()

    def set_receiving(self, transceiver: Transceiver, receiving: bool) -> None:
        """Whether we want what the other side sends on this section, from the next negotiation on."""
        self._check_open()
        self._sections.set_receiving(transceiver, receiving)
        self._ask()

    # --- data ------------------------------------------------------------------------------------------------------

    def create_data_channel(
        self, label: str, *, ordered: bool = True, max_retransmits: int | None = None
    ) -> DataChannel:
        """A channel of ours. The first one needs a negotiation, unless the other side has offered data channels.

        Channels are told apart by their labels: of two with one label, opened by either side, the newest is written to,
        and the messages of both arrive at one object.

        Raises:
            ValueError: the label is in use or longer than 255 bytes, or `max_retransmits` is not 0 to 65535.
        """
        self._check_open()
        channel = self._channels.create(label, ordered, max_retransmits)
        if not self._has_data():
            self._channels.unsaid = True
            self._ask()
        return channel

    def _has_data(self) -> bool:
        """Whether both sides have agreed on the section of data channels."""
        return any(section.kind == "application" for section in sdp.sections(self._local)) if self._local else False

    # --- negotiation -----------------------------------------------------------------------------------------------

    async def negotiate(
        self, exchange: Callable[[str], Awaitable[str]], *, ice_restart: bool = False, timeout: float = 15.0
    ) -> None:
        """Make an offer, have it answered by `exchange(offer)`, and apply the answer. Calls take turns.

        Raises:
            ConnectError: no answer within `timeout` seconds. The offer is taken back, as it is when `exchange` raises.
            ValueError: the answer cannot be used.
        """
        try:
            async with asyncio.timeout(timeout):
                async with self._turn:
                    offer = await self.create_offer(ice_restart=ice_restart)
                    try:
                        await self.set_answer(await exchange(offer))
                    except BaseException:
                        if self._offer == offer and not self._peer.closed and not self._broken:
                            self.rollback()
                        raise
        except TimeoutError:
            raise ConnectError(f"the offer was not answered within {timeout:g} s") from None

    async def create_offer(self, *, ice_restart: bool = False) -> str:
        """An offer of everything that was added. It is in force at once (there is no setLocalDescription), until
        `set_answer`, `rollback`, or an offer of the other side that is accepted.

        Raises:
            ConnectError: an offer waits for its answer already, or there is nothing to offer.
        """
        self._check_open()
        if self._offer:
            raise ConnectError("an offer waits for its answer: set_answer or rollback comes first")
        self._sections.place()
        restart = ice_restart or self._restart
        self._offer = self._peer.call(self._peer.peer.create_offer, restart)
        self._sections.changed = False
        self._offered_restart, self._restart = restart, False
        return self._offer

    def rollback(self) -> None:
        """Take back the offer that waits for its answer; what it said goes into the next one."""
        self._check_open()
        if not self._offer:
            return
        self._peer.call(self._peer.peer.rollback)
        self._offer = ""
        # Something was new in it, or it would not have been made.
        self._sections.changed = True
        self._restart |= self._offered_restart
        self._ask()

    async def set_answer(self, answer: str) -> None:
        """Apply the other side's answer to the offer that waits.

        Raises:
            ConnectError: no offer waits for an answer.
            ValueError: it is no answer to our offer. When it cannot even be read, the offer still waits; when it does not
                fit, the offer is taken back.
        """
        self._check_open()
        if not self._offer:
            raise ConnectError("no offer waits for an answer")
        found = sdp.check(answer)
        try:
            self._peer.call(self._peer.peer.set_answer, answer)
        except ValueError:
            self.rollback()
            raise
        self._local, self._offer, self._remote = self._offer, "", answer
        self._channels.unsaid = False
        self._described(found)

    async def accept_offer(self, offer: str) -> str:
        """Apply the other side's offer. Returns our answer.

        An offer of ours that waits is taken back first, also when theirs then cannot be used; its changes go into the next
        one. Whoever must not give way does not call this while `signaling_state` is "have-local-offer".

        Raises:
            ValueError: the offer cannot be read, or not be used; the connection stays as it was.
        """
        self._check_open()
        found = sdp.check(offer)
        self.rollback()
        known = {section.mid for section in sdp.sections(self._local)} if self._local else set()
        with self._sections.placed_on(found, known):
            answer: str = self._peer.call(self._peer.peer.accept_offer, offer)
        self._local, self._remote = answer, offer
        if self._has_data():
            self._channels.unsaid = False
        self._described(found)
        return answer

    async def set_remote_description(self, type: Literal["offer", "answer"], sdp: str) -> str | None:
        """`accept_offer` or `set_answer`, by the type of the description. Returns the answer to an offer."""
        if type == "offer":
            return await self.accept_offer(sdp)
        if type != "answer":
            raise ValueError(f"a description of type {type!r} cannot be applied: it is an offer or an answer")
        await self.set_answer(sdp)
        return None

    def restart_ice(self) -> None:
        """Find a new path with the next offer."""
        self._check_open()
        self._restart = True
        self._ask()

    async def add_ice_candidate(self, candidate: str | None) -> None:
        """A candidate of the other side, `candidate:...`; None, "" or "end-of-candidates" is their end, which nothing waits for.

        Those that come before a description wait for it, a hundred at most. What cannot be used (TCP, an mDNS name) is left
        out; the other side's checks are answered all the same.

        Raises:
            ValueError: it is no candidate. The sentence says what is wrong with it.
        """
        self._check_open()
        if candidate is None or not sdp.check_candidate(candidate):
            return
        if not self._peer.call(self._peer.add_candidate, candidate):
            logger.warning("dropped a candidate: too many came before the description")

    def _described(self, remote: list[sdp.Section]) -> None:
        """Both descriptions are there: make the sections what they say, and tell what began and ended."""
        self._peer.described()
        settled = self._sections.settle(sdp.sections(self._local), remote)
        if self._state in (PeerConnectionState.NEW, PeerConnectionState.FAILED):
            # After a failure: with what was agreed now it may be connected again.
            self._peer.failure = ""
            self._set_state(PeerConnectionState.CONNECTING)
            self._set_timer(self._connect_timeout, f"no connection was made within {self._connect_timeout:g} s")
        for track, each in settled.ended:
            self._tell("track_ended", track, each)
        for track, each in settled.began:
            self._tell("track", track, each)
        self._ask()

    def _ask(self) -> None:
        """Tell the program, later in this turn of the loop, that an offer is due."""
        if not self._asked and not self._offer and self.negotiation_needed:
            self._asked = True
            self._loop.call_soon(self._tell_needed)

    def _tell_needed(self) -> None:
        self._asked = False
        if not self._offer and self.negotiation_needed:
            self._tell("negotiation_needed")

    # --- state -----------------------------------------------------------------------------------------------------

    async def wait_connected(self, timeout: float = 15.0) -> None:
        """ConnectError when it is not connected within `timeout` seconds, or when it failed or was closed."""
        await self._peer.wait_connected(timeout)

    async def stats(self) -> list[RtcStats]:
        """Of the path and of each section, at most a second old. Empty when there is no connection any more."""
        if self._peer.closed or self._broken:
            return []
        figures = self._peer.stats()
        kinds = self._sections.kinds().items()
        return peer_stats(figures, {mid: (kind, figures.get(mid, {}).get("sending", False)) for mid, kind in kinds})

    def _native_state(self, state: str) -> None:
        """What the native core says."""
        if state == "connected":
            self._set_timer(0, "")
            self._set_state(PeerConnectionState.CONNECTED)
        elif state == "disconnected":
            why = f"the other side did not come back within {self._disconnect_timeout:g} s"
            self._set_timer(self._disconnect_timeout, why)
            self._set_state(PeerConnectionState.DISCONNECTED)
        else:
            self._broken = True
            self._set_timer(0, "")
            self._end_everything()
            self._set_state(PeerConnectionState.FAILED)

    def _set_timer(self, seconds: float, why: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds:
            self._timer = self._loop.call_later(seconds, self._give_up, why)

    def _give_up(self, why: str) -> None:
        self._peer.fail(why)
        self._set_state(PeerConnectionState.FAILED)

    def _set_state(self, state: PeerConnectionState) -> None:
        if state is not self._state:
            self._state = state
            self._tell("connection_state_changed", state)

    def _tell(self, event: PeerConnectionEvent, *arguments: Any) -> None:
        """A mistake in a handler is its author's affair."""
        try:
            self.emit(event, *arguments)
        except TypeError:
            logger.exception("a handler of %r failed", event)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._peer.closed:
            raise ConnectError("the connection is closed")
        if self._broken:
            raise ConnectError(f"the connection is over: {self._peer.failure}")

    def _end_everything(self) -> None:
        for track, each in self._sections.end():
            self._tell("track_ended", track, each)
        self._channels.end()

    async def aclose(self) -> None:
        """Say goodbye and drop everything: streams end, tracks may be sent elsewhere. Twice is fine."""
        if self._peer.closed:
            return
        self._set_timer(0, "")
        self._peer.close()
        self._end_everything()
        self._set_state(PeerConnectionState.CLOSED)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"rtc.PeerConnection(connection_state={self._state.value!r}, transceivers={len(self._sections.transceivers)})"


class _Peer(NativePeer):
    """Hands the native core's events to the connection that owns it."""

    def __init__(self, on_state: Callable[[str], None], on_channel: Callable[[DataChannel], None]) -> None:
        super().__init__(get_engine())
        self._on_state = on_state
        self.data = PeerChannels(self, on_channel)

    def on_message(self, label: str, payload: bytes, binary: bool) -> None:
        self.data.received(label, payload, binary)

    def on_channel(self, label: str, is_open: bool) -> None:
        self.data.changed(label, is_open)

    def on_state(self, state: str) -> None:
        self._on_state(state)
