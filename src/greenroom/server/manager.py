"""All rooms of a process, and the native core's events on their way to them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode
from livekit.protocol import models, room as room_proto, rtc

from . import ids
from .endings import Endings
from .events import LOSSY_LABELS, EventQueue
from .participant import Action, Participant, Reason
from .room import Room
from .rules import Referee, Rules
from .session import sync_state
from .settings import RoomSettings
from .tracks import PublishedTrack
from .turns import Turns

if TYPE_CHECKING:
    from greenroom._native import MediaServer

    from .auth import Auth, Authenticator

__all__ = ["MediaFailed", "RoomEvent", "RoomManager", "RoomNotFound", "TooManyRooms", "TooManyTracks"]

logger = logging.getLogger(__name__)


class RoomNotFound(LookupError):
    """The room does not exist and may not be made by joining it (HTTP 404)."""


class TooManyRooms(RuntimeError):
    """The configured number of rooms is reached (HTTP 503)."""


class TooManyTracks(TooManyRooms):
    """The configured number of tracks is reached: the server takes nobody else (HTTP 503)."""


class MediaFailed(RuntimeError):
    """The media core failed for good: no call can be made in this process any more (HTTP 503)."""


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """Something that webhooks, dispatch and metrics want to know.

    kind: room_started, room_finished, participant_joined (a session was made), participant_active (its media is
    connected), participant_left (after it was active), participant_connection_aborted (before), track_published,
    track_unpublished.
    """

    kind: str
    room: Room
    participant: Participant | None = None
    track: models.TrackInfo | None = None


class RoomManager:
    """Owns the rooms. Make it and call `start` inside the running event loop; end with `close`."""

    def __init__(
        self, settings: RoomSettings, media: MediaServer, authenticator: Authenticator, rules: Rules | None = None
    ) -> None:
        """`authenticator` signs the tokens that sessions are refreshed with. `rules`: the application's own."""
        self.settings = settings
        self.media = media
        self.sign = authenticator.refresh
        self.numbers = ids.NativeIds()
        self.limited: Counter[str] = Counter()
        """What was held back, refused or dropped because of a budget or a bound, by reason."""
        self.referee = Referee(rules or Rules(), self.limited)
        self.data_dropped: Counter[str] = Counter()
        """Data packets that were not forwarded in rooms that are closed, by reason."""
        self.turns = Turns()
        self.endings = Endings()
        self.rooms: dict[str, Room] = {}
        """By name."""
        self._by_number: dict[int, Room] = {}
        self._peers: dict[int, Participant] = {}
        self._tracks: dict[int, PublishedTrack] = {}
        self._observers: list[Callable[[RoomEvent], None]] = []
        self.before_leaving: Callable[[Participant], None] = lambda _participant: None
        """Called when the end of a session is decided and its media can still be looked at."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure = ""
        self._failed = asyncio.Event()
        self._events = EventQueue(self._handle, self._peers.get, self._data_overflowed)

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen to the native core."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.media.event_fd, self.handle_events)

    async def close(self) -> None:
        """Close all rooms (SERVER_SHUTDOWN) and stop listening. The media server stays the caller's."""
        for room in list(self.rooms.values()):
            self._close_room(room, Reason.SERVER_SHUTDOWN)
        if self._loop:
            self._loop.remove_reader(self.media.event_fd)
            self._loop = None
        self._events.close()
        # The sockets' writers get a turn to send the farewell.
        await asyncio.sleep(0)

    @property
    def failure(self) -> str:
        """Why the media core can serve nobody any more, in one sentence; empty while it can."""
        return self._failure

    async def failed(self) -> str:
        """Wait until the media core failed for good. Returns `failure`."""
        await self._failed.wait()
        return self._failure

    # --- observers -----------------------------------------------------------------------------------------------

    def on(self, callback: Callable[[RoomEvent], None]) -> Callable[[], None]:
        """Call `callback` for every event, synchronously, in order. Returns what undoes it."""
        self._observers.append(callback)
        return lambda: self._observers.remove(callback) if callback in self._observers else None

    def emit(
        self,
        kind: str,
        room: Room,
        participant: Participant | None = None,
        track: models.TrackInfo | None = None,
    ) -> None:
        event = RoomEvent(kind, room, participant, track)
        for observer in list(self._observers):
            try:
                observer(event)
            except Exception:
                # An observer's mistake must not end a call.
                logger.exception("observer of %s failed", kind)

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def create_room(self, request: room_proto.CreateRoomRequest) -> Room:
        """The live room of that name unchanged, or a new one. Raises TooManyRooms, MediaFailed."""
        return self.rooms.get(request.name) or self._open(request)

    def get_room(self, name: str) -> Room | None:
        return self.rooms.get(name)

    def list_rooms(self, names: Sequence[str] = ()) -> list[models.Room]:
        """All rooms, or those of `names` that exist."""
        rooms = [self.rooms[name] for name in names if name in self.rooms] if names else self.rooms.values()
        return [room.to_proto() for room in rooms]

    async def delete_room(self, name: str) -> bool:
        """Send everybody away and end the room. False when there is none."""
        room = self.rooms.get(name)
        if room is None:
            return False
        self._close_room(room, Reason.ROOM_DELETED)
        return True

    def check_room(self, name: str) -> None:
        """Whether the room can be joined. Raises RoomNotFound, TooManyRooms, TooManyTracks, MediaFailed."""
        self._check_media()
        if self.settings.num_tracks and self.track_count() >= self.settings.num_tracks:
            raise TooManyTracks("too many tracks on this server")
        if name in self.rooms:
            return
        if not self.settings.auto_create:
            raise RoomNotFound("requested room does not exist")
        if self.settings.max_rooms and len(self.rooms) >= self.settings.max_rooms:
            raise TooManyRooms("too many rooms")

    def room_for(self, name: str, auth: Auth) -> Room:
        """The room to join, made if need be. Raises RoomNotFound, TooManyRooms, TooManyTracks, MediaFailed."""
        self.check_room(name)
        if room := self.rooms.get(name):
            return room
        claims = auth.claims
        request = room_proto.CreateRoomRequest(name=name, room_preset=claims.room_preset or "")
        if claims.room_config is not None:
            _apply(request, claims.room_config)
        return self._open(request)

    def _check_media(self) -> None:
        if self._failure:
            raise MediaFailed("the media core failed; the server is about to end")

    def _open(self, request: room_proto.CreateRoomRequest) -> Room:
        self._check_media()
        if self.settings.max_rooms and len(self.rooms) >= self.settings.max_rooms:
            raise TooManyRooms("too many rooms")
        wanted = room_proto.CreateRoomRequest()
        wanted.CopyFrom(request)
        if preset := self.settings.room_configurations.get(request.room_preset):
            _apply(wanted, preset)
        room = Room(self, self.numbers(), wanted)
        self.rooms[room.name] = room
        self._by_number[room.number] = room
        self.emit("room_started", room)
        return room

    def room_expired(self, room: Room) -> None:
        self._close_room(room, Reason.ROOM_CLOSED)

    def _close_room(self, room: Room, reason: models.DisconnectReason, action: Action = Action.DISCONNECT) -> None:
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
        self._by_number.pop(room.number, None)
        room.close(reason, action)

    # --- the native core's names ---------------------------------------------------------------------------------

    def register_peer(self, number: int, participant: Participant) -> None:
        self._peers[number] = participant

    def forget_peer(self, number: int) -> None:
        self._peers.pop(number, None)

    def register_track(self, track: PublishedTrack) -> None:
        self._tracks[track.number] = track

    def track_count(self) -> int:
        """Published and received tracks."""
        return len(self._tracks) + sum(len(track.subscriptions) for track in self._tracks.values())

    def forget_track(self, track: PublishedTrack) -> None:
        self._tracks.pop(track.number, None)

    def sync_state(self, participant: Participant, state: rtc.SyncState) -> None:
        sync_state(participant, state)

    def handle_events(self) -> None:
        """Take and distribute what the native core has to say."""
        self._events.add(self.media.poll_events())

    def _data_overflowed(self, sender: Participant, label: str) -> None:
        """A data message was dropped, because too many of its sender's wait already."""
        sender.room.data.dropped["over_budget"] += 1
        self.limited["data"] += 1
        budget = sender.data_budget
        if not budget.warned:
            budget.warned = True
            logger.warning("%s in %s: more data than its budget: dropped", sender.identity, sender.room.name)
        if label not in LOSSY_LABELS and budget.flooded(asyncio.get_running_loop().time()):
            # Reliable messages are lost and the sender does not stop: better an end than a stream with holes.
            self.limited["flood_data"] += 1
            logger.warning("%s in %s: too much data: sent away", sender.identity, sender.room.name)
            sender.close(Reason.PARTICIPANT_REMOVED, code=WSCloseCode.POLICY_VIOLATION, text="too much data")

    def _handle(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == "shard_restarted":
            self._shard_restarted(event[1], event[2])
            return
        if kind == "shard_failed":
            self._fail(f"media shard {event[1]} has failed for good ({event[2]})")
            return
        if kind == "shard_stuck":
            self._fail(f"media shard {event[1]} is stuck ({event[2]})")
            return
        if kind == "speakers":
            self._speakers(event[1], event[2])
            return
        if kind == "track":
            _, number, layer, ssrc, pt = event
            if track := self._tracks.get(number):
                track.publisher.room.media_arrived(track, layer, ssrc, pt)
            return
        participant = self._peers.get(event[1])
        if participant is None:
            return
        if kind == "data":
            _, _, label, payload, _ = event
            participant.room.data.receive(participant, label, payload)
        elif kind in ("connected", "reconnected"):
            participant.peer_connected(event[1])
        elif kind == "disconnected":
            logger.info(
                "%s in %s: transport silent or closed by the client", participant.identity, participant.room.name
            )
        elif kind == "lost":
            participant.peer_lost(event[1], resumable=True)
        elif kind == "failed":
            logger.warning("%s in %s: transport failed: %s", participant.identity, participant.room.name, event[2])
            participant.peer_lost(event[1], resumable=False)
        elif kind == "dropped":
            participant.room.data.dropped["slow_reader"] += event[3]
        elif kind == "unread":
            participant.room.data.unread(participant, event[2])

    def _shard_restarted(self, shard: int, reason: str) -> None:
        """The shard forgot its peers. Rooms stay as they are; everybody in them joins anew."""
        rooms = [room for room in self.rooms.values() if self.media.shard_of(room.number) == shard]
        people = [participant for room in rooms for participant in room.participants.values()]
        logger.error(
            "media shard %d failed and was started anew: %s. %d participants in %d rooms are told to join again",
            *(shard, reason, len(people), len(rooms)),
        )
        for participant in people:
            participant.media_lost()

    def _fail(self, what: str) -> None:
        """Nothing here can repair it: say so once, send everybody to the process that follows."""
        if self._failure:
            return
        self._failure = what
        logger.error(
            "%s: this process can carry no more calls. It ends now, clients join again once it is back: have a "
            "supervisor start it again, and report this line if it recurs.",
            what,
        )
        for room in list(self.rooms.values()):
            self._close_room(room, Reason.SERVER_SHUTDOWN, Action.RECONNECT)
        self._failed.set()

    def _speakers(self, number: int, entries: Iterable[tuple[int, float, bool]]) -> None:
        if room := self._by_number.get(number):
            room.speakers(
                (track, level, active) for number, level, active in entries if (track := self._tracks.get(number))
            )


def _apply(request: room_proto.CreateRoomRequest, preset: room_proto.RoomConfiguration) -> None:
    """What the request leaves open is taken from the configuration (`roomConfig` claim or named preset)."""
    for name in ("empty_timeout", "departure_timeout", "max_participants", "metadata", "min_playout_delay",
                 "max_playout_delay", "sync_streams"):  # fmt: skip
        if not getattr(request, name):
            setattr(request, name, getattr(preset, name))
    if not request.agents:
        request.agents.extend(preset.agents)
    if preset.HasField("egress") and not request.HasField("egress"):
        request.egress.CopyFrom(preset.egress)
    for key, value in preset.tags.items():
        if key not in request.tags:
            request.tags[key] = value
