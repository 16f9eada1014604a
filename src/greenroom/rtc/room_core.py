"""What works behind a room: its connection, what is in it, and when its events are told.

A program holds a `Room`, which shows some of this. The parts of the SDK are handed the core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from livekit.protocol import models, rtc as proto

from greenroom.tasks import Tasks

from .data_track import DataTrackManager
from .enums import ConnectionState, DisconnectReason
from .errors import ConnectError
from .event_emitter import handler_failed
from .log import logger
from .room_data import route_packet
from .room_state import RoomState
from .room_subscriptions import RoomSubscriptions
from .session import Session
from .stream_receiver import StreamReceiver

if TYPE_CHECKING:
    from .local_participant import LocalParticipantCore
    from .participant import ParticipantCore, RemoteParticipantCore
    from .room import EventTypes, RoomOptions
    from .transport import Transport


LAST_WORDS = 0.5
"""Seconds that leaving waits until what was said last has arrived at the server. Data and the goodbye travel on different paths:
the goodbye would overtake it."""
HEARD = 0.1
"""Seconds that it takes from there to the others, who may be told by then that we left."""
LAST_WORDS_TURNS = 20
"""At least so often the loop is let run meanwhile: what is to be said may wait for a loop that is busy."""
LAST_WORDS_PAUSE = 0.005


class RoomCore:
    """One room, joined once or again and again. It is what its session tells (`SessionListener`)."""

    def __init__(self, run_handlers: Callable[[EventTypes, tuple[Any, ...]], BaseException | None]) -> None:
        """`run_handlers` runs the program's handlers of an event and returns what one of them did wrong."""
        self._run_handlers = run_handlers
        self.info = models.Room()
        self.token: str | None = None
        self.server_url: str | None = None
        self.session: Session | None = None
        self.local: LocalParticipantCore | None = None
        self.remotes: dict[str, RemoteParticipantCore] = {}
        """By identity."""
        self.connection_state = ConnectionState.CONN_DISCONNECTED
        self.connecting = False
        self.streams = StreamReceiver()
        self.data_tracks = DataTrackManager(self)
        self.tasks = Tasks(logger)
        """What ends something: each is bounded and ends by itself, whoever asked for it."""
        self.subscriptions = RoomSubscriptions(self)
        self.state = RoomState(self)
        self._joining: asyncio.Task[None] | None = None
        """`connect` at work."""
        self._leaving: asyncio.Task[None] | None = None
        """`disconnect` at work; it goes on when its caller does not."""
        self.parting: Session | None = None
        """The session that is being left, while what is under way may still be said."""
        self._in_a_hurry = False
        """Who leaves has no time for last words."""
        self._held: list[tuple[Any, ...]] = []
        """Events that wait until `connect` has returned."""
        self._sid_waiters: list[asyncio.Future[str]] = []

    @property
    def connected(self) -> bool:
        """True also while a lost connection is being mended."""
        return self.connection_state != ConnectionState.CONN_DISCONNECTED

    def participant(self, identity: str) -> ParticipantCore[Any] | None:
        if self.local is not None and identity == self.local.identity:
            return self.local
        return self.remotes.get(identity)

    # --- connecting ------------------------------------------------------------------------------------------------

    async def connect(self, url: str, token: str, options: RoomOptions) -> None:
        """As `Room.connect`."""
        await self._has_left()
        if self.connecting or self.connected:
            raise ConnectError("this room is connected already: use another Room, or disconnect first")
        if options.encryption or options.e2ee:
            raise ConnectError("end-to-end encryption is not available: connect without the `encryption` option")
        self.server_url, self.token = url, token
        if options.data_stream is not None and options.data_stream.max_payload_byte_length is not None:
            self.streams.max_payload = options.data_stream.max_payload_byte_length
        self.connecting = True
        session = self.session = Session(self, url, token, options)
        # Held by its attribute, not by `tasks`: what it raises is raised here and told once.
        joining = self._joining = session.loop.create_task(self._join(session), name="connect")
        try:
            await joining
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                raise ConnectError("disconnect() was called while we were connecting") from None
            if not joining.cancelled() and joining.exception() is None:
                # It succeeded in the same moment, but nobody will know.
                await self.disconnect(DisconnectReason.CLIENT_INITIATED)
            raise
        session.loop.call_soon(self.release_events)

    async def _join(self, session: Session) -> None:
        try:
            join = await session.join()
            self.state.joined(join)
            await session.wait_media()
            if session.closed:
                raise ConnectError("the server ended the session while we were connecting")
        except BaseException as error:
            self.session = None
            self._held.clear()
            self.connecting = False
            self._fail_sid_waiters()
            self._leaving = self.tasks.start(session.leave(DisconnectReason.JOIN_FAILURE), "give up")
            await asyncio.shield(self._leaving)
            if isinstance(error, RuntimeError | ValueError):
                raise ConnectError(f"cannot connect: {error}") from error
            raise
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        self.emit("connected")
        self.connecting = False

    async def _has_left(self) -> None:
        while self._leaving is not None and not self._leaving.done():
            await asyncio.shield(self._leaving)

    async def disconnect(self, reason: DisconnectReason) -> None:
        """As `Room.disconnect`."""
        if self.connecting and self._joining is not None:
            self._joining.cancel()
            await asyncio.wait([self._joining])
        session = self.session
        if session is None or not self.connected:
            await self._has_left()
            return
        self.connection_state = ConnectionState.CONN_DISCONNECTED
        self.session = None
        self._in_a_hurry = False
        if self.local is not None and session.begin_to_leave():
            self.parting = session
            self.local.rpc.refuse_calls()
        self.release_events()
        self._leaving = self.tasks.start(self._leave(session, reason, asyncio.current_task()), "leave room")
        try:
            await asyncio.shield(self._leaving)
        except asyncio.CancelledError:
            self._in_a_hurry = True
            raise

    async def _leave(self, session: Session, reason: DisconnectReason, leaver: asyncio.Task[Any] | None) -> None:
        try:
            if self.parting is session:
                await self._say_last_words(session, leaver)
        finally:
            self.parting = None
            if self.local is not None:
                await self.local.rpc.close()
            if not session.closed:
                await session.leave(reason)
                self._ended(reason)

    async def _say_last_words(self, session: Session, leaver: asyncio.Task[Any] | None) -> None:
        """Until the calls that run here are answered, but not the one that `leaver` runs, and all reliable packets have arrived
        at the server and, as far as one can know, at the others. Bounded; at once when they cannot arrive."""
        assert self.local is not None
        rpc, clock = self.local.rpc, session.loop.time
        deadline, turns = clock() + LAST_WORDS, 0
        # When the server had everything.
        arrived = session.reliable.last_sent
        while session.reaches_server and not self._in_a_hurry:
            if rpc.answering(leaver) or session.unacknowledged:
                if clock() >= deadline and turns >= LAST_WORDS_TURNS:
                    logger.info("left with calls unanswered, or %d bytes on their way", session.unacknowledged)
                    return
                arrived = clock()
            elif clock() >= arrived + HEARD:
                return
            turns += 1
            await asyncio.sleep(LAST_WORDS_PAUSE)

    def _ended(self, reason: DisconnectReason) -> None:
        """Everything that lives on the connection ends; what was known of the room stays readable."""
        self.session = None
        self.connection_state = ConnectionState.CONN_DISCONNECTED
        self.streams.close()
        self.data_tracks.close()
        self.subscriptions.end_all()
        if self.local is not None:
            self.local.info.disconnect_reason = cast("models.DisconnectReason", int(reason))
            self.local.tracks.room_left()
        self._fail_sid_waiters()
        self._tell("connection_state_changed", self.connection_state)
        self._tell("disconnected", reason)

    # --- what is known ---------------------------------------------------------------------------------------------

    async def sid(self) -> str:
        """As `Room.sid`."""
        if self.info.sid:
            return self.info.sid
        if not self.connected and not self.connecting:
            raise RuntimeError("cannot get sid of a disconnected room")
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sid_waiters.append(waiter)
        return await waiter

    def set_info(self, info: models.Room) -> None:
        self.info = info
        if info.sid:
            waiters, self._sid_waiters = self._sid_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(info.sid)

    def _fail_sid_waiters(self) -> None:
        waiters, self._sid_waiters = self._sid_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(RuntimeError("room disconnected before receiving sid"))

    def _set_connection_state(self, state: ConnectionState) -> None:
        if self.connection_state != state:
            self.connection_state = state
            self.emit("connection_state_changed", state)

    # --- events ----------------------------------------------------------------------------------------------------

    def emit(self, event: EventTypes, *args: Any) -> None:
        """Tell now, or, while connecting, after `connect` has returned; the order stays."""
        if self.connecting or self._held:
            self._held.append((event, *args))
            return
        self._tell(event, *args)

    def _tell(self, event: EventTypes, *args: Any) -> None:
        error = self._run_handlers(event, args)
        if error is not None:
            # A mistake in a handler is its author's affair, not a reason to lose other events.
            handler_failed(f"a handler of {event!r}", error)

    def release_events(self) -> None:
        """Tell what was held."""
        index = 0
        while index < len(self._held):
            self._tell(*self._held[index])
            index += 1
        self._held.clear()

    # --- what the session tells ------------------------------------------------------------------------------------

    def on_signal(self, message: proto.SignalResponse) -> None:
        self.state.handle(message)

    def on_tracks(self, transport: Transport, track_by_mid: dict[str, str]) -> None:
        self.subscriptions.set_tracks(transport, track_by_mid)

    def on_packet(self, packet: models.DataPacket, label: str) -> None:
        route_packet(self, packet, label)

    def on_data_track_packet(self, payload: bytes) -> None:
        self.data_tracks.handle_packet(payload)

    def on_reconnecting(self) -> None:
        self._set_connection_state(ConnectionState.CONN_RECONNECTING)
        self.emit("reconnecting")

    def on_resuming(self, unsent: list[proto.SignalRequest]) -> None:
        self.state.resuming(unsent)

    def on_resumed(self) -> None:
        self.state.resumed()
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        self.emit("reconnected")

    def on_rejoined(self, join: proto.JoinResponse) -> None:
        self.state.rejoined(join)

    async def on_restarted(self) -> None:
        self._set_connection_state(ConnectionState.CONN_CONNECTED)
        assert self.local is not None
        # Handlers of `reconnected` read the new sids of what they publish.
        await self.local.tracks.republish()
        await self.data_tracks.republish()
        self.emit("reconnected")

    def on_disconnected(self, reason: DisconnectReason) -> None:
        if self.connecting:
            return
        if self.local is not None and self.session is not None:
            self.tasks.start(self.local.rpc.close(), "close rpc")
        self.release_events()
        self._ended(reason)

    def on_token(self, token: str) -> None:
        self.token = token
        self.emit("token_refreshed")
        self.subscriptions.tell_readers()

    def wishes(self) -> proto.SyncState | None:
        return self.subscriptions.wishes() if self.connected else None

    def sync_state(self) -> proto.SyncState:
        return self.state.sync_state()
