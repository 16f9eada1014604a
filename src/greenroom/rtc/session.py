"""A connection to a room: signalling and media together, joined, kept up and closed.

`Room` gives meaning to what arrives; `Session` sees to it that it arrives. Lost connections are mended in `recovery`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from livekit.protocol import models, rtc as proto

from greenroom.tasks import Tasks

from .engine import get_engine
from .enums import DisconnectReason, from_wire
from .errors import ConnectError
from .log import logger
from .recovery import Recovery
from .reliable import ReliableChannel
from .signal_client import InvalidUrl, PathNotFound, SignalClient, client_info, dual_query, join_query
from .transport import BUNDLED_SECTIONS, DATA_TRACK, LOSSY, RELIABLE, Transport

if TYPE_CHECKING:
    from .room import RoomOptions

PUBLISHER = proto.SignalTarget.PUBLISHER
SUBSCRIBER = proto.SignalTarget.SUBSCRIBER
DEFAULT_CONNECT_TIMEOUT = 5.0
MEDIA_TIMEOUT = 15.0
CHANNEL_TIMEOUT = 15.0
REQUEST_TIMEOUT = 5.0
JOIN_ATTEMPTS = 3
JOIN_PAUSE = 0.3
QUEUED_REQUESTS = 1000
"""Requests that wait for a resume; what comes after is dropped and said so."""


class SessionListener(Protocol):
    """What `Room` implements."""

    def on_signal(self, message: proto.SignalResponse) -> None: ...
    def on_tracks(self, transport: Transport, track_by_mid: dict[str, str]) -> None: ...
    def on_packet(self, packet: models.DataPacket, label: str) -> None: ...
    def on_data_track_packet(self, payload: bytes) -> None: ...
    def on_reconnecting(self) -> None: ...
    def on_resuming(self, unsent: list[proto.SignalRequest]) -> None: ...
    def on_resumed(self) -> None: ...
    def on_rejoined(self, join: proto.JoinResponse) -> None: ...
    async def on_restarted(self) -> None: ...
    def on_disconnected(self, reason: DisconnectReason) -> None: ...
    def sync_state(self) -> proto.SyncState: ...
    def wishes(self) -> proto.SyncState | None: ...
    def on_token(self, token: str) -> None: ...


class Session:
    def __init__(self, listener: SessionListener, url: str, token: str, options: RoomOptions) -> None:
        self.listener = listener
        self.url = url
        self.token = token
        self.options = options
        self.engine = get_engine()
        self.loop = self.engine.loop
        self.single = options.single_peer_connection is not False
        self.publisher: Transport | None = None
        self.subscriber: Transport | None = None
        """None with a single peer connection; then `publisher` carries both directions."""
        self.subscriber_primary = False
        self.participant_sid = ""
        self.refused: DisconnectReason | None = None
        """Why the server lets us in no more."""
        self.reliable = ReliableChannel()
        self.connected = False
        self.leaving = False
        """Nothing is mended any more."""
        self.closed = False
        self.end_reason: DisconnectReason | None = None
        self.signal: SignalClient | None = None
        self._queued: list[proto.SignalRequest] = []
        self.ping_interval = 5.0
        self.ping_timeout = 15.0
        self.publisher_offered = False
        self.tasks = Tasks(logger)
        """What mends and what ends this session. Each is bounded and ends by itself, some only after the session did."""
        self._requests: dict[Any, asyncio.Future[Any]] = {}
        self._last_request_id = 0
        self.recovery = Recovery(self)

    # --- joining ---------------------------------------------------------------------------------------------------

    async def join(self) -> proto.JoinResponse:
        """Join and return at once after the server's answer; `wait_media` waits for the media connection."""
        for attempt in range(JOIN_ATTEMPTS):
            try:
                return await self.join_once()
            except (PathNotFound, InvalidUrl):
                raise
            except ConnectError as error:
                if (error.status and error.status < 500) or attempt + 1 == JOIN_ATTEMPTS:
                    raise
                logger.info("joining again: %s", error)
                await asyncio.sleep(JOIN_PAUSE * (attempt + 1))
        raise AssertionError("unreachable")

    async def join_once(self) -> proto.JoinResponse:
        self.close_transports()
        if self.single:
            try:
                return await self._join_path("/rtc/v1")
            except PathNotFound:
                if self.options.single_peer_connection:
                    raise
                logger.info("%s has no /rtc/v1: joining with two peer connections", self.url)
                self.single = False
                self.close_transports()
        return await self._join_path("/rtc")

    async def _join_path(self, path: str) -> proto.JoinResponse:
        settings = self.settings()
        publisher = self.publisher = Transport(self.engine, self, PUBLISHER)
        if self.single:
            publisher.add_sections("audio", BUNDLED_SECTIONS)
            publisher.add_sections("video", BUNDLED_SECTIONS)
            publisher.open_data_channels()
            # In a full reconnect the server has to know before it sends anything what is not wanted.
            request = proto.JoinRequest(
                client_info=client_info(),
                connection_settings=settings,
                publisher_offer=publisher.first_offer(),
                sync_state=self.listener.wishes(),
            )
            query = join_query(request)
        else:
            self.subscriber = Transport(self.engine, self, SUBSCRIBER)
            publisher.open_data_channels()
            query = dual_query(settings)
        if self.participant_sid:
            # In place of that session: a server that has ended it for good says so instead of letting us in again.
            query["sid"] = self.participant_sid
        signal, first = await self.open_signal(path, query)
        if first.WhichOneof("message") != "join":
            await signal.close()
            raise self.refusal(first)
        join = first.join
        self.participant_sid = join.participant.sid
        self.subscriber_primary = join.subscriber_primary and not self.single
        self.publisher_offered = self.single
        self.signal = signal
        self.ping_interval, self.ping_timeout = float(join.ping_interval), float(join.ping_timeout)
        signal.start(self.ping_interval, self.ping_timeout)
        if not self.single and (join.fast_publish or not self.subscriber_primary):
            self.offer_publisher()
        return join

    def settings(self) -> proto.ConnectionSettings:
        return proto.ConnectionSettings(auto_subscribe=self.options.auto_subscribe, auto_subscribe_data_track=False)

    async def open_signal(self, path: str, query: dict[str, str]) -> tuple[SignalClient, proto.SignalResponse]:
        signal = SignalClient(self.on_message, self._on_signal_closed)
        timeout = self.options.connect_timeout or DEFAULT_CONNECT_TIMEOUT
        return signal, await signal.connect(self.url, path, query, self.token, timeout)

    def refusal(self, message: proto.SignalResponse) -> ConnectError:
        kind = message.WhichOneof("message")
        if kind == "leave":
            reason = from_wire(DisconnectReason, message.leave.reason)
            if self.is_final(message.leave):
                self.refused = reason
            return ConnectError(f"{self.url} refused to let us join: {reason.name}", status=403)
        return ConnectError(f"{self.url} answered {kind or 'an unknown message'} instead of a join")

    @staticmethod
    def is_final(leave: proto.LeaveRequest) -> bool:
        """Whether the server says that there is nothing to come back to."""
        return leave.action == proto.LeaveRequest.Action.DISCONNECT and not leave.can_reconnect

    @property
    def primary(self) -> Transport:
        """The connection that decides whether we are connected."""
        chosen = self.subscriber if self.subscriber_primary else self.publisher
        assert chosen is not None
        return chosen

    async def wait_media(self) -> None:
        """ConnectError when the media connection is not there within 15 s."""
        try:
            await self.primary.wait_connected(MEDIA_TIMEOUT)
        except ConnectError:
            if self.end_reason is not None:
                raise ConnectError(f"{self.url} ended the session at once: {self.end_reason.name}") from None
            raise
        self.connected = True

    def offer_publisher(self) -> None:
        assert self.publisher is not None
        if not self.publisher_offered:
            self.publisher_offered = True
            self.publisher.negotiate()

    # --- messages --------------------------------------------------------------------------------------------------

    def send(self, request: proto.SignalRequest) -> None:
        """Send now, or after the resume that is under way."""
        if self.signal is not None and self.signal.send(request):
            return
        if self.closed:
            return
        if len(self._queued) < QUEUED_REQUESTS:
            self._queued.append(request)
        else:
            logger.warning("dropped a %s request: the connection is down", request.WhichOneof("message"))

    def send_queued(self) -> None:
        """After a resume: what was asked for while the socket was down. Descriptions are made anew, not repeated."""
        queued, self._queued = self._queued, []
        for request in queued:
            if request.WhichOneof("message") not in ("offer", "answer", "trickle"):
                self.send(request)

    def unsent(self) -> list[proto.SignalRequest]:
        """What waits for the resume."""
        return list(self._queued)

    def drop_queued(self) -> None:
        """A new session starts without the old one's requests; who waits for an answer to one learns it at once."""
        self._queued.clear()
        for key in list(self._requests):
            self._fail(key, ConnectError("the session was replaced by a new one"))

    def on_message(self, message: proto.SignalResponse) -> None:
        kind = message.WhichOneof("message")
        match kind:
            case "answer":
                if self.publisher is not None:
                    tracks = self.publisher.handle_answer(message.answer)
                    if tracks is not None and self.single:
                        self.listener.on_tracks(self.publisher, tracks)
            case "offer":
                self._on_offer(message.offer)
            case "trickle":
                transport = self.subscriber if message.trickle.target == SUBSCRIBER else self.publisher
                if transport is not None:
                    transport.handle_trickle(message.trickle.candidateInit)
            case "media_sections_requirement":
                if self.publisher is not None and self.single:
                    self.publisher.add_sections("audio", min(message.media_sections_requirement.num_audios, 500))
                    self.publisher.add_sections("video", min(message.media_sections_requirement.num_videos, 500))
                    self.publisher.negotiate()
            case "leave":
                self._on_leave(message.leave)
            case "refresh_token":
                self.token = message.refresh_token
                self.listener.on_token(message.refresh_token)
            case "track_published":
                self._resolve(("track", message.track_published.cid), message.track_published.track)
            case "request_response":
                self._on_request_response(message.request_response)
            case "publish_data_track_response":
                info = message.publish_data_track_response.info
                self._resolve(("data_track", info.pub_handle), info)
            case None | "pong" | "pong_resp" | "reconnect" | "join":
                pass
            case _:
                self.listener.on_signal(message)

    def _on_offer(self, offer: proto.SessionDescription) -> None:
        if self.subscriber is None:
            logger.warning("ignored an offer: this connection's offers are ours")
            return
        try:
            tracks = self.subscriber.handle_offer(offer)
        except (RuntimeError, ValueError) as error:
            logger.error("the server's offer cannot be applied: %s", error)
            self.on_negotiation_failed(self.subscriber)
            return
        self.listener.on_tracks(self.subscriber, tracks)

    def _on_leave(self, leave: proto.LeaveRequest) -> None:
        action = leave.action
        if action == proto.LeaveRequest.Action.RESUME:
            self.recovery.start(full=False)
        elif not self.is_final(leave):
            self.recovery.start(full=True)
        else:
            self.finish(from_wire(DisconnectReason, leave.reason))

    def _on_request_response(self, response: proto.RequestResponse) -> None:
        kind = response.WhichOneof("request")
        ok = response.reason in (proto.RequestResponse.Reason.OK, proto.RequestResponse.Reason.QUEUED)
        key: Any = response.request_id
        if kind == "add_track":
            key = ("track", response.add_track.cid)
            if ok:
                return
        elif kind == "publish_data_track":
            key = ("data_track", response.publish_data_track.pub_handle)
        if ok:
            self._resolve(key, None)
        else:
            reason = proto.RequestResponse.Reason.Name(response.reason)
            text = f"{reason}: {response.message}" if response.message else reason
            self._fail(key, ConnectError(f"the server refused: {text}"))

    def expect(self, key: Any) -> asyncio.Future[Any]:
        """A future for the answer to a request; `forget` it when done."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._requests[key] = future
        return future

    def next_request_id(self) -> int:
        self._last_request_id += 1
        return self._last_request_id

    def _resolve(self, key: Any, value: Any) -> None:
        future = self._requests.pop(key, None)
        if future is not None and not future.done():
            future.set_result(value)

    def _fail(self, key: Any, error: ConnectError) -> None:
        future = self._requests.pop(key, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def forget(self, key: Any) -> None:
        self._requests.pop(key, None)

    # --- data ------------------------------------------------------------------------------------------------------

    async def send_packet(self, packet: models.DataPacket, *, reliable: bool) -> None:
        """Send over the data channel. ConnectError when it cannot be opened or does not drain."""
        if self.closed:
            raise ConnectError("the room is not connected")
        label = RELIABLE if reliable else LOSSY
        packet.participant_sid = self.participant_sid
        if reliable and self.recovery.running:
            await self.recovery.wait(CHANNEL_TIMEOUT)
        transport = self.publisher
        assert transport is not None
        if label not in transport.channels:
            self.offer_publisher()
            await transport.wait_channel(label, CHANNEL_TIMEOUT)
        if reliable:
            await self.reliable.send(transport, packet)
        else:
            try:
                transport.peer.send(label, packet.SerializeToString())
            except (BufferError, RuntimeError) as error:
                logger.debug("dropped a lossy packet: %s", error)

    def on_data(self, label: str, payload: bytes) -> None:
        if label == DATA_TRACK:
            self.listener.on_data_track_packet(payload)
            return
        if label not in (RELIABLE, LOSSY):
            return
        packet = models.DataPacket()
        try:
            packet.ParseFromString(payload)
        except Exception:
            logger.warning("dropped a data packet of %d bytes that cannot be parsed", len(payload))
            return
        if label == RELIABLE and not self.reliable.accept(packet):
            return
        self.listener.on_packet(packet, label)

    # --- losing and closing ----------------------------------------------------------------------------------------

    def _on_signal_closed(self, signal: SignalClient) -> None:
        if signal is self.signal and not self.closed:
            self.recovery.start(full=False)

    def on_transport_state(self, transport: Transport, state: str) -> None:
        if self.closed or transport not in (self.publisher, self.subscriber):
            return
        if state == "disconnected":
            self.recovery.start_unless_back(transport)
        elif state == "failed" and self.connected:
            self.recovery.start_unless_told_to_leave(transport)

    def on_negotiation_failed(self, transport: Transport) -> None:
        if not self.closed and self.connected and transport in (self.publisher, self.subscriber):
            self.recovery.start(full=True)

    def close_transports(self) -> None:
        for transport in (self.publisher, self.subscriber):
            if transport is not None:
                transport.close()
        self.publisher = self.subscriber = None

    def finish(self, reason: DisconnectReason) -> None:
        """The server ended it, or nothing could mend it."""
        if self.closed:
            return
        self.closed = True
        self.end_reason = reason
        self.connected = False
        self.recovery.stop()
        for key in list(self._requests):
            self._fail(key, ConnectError("the room was disconnected"))
        self.close_transports()
        signal, self.signal = self.signal, None
        if signal is not None:
            self.tasks.start(signal.close(), "close signalling")
        self.listener.on_disconnected(reason)

    @property
    def reaches_server(self) -> bool:
        """What is sent now will arrive, as far as is known."""
        publisher, signal = self.publisher, self.signal
        return (
            self.connected
            and not self.recovery.running
            and publisher is not None
            and publisher.connected
            and signal is not None
            and not signal.closed
        )

    @property
    def unacknowledged(self) -> int:
        """Bytes of reliable packets that the server has not acknowledged."""
        return self.publisher.peer.buffered(RELIABLE) if self.publisher is not None else 0

    def begin_to_leave(self) -> bool:
        """From now on a loss is not mended. False when there is nobody to talk to."""
        if not self.reaches_server:
            return False
        self.leaving = True
        return True

    async def leave(self, reason: DisconnectReason) -> None:
        """Say goodbye and close. Bounded; twice is fine."""
        if self.closed:
            return
        self.closed = True
        self.connected = False
        self.recovery.stop()
        for key in list(self._requests):
            self._fail(key, ConnectError("the room was disconnected"))
        signal, self.signal = self.signal, None
        goodbye = proto.SignalRequest(
            leave=proto.LeaveRequest(
                reason=cast("models.DisconnectReason", int(reason)), action=proto.LeaveRequest.Action.DISCONNECT
            )
        )
        try:
            if signal is not None:
                await signal.close(goodbye)
        finally:
            self.close_transports()
