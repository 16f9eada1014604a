"""A peer connection without a room: for gateways and browsers with which a program exchanges descriptions itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Literal, Self

from . import sdp
from .data_channel import DataChannel, EarlyMessages
from .engine import get_engine
from .enums import TrackKind
from .errors import ConnectError
from .event_emitter import EventEmitter
from .log import logger
from .messages import TrackPublishOptions
from .native_peer import NativePeer
from .stats import RtcStats, peer_stats
from .track import LocalAudioTrack, LocalTrack, LocalVideoTrack, RemoteTrack, local_core
from .transceiver import Transceiver

PeerConnectionEvent = Literal["connection_state_changed", "data_channel", "negotiation_needed", "track", "track_ended"]
KINDS = {"audio": TrackKind.KIND_AUDIO, "video": TrackKind.KIND_VIDEO}
MAX_CHANNELS = 1000
"""Open data channels; those that the other side opens beyond that are closed."""
MAX_LABEL = 255
"""Bytes in UTF-8."""


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
        self._peer = _Peer(self)
        self._loop = self._peer.engine.loop
        self._connect_timeout = connect_timeout
        self._disconnect_timeout = disconnect_timeout
        self._state = PeerConnectionState.NEW
        self._transceivers: list[Transceiver] = []
        self._channels: dict[str, DataChannel] = {}
        self._early = EarlyMessages()
        self._cids: dict[LocalTrack, str] = {}
        self._local = self._remote = self._offer = ""
        self._changed = self._offered_change = False
        self._restart = self._offered_restart = False
        self._unsaid_channels: set[str] = set()
        """Labels of channels for which there must be an offer."""
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
        return list(self._transceivers)

    @property
    def negotiation_needed(self) -> bool:
        """Whether there is something that an offer would say."""
        if self._peer.closed or self._broken:
            return False
        unplaced = any(not each.placed and each.direction != "inactive" for each in self._transceivers)
        return unplaced or self._changed or self._restart or bool(self._unsaid_channels)

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
        return self._send(track, options, direction, addable=True)

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
            return self._send(track_or_kind, options, direction, addable=False)
        if track_or_kind not in KINDS or direction != "recvonly":
            raise ValueError(f"{track_or_kind!r} with {direction!r}: without a track it is audio or video and recvonly")
        made = Transceiver(self._peer, KINDS[track_or_kind], receive=True, addable=False)
        self._transceivers.append(made)
        self._ask()
        return made

    def _send(
        self, track: LocalTrack, options: TrackPublishOptions | None, direction: str, *, addable: bool
    ) -> Transceiver:
        self._check_open()
        if not isinstance(track, LocalAudioTrack | LocalVideoTrack):
            raise ValueError(f"{track!r} is not a local track")
        if local_core(track).transport is not None:
            raise ValueError(f"{track!r} is sent by a connection already")
        if direction not in ("sendrecv", "sendonly"):
            raise ValueError(f"a track cannot be sent {direction!r}")
        kept = TrackPublishOptions()
        if options is not None:
            kept.CopyFrom(options)
        receive = direction == "sendrecv"
        chosen = self._free_section(track.kind, kept) if addable else None
        if chosen is None:
            chosen = Transceiver(self._peer, track.kind, receive=receive, addable=addable)
            self._transceivers.append(chosen)
        elif chosen.receive != receive:
            self._set_receiving(chosen, receive)
        chosen.local_track, chosen.options, chosen.placed = track, kept, False
        local_core(track).connect(self._peer, "")
        self._cids[track] = str(uuid.uuid4())
        self._ask()
        return chosen

    def _free_section(self, kind: TrackKind, options: TrackPublishOptions) -> Transceiver | None:
        """A section that can send and does not: the other side wants something on it, or we had something there."""
        if options.get("simulcast", False):
            return None
        free = (
            each
            for each in self._transceivers
            if each.kind == kind and each.addable and each.mid and each.local_track is None and not each.stopped
        )
        return next(free, None)

    def remove_track(self, track_or_transceiver: LocalTrack | Transceiver) -> None:
        """Send it no more; the other side learns it from the next offer. The track may be sent by another connection at
        once. ValueError when it is not sent here."""
        self._check_open()
        found = next((t for t in self._transceivers if track_or_transceiver in (t, t.local_track)), None)
        if found is None or found.local_track is None:
            raise ValueError(f"{track_or_transceiver!r} is not sent by this connection")
        placed = found.placed
        self._drop(found)
        if not placed and not found.mid:
            self._transceivers.remove(found)
            return
        found.addable = found.placed = True
        self._changed = self._changed or placed
        self._ask()

    def _drop(self, transceiver: Transceiver) -> None:
        track = transceiver.drop_local()
        if track is not None:
            self._cids.pop(track, None)

    def set_receiving(self, transceiver: Transceiver, receiving: bool) -> None:
        """Whether we want what the other side sends on this section, from the next negotiation on."""
        self._check_open()
        if transceiver not in self._transceivers:
            raise ValueError(f"{transceiver!r} is not of this connection")
        if transceiver.receive != receiving:
            self._set_receiving(transceiver, receiving)
            self._ask()

    def _set_receiving(self, transceiver: Transceiver, receiving: bool) -> None:
        transceiver.receive = receiving
        if transceiver.mid:
            self._peer.peer.set_receiving(transceiver.mid, receiving)
            self._changed = True

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
        if not label or len(label.encode()) > MAX_LABEL:
            raise ValueError(f"a label has 1 to {MAX_LABEL} bytes, not {len(label.encode())}")
        if label in self._channels:
            raise ValueError(f"there is a data channel {label!r} already")
        if max_retransmits is not None and not 0 <= max_retransmits < 1 << 16:
            raise ValueError(f"max_retransmits is 0 to 65535, not {max_retransmits}")
        self._call(self._peer.peer.add_data_channel, label, ordered, max_retransmits)
        channel = self._channels[label] = DataChannel(self._peer, self._early, label, ordered, max_retransmits)
        if not self._has_data():
            self._unsaid_channels.add(label)
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
        for each in self._transceivers:
            if each.placed or each.direction == "inactive":
                continue
            if each.local_track is not None:
                self._call(each.send_on, self._cids[each.local_track])
            elif not each.mid:
                [each.mid] = self._call(self._peer.peer.add_receive, _word(each.kind), 1)
                each.placed = True
        restart = ice_restart or self._restart
        self._offer = self._call(self._peer.peer.create_offer, restart)
        self._offered_change, self._changed = self._changed, False
        self._offered_restart, self._restart = restart, False
        return self._offer

    def rollback(self) -> None:
        """Take back the offer that waits for its answer; what it said goes into the next one."""
        self._check_open()
        if not self._offer:
            return
        self._call(self._peer.peer.rollback)
        self._offer = ""
        # Something was new in it, or it would not have been made.
        self._changed = True
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
            self._call(self._peer.peer.set_answer, answer)
        except ValueError:
            self.rollback()
            raise
        self._local, self._offer, self._remote = self._offer, "", answer
        self._unsaid_channels.clear()
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
        placed = []
        try:
            for section, transceiver in self._matched(found):
                transceiver.mid = section.mid
                self._call(transceiver.send_on, self._cids[self._track_of(transceiver)])
                placed.append((transceiver, section))
            answer: str = self._call(self._peer.peer.accept_offer, offer)
        except ValueError:
            known = {section.mid for section in sdp.sections(self._local)} if self._local else set()
            for transceiver, section in placed:
                self._call(self._peer.peer.remove_send, section.mid)
                transceiver.mid, transceiver.placed = (section.mid if section.mid in known else ""), False
            raise
        self._local, self._remote = answer, offer
        if self._has_data():
            self._unsaid_channels.clear()
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
        if not self._call(self._peer.add_candidate, candidate):
            logger.warning("dropped a candidate: too many came before the description")

    @staticmethod
    def _track_of(transceiver: Transceiver) -> LocalTrack:
        assert transceiver.local_track is not None
        return transceiver.local_track

    def _matched(self, found: list[sdp.Section]) -> list[tuple[sdp.Section, Transceiver]]:
        """Which of our tracks go out on which of the offered sections."""
        by_mid = {each.mid: each for each in self._transceivers if each.mid}
        waiting = [each for each in self._transceivers if each.local_track is not None and not each.placed]
        pairs = []
        for section in found:
            if not section.is_media or not section.receives:
                continue
            ours = by_mid.get(section.mid)
            if ours is None:
                fits = (t for t in waiting if not t.mid and t.addable and t.kind == KINDS[section.kind])
                ours = next((t for t in fits if not t.options.get("simulcast", False)), None)
            if ours in waiting and ours is not None:
                waiting.remove(ours)
                pairs.append((section, ours))
        return pairs

    def _described(self, remote: list[sdp.Section]) -> None:
        """Both descriptions are there: make the sections what they say, and tell what began and ended."""
        self._peer.described()
        local = {section.mid: section for section in sdp.sections(self._local)}
        by_mid = {each.mid: each for each in self._transceivers if each.mid}
        ended: list[tuple[RemoteTrack, Transceiver]] = []
        began: list[tuple[RemoteTrack, Transceiver]] = []
        for section in remote:
            ours = local.get(section.mid)
            if not section.is_media or ours is None:
                continue
            each = by_mid.pop(section.mid, None)
            if each is None:
                each = Transceiver(self._peer, KINDS[section.kind], receive=True, addable=section.receives)
                each.mid, each.placed = section.mid, True
                self._transceivers.append(each)
            each.addable = each.addable or section.receives
            receiving, sending = ours.receives and section.sends, ours.sends and section.receives
            each.current_direction = _DIRECTION[sending, receiving]
            old, new = each.update(section, receiving)
            ended += [(old, each)] if old is not None else []
            began += [(new, each)] if new is not None else []
            if section.rejected:
                each.stopped = True
                self._drop(each)
        for gone in by_mid.values():
            # Its place was given to a section of another name, unless our next offer brings it.
            if gone.current_direction:
                self._drop(gone)
                old = gone.end_remote()
                ended += [(old, gone)] if old is not None else []
                self._transceivers.remove(gone)
        if self._state in (PeerConnectionState.NEW, PeerConnectionState.FAILED):
            # After a failure: with what was agreed now it may be connected again.
            self._peer.failure = ""
            self._set_state(PeerConnectionState.CONNECTING)
            self._set_timer(self._connect_timeout, f"no connection was made within {self._connect_timeout:g} s")
        for event, tracks in (("track_ended", ended), ("track", began)):
            for track, each in tracks:
                self._tell(event, track, each)  # type: ignore[arg-type]
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
        sections = {
            each.mid: (_word(each.kind), figures.get(each.mid, {}).get("sending", False)) for each in self._transceivers
        }
        return peer_stats(figures, sections)

    def native_state(self, state: str) -> None:
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

    def channel_changed(self, label: str, is_open: bool) -> None:
        """What the native core says."""
        channel = self._channels.get(label)
        if not is_open:
            if channel is not None:
                del self._channels[label]
                channel.closed()
            return
        if channel is None:
            if len(self._channels) >= MAX_CHANNELS:
                logger.warning("closed data channel %r: there are %d already", label, MAX_CHANNELS)
                self._peer.peer.close_channel(label)
                return
            channel = self._channels[label] = DataChannel(self._peer, self._early, label)
            self._tell("data_channel", channel)
        channel.opened()

    def message_came(self, label: str, payload: bytes, binary: bool) -> None:
        """What the native core says."""
        channel = self._channels.get(label)
        if channel is not None:
            channel.received(payload, binary)

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

    @staticmethod
    def _call(function: Callable[..., Any], *arguments: Any) -> Any:
        """A native call; what does not fit its state is a ConnectError."""
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise ConnectError(str(error)) from None

    def _end_everything(self) -> None:
        for each in self._transceivers:
            self._drop(each)
            if (track := each.end_remote()) is not None:
                self._tell("track_ended", track, each)
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.closed()

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
        return f"rtc.PeerConnection(connection_state={self._state.value!r}, transceivers={len(self._transceivers)})"


_DIRECTION = {
    (True, True): "sendrecv",
    (True, False): "sendonly",
    (False, True): "recvonly",
    (False, False): "inactive",
}
"""By whether we send and whether we receive."""


def _word(kind: TrackKind) -> str:
    return "audio" if kind == TrackKind.KIND_AUDIO else "video"


class _Peer(NativePeer):
    """Hands the native core's events to the connection that owns it."""

    def __init__(self, owner: PeerConnection) -> None:
        super().__init__(get_engine())
        self._owner = owner

    def on_message(self, label: str, payload: bytes, binary: bool) -> None:
        self._owner.message_came(label, payload, binary)

    def on_channel(self, label: str, is_open: bool) -> None:
        self._owner.channel_changed(label, is_open)

    def on_state(self, state: str) -> None:
        self._owner.native_state(state)
