"""The room: connecting, what is in it, and its events."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from livekit.protocol import models, rtc as proto

from . import room_state
from .data_stream import ByteStreamHandler, TextStreamHandler
from .data_track import DataTrackManager
from .e2ee import E2EEManager, E2EEOptions
from .enums import (
    ConnectionState,
    ContinualGatheringPolicy,
    DataPacketKind,
    DisconnectReason,
    IceTransportType,
    SimulateScenarioKind,
)
from .errors import ConnectError
from .event_emitter import EventEmitter
from .local_participant import LocalParticipant
from .log import logger
from .messages import IceServer
from .participant import Participant, RemoteParticipant
from .room_data import route_packet
from .session import Session
from .stats import RtcStats as RtcStatsEntry, peer_stats
from .stream_receiver import StreamReceiver
from .transport import Transport

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
        self._loop = loop
        self._info = models.Room()
        self._token: str | None = None
        self._server_url: str | None = None
        self._session: Session | None = None
        self._local_participant: LocalParticipant | None = None
        self._remote_participants: dict[str, RemoteParticipant] = {}
        self._connection_state = ConnectionState.CONN_DISCONNECTED
        self._streams = StreamReceiver()
        self._data_track_manager = DataTrackManager(self)
        self._e2ee_manager = E2EEManager()
        self._connecting = False
        self._joining: asyncio.Task[None] | None = None
        """`connect` at work."""
        self._leaving: asyncio.Task[None] | None = None
        """`disconnect` at work; it goes on when its caller does not."""
        self._held: list[tuple[Any, ...]] = []
        """Events that wait until `connect` has returned."""
        self._sid_waiters: list[asyncio.Future[str]] = []
        self._state = room_state.RoomState(self)

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def local_participant(self) -> LocalParticipant:
        """Ourselves. RuntimeError before `connect`."""
        if self._local_participant is None:
            raise RuntimeError("cannot access local participant before connecting")
        return self._local_participant

    @property
    def remote_participants(self) -> Mapping[str, RemoteParticipant]:
        """Identity to participant."""
        return self._remote_participants

    @property
    def connection_state(self) -> ConnectionState:
        return self._connection_state

    def isconnected(self) -> bool:
        """True also while a lost connection is being mended."""
        return self._connection_state != ConnectionState.CONN_DISCONNECTED

    @property
    async def sid(self) -> str:
        """`await room.sid`. RuntimeError when the room is, or becomes, disconnected without having had one."""
        if self._info.sid:
            return self._info.sid
        if not self.isconnected() and not self._connecting:
            raise RuntimeError("cannot get sid of a disconnected room")
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sid_waiters.append(waiter)
        return await waiter

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
        options = options or RoomOptions()
        await self._has_left()
        if self._connecting or self.isconnected():
            raise ConnectError("this room is connected already: use another Room, or disconnect first")
        if options.encryption or options.e2ee:
            raise ConnectError("end-to-end encryption is not available: connect without the `encryption` option")
        self._server_url, self._token = url, token
        if options.data_stream is not None and options.data_stream.max_payload_byte_length is not None:
            self._streams.max_payload = options.data_stream.max_payload_byte_length
        self._connecting = True
        session = self._session = Session(self, url, token, options)
        joining = self._joining = session.loop.create_task(self._join(session), name="connect")
        try:
            await joining
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                raise ConnectError("disconnect() was called while we were connecting") from None
            if not joining.cancelled() and joining.exception() is None:
                # It succeeded in the same moment, but nobody will know.
                await self.disconnect()
            raise
        session.loop.call_soon(self._release_events)

    async def _join(self, session: Session) -> None:
        try:
            join = await session.join()
            self._state.joined(join)
            await session.wait_media()
            if session.closed:
                raise ConnectError("the server ended the session while we were connecting")
        except BaseException as error:
            self._session = None
            self._held.clear()
            self._connecting = False
            self._fail_sid_waiters()
            self._leaving = session.loop.create_task(session.leave(DisconnectReason.JOIN_FAILURE), name="give up")
            await asyncio.shield(self._leaving)
            if isinstance(error, RuntimeError | ValueError):
                raise ConnectError(f"cannot connect: {error}") from error
            raise
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        self._emit("connected")
        self._connecting = False

    async def _has_left(self) -> None:
        while self._leaving is not None and not self._leaving.done():
            await asyncio.shield(self._leaving)

    async def disconnect(self, *, reason: int = DisconnectReason.CLIENT_INITIATED) -> None:
        """Leave. Open streams end, tracks end, `disconnected` is emitted. Twice is fine.

        While `connect` is at work it is ended, and raises ConnectError. Cancelled, leaving goes on by itself.
        """
        if self._connecting and self._joining is not None:
            self._joining.cancel()
            await asyncio.wait([self._joining])
        session = self._session
        if session is None or not self.isconnected():
            await self._has_left()
            return
        self._connection_state = ConnectionState.CONN_DISCONNECTED
        self._session = None
        self._release_events()
        self._leaving = session.loop.create_task(self._leave(session, DisconnectReason(reason)), name="leave room")
        await asyncio.shield(self._leaving)

    async def _leave(self, session: Session, reason: DisconnectReason) -> None:
        if self._local_participant is not None:
            await self._local_participant._rpc.close()
        await session.leave(reason)
        self._ended(reason)

    def _ended(self, reason: DisconnectReason) -> None:
        """Everything that lives on the connection ends; what was known of the room stays readable."""
        self._session = None
        self._connection_state = ConnectionState.CONN_DISCONNECTED
        self._streams.close()
        self._data_track_manager.close()
        self._state.end_all_tracks()
        if self._local_participant is not None:
            self._local_participant._info.disconnect_reason = cast("models.DisconnectReason", int(reason))
            self._local_participant._room_left()
        self._fail_sid_waiters()
        self._emit_safely("connection_state_changed", self._connection_state)
        self._emit_safely("disconnected", reason)

    def _fail_sid_waiters(self) -> None:
        waiters, self._sid_waiters = self._sid_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(RuntimeError("room disconnected before receiving sid"))

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

    def _emit(self, event: EventTypes, *args: Any) -> None:
        """Emit now, or, while connecting, after `connect` has returned; the order stays."""
        if self._connecting or self._held:
            self._held.append((event, *args))
            return
        self._emit_safely(event, *args)

    def _emit_safely(self, event: EventTypes, *args: Any) -> None:
        error = self._run_handlers(event, args)
        if error is not None:
            # A mistake in a handler is its author's affair, not a reason to lose other events.
            logger.error("a handler of %r failed", event, exc_info=error)

    def _release_events(self) -> None:
        index = 0
        while index < len(self._held):
            self._emit_safely(*self._held[index])
            index += 1
        self._held.clear()

    def _set_connection_state(self, state: ConnectionState) -> None:
        if self._connection_state != state:
            self._connection_state = state
            self._emit("connection_state_changed", state)

    # --- streams and statistics ------------------------------------------------------------------------------------

    def register_text_stream_handler(self, topic: str, handler: TextStreamHandler) -> None:
        """Call `handler(reader, participant_identity)` for incoming text streams. ValueError when the topic has one."""
        self._register_handler(self._streams.text_handlers, topic, handler, "text")

    def unregister_text_stream_handler(self, topic: str) -> None:
        if not topic.startswith(RESERVED_TOPICS):
            self._streams.text_handlers.pop(topic, None)

    def register_byte_stream_handler(self, topic: str, handler: ByteStreamHandler) -> None:
        """Call `handler(reader, participant_identity)` for incoming byte streams. ValueError when the topic has one."""
        self._register_handler(self._streams.byte_handlers, topic, handler, "byte")

    def unregister_byte_stream_handler(self, topic: str) -> None:
        self._streams.byte_handlers.pop(topic, None)

    @staticmethod
    def _register_handler(handlers: dict[str, Any], topic: str, handler: Any, kind: str) -> None:
        if topic.startswith(RESERVED_TOPICS):
            raise ValueError(f"topics starting with {RESERVED_TOPICS!r} carry RPC and cannot be taken")
        if topic in handlers:
            raise ValueError(f"{kind} stream handler for topic '{topic}' already set")
        handlers[topic] = handler

    async def get_rtc_stats(self) -> RtcStats:
        """RuntimeError when not connected."""
        if self._session is None or self._session.publisher is None:
            raise RuntimeError("the room isn't connected")
        publisher, subscriber = self._session.publisher, self._session.subscriber
        return RtcStats(
            publisher_stats=peer_stats(publisher.stats(), publisher.sections),
            subscriber_stats=peer_stats(subscriber.stats(), subscriber.sections) if subscriber is not None else [],
        )

    async def simulate_scenario(self, scenario: int) -> None:
        """Provoke a failure, for tests. RuntimeError when not connected, ValueError when it cannot be provoked."""
        session = self._session
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

    # --- what the session tells ------------------------------------------------------------------------------------

    def on_signal(self, message: proto.SignalResponse) -> None:
        self._state.handle(message)

    def on_tracks(self, transport: Transport, track_by_mid: dict[str, str]) -> None:
        self._state.set_tracks(transport, track_by_mid)

    def on_packet(self, packet: models.DataPacket, label: str) -> None:
        route_packet(self, packet, label)

    def on_data_track_packet(self, payload: bytes) -> None:
        self._data_track_manager.handle_packet(payload)

    def on_reconnecting(self) -> None:
        self._set_connection_state(ConnectionState.CONN_RECONNECTING)
        self._emit("reconnecting")

    def on_resuming(self, unsent: list[proto.SignalRequest]) -> None:
        self._state.resuming(unsent)

    def on_resumed(self) -> None:
        self._state.resumed()
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        self._emit("reconnected")

    def on_rejoined(self, join: proto.JoinResponse) -> None:
        self._state.rejoined(join)

    async def on_restarted(self) -> None:
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        # Handlers of `reconnected` read the new sids of what they publish.
        await self.local_participant._republish()
        await self._data_track_manager.republish()
        self._emit("reconnected")

    def on_disconnected(self, reason: DisconnectReason) -> None:
        if self._connecting:
            return
        if self._local_participant is not None and self._session is not None:
            self._session.tasks.start(self._local_participant._rpc.close(), "close rpc")
        self._release_events()
        self._ended(reason)

    def on_token(self, token: str) -> None:
        self._token = token
        self._emit("token_refreshed")

    def wishes(self) -> proto.SyncState | None:
        return self._state.wishes() if self.isconnected() else None

    def sync_state(self) -> proto.SyncState:
        return self._state.sync_state()

    # --- for the parts ---------------------------------------------------------------------------------------------

    def _participant(self, identity: str) -> Participant | None:
        if self._local_participant is not None and identity == self._local_participant.identity:
            return self._local_participant
        return self._remote_participants.get(identity)

    def _take_early_subscription(self, track_sid: str) -> bool:
        return self._state.take_early_subscription(track_sid)

    def __repr__(self) -> str:
        return (
            f"rtc.Room(sid={self._info.sid or 'unknown'}, name={self.name}, metadata={self.metadata}, "
            f"connection_state={self._connection_state.name})"
        )
