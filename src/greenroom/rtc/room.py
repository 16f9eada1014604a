"""The room: connecting, what is in it, and its events."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from livekit.protocol import models, rtc as proto

from .data_stream import ByteStreamHandler, TextStreamHandler
from .e2ee import E2EEManager, E2EEOptions
from .enums import (
    ConnectionState,
    ContinualGatheringPolicy,
    DataPacketKind,
    DisconnectReason,
    IceTransportType,
    SimulateScenarioKind,
)
from .errors import ConnectError as ConnectError  # the official package has it in this module
from .event_emitter import EventEmitter
from .local_participant import LocalParticipant
from .messages import IceServer
from .participant import RemoteParticipant
from .room_core import RoomCore
from .stats import RtcStats as RtcStatsEntry, peer_stats
from .views import Views

EventTypes = Literal[
    "participant_connected",
    "participant_disconnected",
    "participant_active",
    "local_track_published",
    "local_track_unpublished",
    "local_track_republished",
    "local_track_subscribed",
    "track_published",
    "track_unpublished",
    "track_subscribed",
    "track_unsubscribed",
    "track_subscription_failed",
    "track_muted",
    "track_unmuted",
    "active_speakers_changed",
    "room_metadata_changed",
    "participant_metadata_changed",
    "participant_name_changed",
    "participant_attributes_changed",
    "connection_quality_changed",
    "participant_encryption_status_changed",
    "participant_permissions_changed",
    "data_received",
    "sip_dtmf_received",
    "transcription_received",
    "e2ee_state_changed",
    "connection_state_changed",
    "connected",
    "disconnected",
    "reconnecting",
    "reconnected",
    "room_updated",
    "moved",
    "token_refreshed",
    "data_track_published",
    "data_track_unpublished",
]

RESERVED_TOPICS = "lk.rpc_"


@dataclass
class RtcConfiguration:
    """Accepted for compatibility: connections use host candidates, which is what room servers need."""

    ice_transport_type: int = IceTransportType.TRANSPORT_ALL
    continual_gathering_policy: int = ContinualGatheringPolicy.GATHER_CONTINUALLY
    ice_servers: list[IceServer] = field(default_factory=list)


@dataclass
class DataStreamOptions:
    max_payload_byte_length: int | None = None
    """Bytes that one incoming stream may hold, decompressed; a larger one ends with StreamError."""


@dataclass
class RoomOptions:
    auto_subscribe: bool = True
    dynacast: bool = False
    e2ee: E2EEOptions | None = None
    """Deprecated name of `encryption`."""
    encryption: E2EEOptions | None = None
    """Refused by `connect`: see `greenroom.rtc.e2ee`."""
    rtc_config: RtcConfiguration | None = None
    connect_timeout: float | None = None
    """Seconds for each attempt to reach the server; default 5."""
    single_peer_connection: bool | None = None
    """One connection for both directions (True), two (False), or one if the server can (None)."""
    data_stream: DataStreamOptions | None = None


@dataclass
class DataPacket:
    """`participant` is None for data sent through the server's API."""

    data: bytes
    kind: DataPacketKind
    participant: RemoteParticipant | None
    topic: str | None = None


@dataclass
class SipDTMF:
    code: int
    digit: str
    participant: RemoteParticipant | None = None


@dataclass
class RtcStats:
    """With one peer connection everything is in `publisher_stats`."""

    publisher_stats: list[RtcStatsEntry]
    subscriber_stats: list[RtcStatsEntry]


class Room(EventEmitter[EventTypes]):
    """A room of which one can be part. Also an async context manager that disconnects.

    Handlers may be functions or coroutine functions. Events that belong to the time of connecting are delivered right
    after `connect` has returned.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__()
        self._core = RoomCore(self._run_handlers)
        self._remote_participants = Views(self._core.remotes)
        self._e2ee_manager = E2EEManager()

    @property
    def _info(self) -> models.Room:
        """Private in the official package too; its agents look here."""
        return self._core.info

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def local_participant(self) -> LocalParticipant:
        """Ourselves. RuntimeError before `connect`."""
        if self._core.local is None:
            raise RuntimeError("cannot access local participant before connecting")
        return self._core.local.view

    @property
    def remote_participants(self) -> Mapping[str, RemoteParticipant]:
        """Identity to participant."""
        return self._remote_participants

    @property
    def connection_state(self) -> ConnectionState:
        return self._core.connection_state

    def isconnected(self) -> bool:
        """True also while a lost connection is being mended."""
        return self._core.connected

    @property
    async def sid(self) -> str:
        """`await room.sid`. RuntimeError when the room is, or becomes, disconnected without having had one."""
        return await self._core.sid()

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def metadata(self) -> str:
        return self._info.metadata

    @property
    def e2ee_manager(self) -> E2EEManager:
        return self._e2ee_manager

    @property
    def num_participants(self) -> int:
        """As the server counts; updated every few seconds."""
        return self._info.num_participants

    @property
    def num_publishers(self) -> int:
        """As the server counts; updated every few seconds."""
        return self._info.num_publishers

    @property
    def creation_time(self) -> datetime.datetime:
        """In UTC."""
        milliseconds = self._info.creation_time_ms or self._info.creation_time * 1000
        return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)

    @property
    def is_recording(self) -> bool:
        return self._info.active_recording

    @property
    def departure_timeout(self) -> float:
        """Seconds that the room stays open after the last participant left."""
        return float(self._info.departure_timeout)

    @property
    def empty_timeout(self) -> float:
        """Seconds that the room stays open when nobody joins."""
        return float(self._info.empty_timeout)

    # --- connecting ------------------------------------------------------------------------------------------------

    async def connect(self, url: str, token: str, options: RoomOptions | None = None) -> None:
        """Join the room that `token` is for.

        Args:
            url: of the server: `ws://host:7880`; wss, http and https are fine too.
            token: an access token (see `greenroom.api.AccessToken`).

        Raises:
            ConnectError: the server cannot be reached, refuses us, or no media connection can be made. The message
                says which; `status` is the HTTP status, if there was one. Also when `disconnect` is called meanwhile.

        Cancelled at whatever moment it leaves nobody in the room.
        """
        await self._core.connect(url, token, options or RoomOptions())

    async def disconnect(self, *, reason: int = DisconnectReason.CLIENT_INITIATED) -> None:
        """Leave. Open streams end, tracks end, `disconnected` is emitted. Twice is fine.

        What was sent reliably before arrives, and calls that are being answered here are answered, as far as 0.5 s suffice;
        new calls are not taken meanwhile. Without a connection nothing is waited for.

        While `connect` is at work it is ended, and raises ConnectError. Cancelled, leaving goes on by itself, at once.
        """
        await self._core.disconnect(DisconnectReason(reason))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    # --- events ----------------------------------------------------------------------------------------------------

    def on(self, event: EventTypes, callback: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Call `callback`, a function or coroutine function, on every `event`. Also a decorator.

        ================================  =============================================================
        event                             arguments
        ================================  =============================================================
        participant_connected, _active,   participant
        _disconnected
        track_published, _unpublished     publication, participant
        track_subscribed, _unsubscribed   track, publication, participant
        track_subscription_failed         participant, track sid, error
        track_muted, track_unmuted        participant, publication
        local_track_published             publication, track
        local_track_unpublished           publication
        local_track_republished           publication, previous sid (after a full reconnect)
        local_track_subscribed            track
        active_speakers_changed           participants, loudest first
        room_metadata_changed             old, new
        participant_metadata_changed,     participant, old, new
        participant_name_changed
        participant_attributes_changed    changed attributes, participant
        participant_permissions_changed   participant, permissions
        connection_quality_changed        participant, quality
        data_received                     DataPacket
        sip_dtmf_received                 SipDTMF
        transcription_received            segments, participant, publication
        connection_state_changed          state
        disconnected                      reason
        connected, reconnecting,          none
        reconnected, room_updated,
        moved, token_refreshed
        data_track_published              track
        data_track_unpublished            sid
        ================================  =============================================================
        """
        return super().on(event, callback)

    def events(self, event: EventTypes, *, capacity: int = 1000) -> AsyncIterator[tuple[Any, ...]]:
        """Iterate over the arguments of each `event`: `async for track, *_ in room.events("track_subscribed")`."""
        return super().events(event, capacity=capacity)

    # --- streams and statistics ------------------------------------------------------------------------------------

    def register_text_stream_handler(self, topic: str, handler: TextStreamHandler) -> None:
        """Call `handler(reader, participant_identity)` for incoming text streams. ValueError when the topic has one."""
        self._register_handler(self._core.streams.text_handlers, topic, handler, "text")

    def unregister_text_stream_handler(self, topic: str) -> None:
        if not topic.startswith(RESERVED_TOPICS):
            self._core.streams.text_handlers.pop(topic, None)

    def register_byte_stream_handler(self, topic: str, handler: ByteStreamHandler) -> None:
        """Call `handler(reader, participant_identity)` for incoming byte streams. ValueError when the topic has one."""
        self._register_handler(self._core.streams.byte_handlers, topic, handler, "byte")

    def unregister_byte_stream_handler(self, topic: str) -> None:
        self._core.streams.byte_handlers.pop(topic, None)

    @staticmethod
    def _register_handler(handlers: dict[str, Any], topic: str, handler: Any, kind: str) -> None:
        if topic.startswith(RESERVED_TOPICS):
            raise ValueError(f"topics starting with {RESERVED_TOPICS!r} carry RPC and cannot be taken")
        if topic in handlers:
            raise ValueError(f"{kind} stream handler for topic '{topic}' already set")
        handlers[topic] = handler

    async def get_rtc_stats(self) -> RtcStats:
        """RuntimeError when not connected."""
        session = self._core.session
        if session is None or session.publisher is None:
            raise RuntimeError("the room isn't connected")
        publisher, subscriber = session.publisher, session.subscriber
        return RtcStats(
            publisher_stats=peer_stats(publisher.stats(), publisher.sections),
            subscriber_stats=peer_stats(subscriber.stats(), subscriber.sections) if subscriber is not None else [],
        )

    async def simulate_scenario(self, scenario: int) -> None:
        """Provoke a failure, for tests. RuntimeError when not connected, ValueError when it cannot be provoked."""
        session = self._core.session
        if session is None or not self.isconnected():
            raise RuntimeError("simulate_scenario requires a connected room")
        kind = SimulateScenarioKind(scenario)
        requests = {
            SimulateScenarioKind.SIMULATE_SPEAKER: proto.SimulateScenario(speaker_update=3),
            SimulateScenarioKind.SIMULATE_NODE_FAILURE: proto.SimulateScenario(node_failure=True),
            SimulateScenarioKind.SIMULATE_SERVER_LEAVE: proto.SimulateScenario(server_leave=True),
            SimulateScenarioKind.SIMULATE_MIGRATION: proto.SimulateScenario(migration=True),
            SimulateScenarioKind.SIMULATE_FULL_RECONNECT: proto.SimulateScenario(leave_request_full_reconnect=True),
            SimulateScenarioKind.SIMULATE_DISCONNECT_SIGNAL_ON_RESUME: proto.SimulateScenario(
                disconnect_signal_on_resume=True
            ),
        }
        if kind is SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT:
            session.recovery.start(full=False)
        elif kind in requests:
            session.send(proto.SignalRequest(simulate=requests[kind]))
        else:
            raise ValueError(f"{kind.name} cannot be simulated: media goes over UDP only")

    def __repr__(self) -> str:
        return (
            f"rtc.Room(sid={self._info.sid or 'unknown'}, name={self.name}, metadata={self.metadata}, "
            f"connection_state={self.connection_state.name})"
        )
