"""The signalling WebSocket and its validation endpoints."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSCloseCode, WSMsgType, web
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from livekit.protocol import rtc

from .auth import PERMISSION_DENIED, Auth, Authenticator, AuthError
from .connection import Frame, SignalConnection
from .join import BadJoin, Join, parse_join
from .manager import MediaFailed, RoomManager, RoomNotFound, TooManyRooms
from .participant import Action, Participant, Reason
from .session import handle_request

__all__ = ["SignalEndpoint", "add_routes"]

logger = logging.getLogger(__name__)

MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of one signalling message; longer ones end the connection."""
MAX_MALFORMED = 16
"""Messages that cannot be read before the connection is ended."""
HEARTBEAT = 20.0
"""Seconds between WebSocket pings. A client that does not answer for half of it is gone."""


def add_routes(app: web.Application, manager: RoomManager, authenticator: Authenticator) -> SignalEndpoint:
    """Register `/rtc`, `/rtc/v1` and their `/validate`."""
    endpoint = SignalEndpoint(manager, authenticator)
    app.router.add_get("/rtc", endpoint.rtc)
    app.router.add_get("/rtc/v1", endpoint.rtc_v1)
    app.router.add_get("/rtc/validate", endpoint.validate)
    app.router.add_get("/rtc/v1/validate", endpoint.validate_v1)
    app.on_shutdown.append(endpoint.shut_down)
    return endpoint


class SignalEndpoint:
    def __init__(self, manager: RoomManager, authenticator: Authenticator) -> None:
        self._manager = manager
        self._authenticator = authenticator
        self._sockets: set[web.WebSocketResponse] = set()
        self.malformed = 0
        """Messages that could not be read."""

    async def rtc(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=False)

    async def rtc_v1(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=True)

    async def validate(self, request: web.Request) -> web.Response:
        self._check(request, single=False)
        return web.Response(text="success")

    async def validate_v1(self, request: web.Request) -> web.Response:
        self._check(request, single=True)
        return web.Response(text="success")

    async def shut_down(self, app: web.Application) -> None:
        """Close what is still open when the HTTP server stops."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    def _check(self, request: web.Request, *, single: bool) -> tuple[Auth, Join, str]:
        """Everything that can be refused before the upgrade. Returns the identity as third.

        Raises the HTTP error that the client expects, with its text."""
        try:
            auth = self._authenticator.require(request)
            auth.require("room_join")
        except AuthError as error:
            raise _http_error(error.status, str(error)) from error
        try:
            join = parse_join(request.query, request.headers.get("User-Agent", ""), single=single)
        except BadJoin as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        settings = self._manager.settings
        name = auth.video.room or join.room
        identity = auth.claims.identity
        if not identity:
            raise web.HTTPBadRequest(text="identity cannot be empty")
        if not name:
            raise web.HTTPBadRequest(text="room name cannot be empty")
        for value, limit, what in (
            (identity, settings.max_identity_length, "identity"),
            (auth.claims.name, settings.max_name_length, "participant name"),
            (name, settings.max_room_name_length, "room name"),
        ):
            if limit and len(value) > limit:
                raise web.HTTPBadRequest(text=f"{what} exceeds the limit of {limit} characters")
        if (join.metadata or join.attributes) and not auth.video.can_update_own_metadata:
            raise _http_error(401, PERMISSION_DENIED)
        if join.publish_only:
            identity += f"#{join.publish_only}"
        if not join.reconnect:
            # A resume in vain is told by a message after the upgrade, which clients turn into a full reconnect.
            try:
                self._manager.check_room(name)
            except RoomNotFound as error:
                raise web.HTTPNotFound(text=str(error)) from error
            except (MediaFailed, TooManyRooms) as error:
                raise web.HTTPServiceUnavailable(text=str(error)) from error
        room = self._manager.get_room(name)
        is_dependent = auth.claims.kind in ("agent", "egress") or auth.video.recorder
        if room and room.is_full and identity not in room.participants and not is_dependent:
            raise web.HTTPServiceUnavailable(text="room is full: max participants exceeded")
        return auth, join, identity

    async def _serve(self, request: web.Request, *, single: bool) -> web.StreamResponse:
        ws = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=False)
        if not ws.can_prepare(request).ok:
            raise web.HTTPNotFound(text="404 page not found")
        auth, join, identity = self._check(request, single=single)
        await ws.prepare(request)
        connection = SignalConnection(ws)
        writer = asyncio.create_task(connection.run(), name=f"signal {identity}")
        self._sockets.add(ws)
        participant = None
        try:
            participant = self._enter(auth, join, identity, connection)
            if participant is not None:
                await self._read(ws, connection, participant)
        finally:
            if participant is not None:
                participant.signal_lost(connection)
            connection.close()
            try:
                await writer
            finally:
                self._sockets.discard(ws)
        return ws

    def _enter(self, auth: Auth, join: Join, identity: str, connection: SignalConnection) -> Participant | None:
        name = auth.video.room or join.room
        if not join.reconnect:
            return self._manager.room_for(name, auth).join(auth, join, identity, connection)
        room = self._manager.get_room(name)
        participant = room.resume(auth, join, identity, connection) if room else None
        if participant is None:
            leave = rtc.LeaveRequest(reason=Reason.STATE_MISMATCH)
            if join.client.protocol > 12:
                leave.action = Action.RECONNECT
            else:
                leave.can_reconnect = True
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
        return participant

    async def _read(self, ws: web.WebSocketResponse, connection: SignalConnection, participant: Participant) -> None:
        malformed = 0
        async for message in ws:
            try:
                if message.type == WSMsgType.BINARY:
                    request = rtc.SignalRequest.FromString(message.data)
                elif message.type == WSMsgType.TEXT:
                    connection.json = True
                    request = Parse(message.data, rtc.SignalRequest(), ignore_unknown_fields=True)
                else:
                    continue
            except (DecodeError, ParseError, UnicodeError, RecursionError):
                self.malformed += 1
                malformed += 1
                if malformed >= MAX_MALFORMED:
                    connection.abort(WSCloseCode.UNSUPPORTED_DATA)
                    return
                continue
            if connection.closing or participant.closed:
                return
            try:
                if not handle_request(participant, request):
                    return
            except Exception:
                # One request's failure is ours, not the client's: the session goes on.
                logger.exception("%s in %s: request failed", participant.identity, participant.room.name)


def _http_error(status: int, text: str) -> web.HTTPException:
    errors: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
    }
    return errors.get(status, web.HTTPUnauthorized)(text=text)
