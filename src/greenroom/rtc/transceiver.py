"""A media section of a peer connection: what goes out on it and what comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .enums import TrackKind
from .log import logger
from .messages import TrackPublishOptions
from .sending import send_track
from .track import RemoteTrackCore, local_core

if TYPE_CHECKING:
    from .native_peer import NativePeer
    from .sdp import Section
    from .track import LocalTrack, RemoteTrack


class Transceiver:
    """Made by a `PeerConnection`. A section may send a track of ours, receive one of the other side's, or both."""

    def __init__(self, peer: NativePeer, kind: TrackKind, *, receive: bool, addable: bool) -> None:
        self._peer = peer
        self._kind = kind
        self.receive = receive
        """Whether the program wants what the other side sends. Change it with `PeerConnection.set_receiving`."""
        self.addable = addable
        """The other side's offer may give it a section."""
        self.placed = False
        """The native core knows of what it sends or receives."""
        self.mid = ""
        """The section's name in the descriptions; empty until an offer has named it."""
        self.local_track: LocalTrack | None = None
        self.options = TrackPublishOptions()
        self.current_direction = ""
        """What was negotiated last: sendrecv, sendonly, recvonly or inactive. Empty before that."""
        self.stopped = False
        """The other side has given the section up."""
        self._remote: RemoteTrackCore | None = None
        self.remote_stream_ids: tuple[str, ...] = ()
        self.remote_track_id = ""
        """Both out of the other side's `a=msid:STREAM TRACK`; empty when it says nothing."""

    @property
    def kind(self) -> TrackKind:
        return self._kind

    @property
    def remote_track(self) -> RemoteTrack | None:
        """What comes in. It ends with the stream; a section that is used again has another one."""
        return self._remote.view if self._remote is not None else None

    @property
    def direction(self) -> str:
        """What the program wants: sendrecv, sendonly, recvonly or inactive."""
        if self.local_track is not None:
            return "sendrecv" if self.receive else "sendonly"
        return "recvonly" if self.receive else "inactive"

    @property
    def muted(self) -> bool:
        """Whether our track is muted."""
        return self.local_track is not None and self.local_track.muted

    def mute(self) -> None:
        """Send nothing for now; no negotiation. The other side hears silence and sees its last picture."""
        if self.local_track is not None:
            self.local_track.mute()

    def unmute(self) -> None:
        if self.local_track is not None:
            self.local_track.unmute()

    # --- the connection's side ---------------------------------------------------------------------------------------

    def send_on(self, cid: str) -> None:
        """Hand our track to the native core, for the section that has `mid` or for a new one."""
        assert self.local_track is not None
        existing = self.mid or None
        self.mid = send_track(
            self._peer, self.local_track, cid, self.options, unset=False, mid=existing, receive=self.receive
        )
        core = local_core(self.local_track)
        core.connect(self._peer, self.mid)
        core.apply_mute()
        self.placed = True
        if existing:
            self._peer.peer.set_receiving(existing, self.receive)

    def drop_local(self) -> LocalTrack | None:
        """Send no more. Returns the track that was sent."""
        track, self.local_track = self.local_track, None
        if track is None:
            return None
        local_core(track).disconnect()
        if self.placed and self.mid and not self._peer.closed:
            try:
                self._peer.peer.remove_send(self.mid)
            except RuntimeError as error:
                logger.debug("section %s: %s", self.mid, error)
        return track

    def update(self, section: Section, receiving: bool) -> tuple[RemoteTrack | None, RemoteTrack | None]:
        """Take what the other side's description says. Returns the track that ended and the one that began, if any."""
        named = (section.stream_ids, section.track_id)
        ended = began = None
        renamed = any(named) and any((self.remote_stream_ids, self.remote_track_id)) and named != self.remote_name
        if self._remote is not None and (not receiving or renamed):
            ended = self.end_remote()
        if receiving:
            self.remote_stream_ids, self.remote_track_id = named
            if self._remote is None:
                track_id = section.track_id or self.mid
                self._remote = RemoteTrackCore(track_id, "", self._kind)
                self._remote.connect(self._peer, self.mid)
                began = self._remote.view
        return ended, began

    @property
    def remote_name(self) -> tuple[tuple[str, ...], str]:
        return self.remote_stream_ids, self.remote_track_id

    def end_remote(self) -> RemoteTrack | None:
        """Its streams end. Returns the track that was received."""
        core, self._remote = self._remote, None
        self.remote_stream_ids, self.remote_track_id = (), ""
        if core is None:
            return None
        core.end()
        return core.view

    def __repr__(self) -> str:
        kind = "audio" if self._kind == TrackKind.KIND_AUDIO else "video"
        return f"rtc.Transceiver(mid={self.mid!r}, kind={kind}, current_direction={self.current_direction!r})"
