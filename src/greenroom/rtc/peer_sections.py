"""The media sections of a connection without a room: which of our tracks goes out on which, and what the other side sends."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from .enums import TrackKind
from .messages import TrackPublishOptions
from .native_peer import NativePeer
from .sdp import Section
from .track import LocalAudioTrack, LocalTrack, LocalVideoTrack, RemoteTrack, local_core
from .transceiver import Transceiver

KINDS = {"audio": TrackKind.KIND_AUDIO, "video": TrackKind.KIND_VIDEO}
WORDS = {kind: word for word, kind in KINDS.items()}
DIRECTIONS = {
    (True, True): "sendrecv",
    (True, False): "sendonly",
    (False, True): "recvonly",
    (False, False): "inactive",
}
"""By whether we send and whether we receive."""


class Settled(NamedTuple):
    """What an exchange of descriptions has changed."""

    ended: list[tuple[RemoteTrack, Transceiver]]
    began: list[tuple[RemoteTrack, Transceiver]]


class PeerSections:
    def __init__(self, peer: NativePeer) -> None:
        self._peer = peer
        self._cids: dict[LocalTrack, str] = {}
        self.transceivers: list[Transceiver] = []
        self.changed = False
        """Sections that were negotiated are wanted otherwise now."""

    @property
    def negotiation_needed(self) -> bool:
        """Whether there is something that an offer would say."""
        return self.changed or any(not each.placed and each.direction != "inactive" for each in self.transceivers)

    # --- what the program wants --------------------------------------------------------------------------------------

    def send(
        self, track: LocalTrack, options: TrackPublishOptions | None, direction: str, *, addable: bool
    ) -> Transceiver:
        """On a section that is free when `addable`, else on one of its own. ValueError when that track cannot be sent."""
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
        chosen = self._free(track.kind, kept) if addable else None
        if chosen is None:
            chosen = self._add(track.kind, receive=receive, addable=addable)
        else:
            self.set_receiving(chosen, receive)
        chosen.local_track, chosen.options, chosen.placed = track, kept, False
        local_core(track).connect(self._peer, "")
        self._cids[track] = str(uuid.uuid4())
        return chosen

    def receive(self, kind: Literal["audio", "video"]) -> Transceiver:
        return self._add(KINDS[kind], receive=True, addable=False)

    def _add(self, kind: TrackKind, *, receive: bool, addable: bool) -> Transceiver:
        made = Transceiver(self._peer, kind, receive=receive, addable=addable)
        self.transceivers.append(made)
        return made

    def _free(self, kind: TrackKind, options: TrackPublishOptions) -> Transceiver | None:
        """A section that can send and does not: the other side wants something on it, or we had something there."""
        if options.get("simulcast", False):
            return None
        free = (
            each
            for each in self.transceivers
            if each.kind == kind and each.addable and each.mid and each.local_track is None and not each.stopped
        )
        return next(free, None)

    def remove(self, track_or_transceiver: LocalTrack | Transceiver) -> None:
        """ValueError when it is not sent here."""
        found = next((t for t in self.transceivers if track_or_transceiver in (t, t.local_track)), None)
        if found is None or found.local_track is None:
            raise ValueError(f"{track_or_transceiver!r} is not sent by this connection")
        placed = found.placed
        self._drop(found)
        if not placed and not found.mid:
            self.transceivers.remove(found)
            return
        found.addable = found.placed = True
        self.changed = self.changed or placed

    def _drop(self, transceiver: Transceiver) -> None:
        track = transceiver.drop_local()
        if track is not None:
            self._cids.pop(track, None)

    def set_receiving(self, transceiver: Transceiver, receiving: bool) -> None:
        if transceiver not in self.transceivers:
            raise ValueError(f"{transceiver!r} is not of this connection")
        if transceiver.receive == receiving:
            return
        transceiver.receive = receiving
        if transceiver.mid:
            self._peer.peer.set_receiving(transceiver.mid, receiving)
            self.changed = True

    # --- negotiation -------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """Tell the native core what is new, for our next offer. ConnectError when it is over."""
        for each in self.transceivers:
            if each.placed or each.direction == "inactive":
                continue
            if each.local_track is not None:
                self._peer.call(each.send_on, self._cids[each.local_track])
            elif not each.mid:
                [each.mid] = self._peer.call(self._peer.peer.add_receive, WORDS[each.kind], 1)
                each.placed = True

    @contextmanager
    def placed_on(self, offered: list[Section], known: set[str]) -> Iterator[None]:
        """Our tracks go out on what the other side offers; a ValueError within takes that back.

        Args:
            known: the mids that were negotiated before.
        """
        placed = []
        try:
            for section, ours, track in self._matched(offered):
                ours.mid = section.mid
                placed.append(ours)
                self._peer.call(ours.send_on, self._cids[track])
            yield
        except ValueError:
            for ours in placed:
                if ours.placed:
                    self._peer.call(self._peer.peer.remove_send, ours.mid)
                ours.mid, ours.placed = (ours.mid if ours.mid in known else ""), False
            raise

    def _matched(self, offered: list[Section]) -> list[tuple[Section, Transceiver, LocalTrack]]:
        """Which of our tracks go out on which of the offered sections."""
        by_mid = {each.mid: each for each in self.transceivers if each.mid}
        waiting = {t: t.local_track for t in self.transceivers if t.local_track is not None and not t.placed}
        found = []
        for section in offered:
            if not section.is_media or not section.receives:
                continue
            ours = by_mid.get(section.mid)
            if ours is None:
                fits = (t for t in waiting if not t.mid and t.addable and t.kind == KINDS[section.kind])
                ours = next((t for t in fits if not t.options.get("simulcast", False)), None)
            if ours is not None and (track := waiting.pop(ours, None)) is not None:
                found.append((section, ours, track))
        return found

    def settle(self, local: list[Section], remote: list[Section]) -> Settled:
        """Both descriptions are there: make the sections what they say."""
        ours_by_mid = {section.mid: section for section in local}
        by_mid = {each.mid: each for each in self.transceivers if each.mid}
        settled = Settled([], [])
        for section in remote:
            ours = ours_by_mid.get(section.mid)
            if not section.is_media or ours is None:
                continue
            each = by_mid.pop(section.mid, None)
            if each is None:
                each = self._add(KINDS[section.kind], receive=True, addable=section.receives)
                each.mid, each.placed = section.mid, True
            each.addable = each.addable or section.receives
            receiving, sending = ours.receives and section.sends, ours.sends and section.receives
            each.current_direction = DIRECTIONS[sending, receiving]
            old, new = each.update(section, receiving)
            settled.ended.extend([(old, each)] if old is not None else [])
            settled.began.extend([(new, each)] if new is not None else [])
            if section.rejected:
                each.stopped = True
                self._drop(each)
        for gone in by_mid.values():
            # Its place was given to a section of another name, unless our next offer brings it.
            if gone.current_direction:
                self._drop(gone)
                old = gone.end_remote()
                settled.ended.extend([(old, gone)] if old is not None else [])
                self.transceivers.remove(gone)
        return settled

    # --- the rest ----------------------------------------------------------------------------------------------------

    def kinds(self) -> dict[str, str]:
        """By mid."""
        return {each.mid: WORDS[each.kind] for each in self.transceivers}

    def end(self) -> list[tuple[RemoteTrack, Transceiver]]:
        """Nothing is sent or received any more. Returns what was received."""
        ended = []
        for each in self.transceivers:
            self._drop(each)
            if (track := each.end_remote()) is not None:
                ended.append((track, each))
        return ended
