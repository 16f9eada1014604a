"""The signalling WebSocket and its validation endpoints."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from aiohttp import WSCloseCode, WSMsgType, web
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from livekit.protocol import rtc

from .accounts import Accounts
from .auth import PERMISSION_DENIED, Auth, Authenticator, AuthError
from .bounds import MAX_ATTRIBUTES, MAX_JSON_MESSAGE, MAX_MALFORMED, MAX_MESSAGE, MAX_ROOM_CONFIG
from .connection import Frame, SignalConnection
from .gate import Gate
from .join import BadJoin, Join, joined_attributes, parse_join
from .manager import MediaFailed, RoomManager, RoomNotFound, TooManyRooms
from .participant import Action, Participant, Reason, is_dependent, kind_of
from .permissions import Grants
from .rules import Joining, Refused, publishing_of
from .session import handle_request, read_description, weight_of

__all__ = ["SignalEndpoint", "add_routes"]

logger = logging.getLogger(__name__)

HEARTBEAT = 20.0
"""Seconds between WebSocket pings. A client that does not answer for half of it is gone."""
STATE_HOLD = 2.0
"""Seconds for which a publisher waits at most whose state is told to everybody too often."""
JSON_COST = 8
"""What a byte of JSON takes of the budget for bytes: so much longer it takes to read."""


def add_routes(
    app: web.Application, manager: RoomManager, authenticator: Authenticator, gate: Gate, accounts: Accounts
) -> SignalEndpoint:
    """Register `/rtc`, `/rtc/v1` and their `/validate`."""
    endpoint = SignalEndpoint(manager, authenticator, gate, accounts)
    app.router.add_get("/rtc", endpoint.dual)
    app.router.add_get("/rtc/v1", endpoint.single)
    app.router.add_get("/rtc/validate", endpoint.validate)
    app.router.add_get("/rtc/v1/validate", endpoint.validate_v1)
    app.on_shutdown.append(endpoint.shut_down)
    return endpoint


class SignalEndpoint:
    def __init__(self, manager: RoomManager, authenticator: Authenticator, gate: Gate, accounts: Accounts) -> None:
        self._manager = manager
        self._authenticator = authenticator
        self._gate = gate
        self._accounts = accounts
        self._sockets: set[web.WebSocketResponse] = set()
        self.malformed = 0
        """Messages that could not be read."""

    async def dual(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=False)

    async def single(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=True)

    async def validate(self, request: web.Request) -> web.Response:
        await self._authorise(request, *self._check(request, single=False))
        return web.Response(text="success")

    async def validate_v1(self, request: web.Request) -> web.Response:
        await self._authorise(request, *self._check(request, single=True))
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
        self._check_sizes(auth, join)
        if join.publish_only:
            if not auth.video.can_publish:
                raise _http_error(401, PERMISSION_DENIED)
            identity += f"#{join.publish_only}"
        if not join.reconnect:
            # A resume in vain is told by a message after the upgrade, which clients turn into a full reconnect.
            try:
                self._manager.check_room(name)
            except RoomNotFound as error:
                raise web.HTTPNotFound(text=str(error)) from error
            except (MediaFailed, TooManyRooms) as error:
                raise web.HTTPServiceUnavailable(text=str(error)) from error
        if self._is_full(auth, name, identity):
            raise web.HTTPServiceUnavailable(text="room is full: max participants exceeded")
        return auth, join, identity

    async def _authorise(self, request: web.Request, auth: Auth, join: Join, identity: str) -> Auth:
        """What the application's own rules say. Returns the token as it counts. Raises the HTTP error that the client sees."""
        manager = self._manager
        name = auth.video.room or join.room
        room = manager.get_room(name)
        claims = auth.claims
        joining = Joining(
            room=name,
            identity=identity,
            name=claims.name,
            kind=claims.kind,
            metadata=join.metadata or claims.metadata,
            attributes=joined_attributes(claims, join),
            grants=dataclasses.replace(auth.video, room=name),
            api_key=auth.api_key,
            address=self._gate.address(request),
            resumed=join.reconnect,
            participants=len(room.participants) if room else 0,
        )
        try:
            self._check_account(auth, join, identity)
            grants = await manager.referee.authorise_join(joining)
        except Refused as refused:
            raise _http_error(refused.status, str(refused)) from refused
        if grants is not None:
            auth = Auth(dataclasses.replace(claims, video=dataclasses.replace(grants, room=name, room_join=True)))
        if manager.referee.asks_publish:
            asked = join.add_tracks
            answers = await asyncio.gather(*(self._may_publish(auth, name, identity, track) for track in asked))
            join.add_tracks = [track for track, refusal in zip(asked, answers, strict=True) if refusal is None]
            join.refused_tracks = [(track, why) for track, why in zip(asked, answers, strict=True) if why is not None]
        return auth

    def _check_account(self, auth: Auth, join: Join, identity: str) -> None:
        """Raises Refused when the API key has used up what it may."""
        room = self._manager.get_room(auth.video.room or join.room)
        self._accounts.check(auth.api_key, replaces=bool(room and identity in room.participants))

    async def _may_publish(self, auth: Auth, room: str, identity: str, request: rtc.AddTrackRequest) -> str | None:
        """Why a track that is asked for with the join may not be published."""
        if not Grants(auth.video).may_publish(request.source):
            return None  # refused without asking
        try:
            await self._manager.referee.authorise_publish(publishing_of(room, identity, auth.api_key, request))
        except Refused as refused:
            return str(refused)
        return None

    def _check_sizes(self, auth: Auth, join: Join) -> None:
        """What a participant says of itself when it joins has the limits of what it says later."""
        settings = self._manager.settings
        metadata = join.metadata or auth.claims.metadata or ""
        attributes = joined_attributes(auth.claims, join)
        size = sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items())
        if settings.max_metadata_size and len(metadata.encode()) > settings.max_metadata_size:
            raise web.HTTPBadRequest(text=f"metadata exceeds the limit of {settings.max_metadata_size} bytes")
        if settings.max_attributes_size and size > settings.max_attributes_size:
            raise web.HTTPBadRequest(text=f"attributes exceed the limit of {settings.max_attributes_size} bytes")
        if len(attributes) > MAX_ATTRIBUTES:
            raise web.HTTPBadRequest(text=f"more than {MAX_ATTRIBUTES} attributes")
        if (config := auth.claims.room_config) is None:
            return
        if settings.max_metadata_size and len(config.metadata.encode()) > settings.max_metadata_size:
            raise web.HTTPBadRequest(text=f"room metadata exceeds the limit of {settings.max_metadata_size} bytes")
        try:
            for wish in config.agents:
                settings.check_wish(wish)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"the token's room configuration: {error}") from error
        most = MAX_ROOM_CONFIG + (settings.max_metadata_size + settings.max_attributes_size) // 2
        if config.ByteSize() > most:
            raise web.HTTPBadRequest(text=f"the token's room configuration exceeds the limit of {most} bytes")

    def _is_full(self, auth: Auth, name: str, identity: str) -> bool:
        room = self._manager.get_room(name)
        dependent = is_dependent(kind_of(auth.claims), Grants(auth.video).permission)
        return bool(room and room.is_full and identity not in room.participants and not dependent)

    async def _serve(self, request: web.Request, *, single: bool) -> web.StreamResponse:
        # Pings are answered below, so that they count like everything else that a client sends.
        ws = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=False, autoping=False)
        if not ws.can_prepare(request).ok:
            raise web.HTTPNotFound(text="404 page not found")
        auth, join, identity = self._check(request, single=single)
        name = auth.video.room or join.room
        self._gate.join(request, name, identity, asyncio.get_running_loop().time())
        auth = await self._authorise(request, auth, join, identity)
        await ws.prepare(request)
        connection = SignalConnection(ws)
        writer = asyncio.create_task(connection.run(), name=f"signal {identity}")
        self._sockets.add(ws)
        participant = None
        try:
            turns = self._manager.turns
            if join.offer:
                join.description = await read_description(turns, name, join.offer.sdp)
            else:
                await turns.take(name)
            if not ws.closed:
                participant = self._enter(auth, join, identity, connection)
            if participant is not None:
                for track, why in join.refused_tracks:
                    refusal = rtc.RequestResponse.Reason.NOT_ALLOWED
                    participant.request_response(refusal, why, add_track=track)
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
        endings = self._manager.endings
        over = (endings.of_resumed if join.reconnect else endings.of_rejoined)(join.participant_sid)
        if over is not None:
            leave = rtc.LeaveRequest(reason=over, action=Action.DISCONNECT)
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
            return None
        if not join.reconnect:
            try:
                self._check_account(auth, join, identity)
                room = None if self._is_full(auth, name, identity) else self._manager.room_for(name, auth)
            except (MediaFailed, Refused, RoomNotFound, TooManyRooms):
                room = None
            if room:
                return room.join(auth, join, identity, connection)
            # Others were quicker since the request was checked.
            leave = rtc.LeaveRequest(reason=Reason.JOIN_FAILURE, action=Action.DISCONNECT)
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
            return None
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
            request = rtc.SignalRequest()
            try:
                if message.type == WSMsgType.BINARY:
                    request.ParseFromString(message.data)
                elif message.type == WSMsgType.TEXT:
                    connection.json = True
                    if len(message.data) > MAX_JSON_MESSAGE:
                        connection.abort(WSCloseCode.MESSAGE_TOO_BIG)
                        return
                    Parse(message.data, request, ignore_unknown_fields=True)
                elif message.type not in (WSMsgType.PING, WSMsgType.PONG):
                    continue
            except (DecodeError, ParseError, UnicodeError, RecursionError):
                self.malformed += 1
                self._manager.limited["malformed"] += 1
                malformed += 1
                if malformed >= MAX_MALFORMED:
                    connection.abort(WSCloseCode.UNSUPPORTED_DATA)
                    return
                continue
            size = len(message.data) * (JSON_COST if message.type == WSMsgType.TEXT else 1)
            if not await self._admit(participant, request, size):
                return
            if connection.closing or participant.closed:
                return
            if message.type == WSMsgType.PING:
                try:
                    await ws.pong(message.data)
                except ConnectionError:
                    return
            try:
                if not await handle_request(participant, request):
                    return
            except Exception:
                # One request's failure is ours, not the client's: the session goes on.
                logger.exception("%s in %s: request failed", participant.identity, participant.room.name)
            # Whatever else the client has sent, others come first.
            await asyncio.sleep(0)

    async def _admit(self, participant: Participant, request: rtc.SignalRequest, size: int) -> bool:
        """Wait until the participant's budget has room for one more message. False: it was sent away as a flood.

        Meanwhile its socket is not read, so a client that is only a little quick notices nothing but the delay."""
        kind = request.WhichOneof("message") or ""
        now = asyncio.get_running_loop().time()
        budget = participant.signal_budget
        wait = budget.charge(kind, size, now, weight_of(kind, request))
        limited = self._manager.limited
        if not wait:
            if kind in ("add_track", "offer") and (lack := participant.state_budget.lack(now, 0.0)):
                # A new track is told to everybody before its media, whatever that costs.
                limited["held_state"] += 1
                await asyncio.sleep(min(lack, STATE_HOLD))
            return True
        limited[f"held_{budget.short_of}"] += 1
        if flooded := budget.flooded(now):
            limited[f"flood_{flooded}"] += 1
            logger.warning("%s in %s: too many %s: sent away", participant.identity, participant.room.name, flooded)
            text = f"too many {flooded.replace('_', ' ')}"
            participant.close(Reason.PARTICIPANT_REMOVED, code=WSCloseCode.POLICY_VIOLATION, text=text)
            return False
        if not budget.warned:
            budget.warned = True
            logger.warning(
                "%s in %s: more %s than its budget: read more slowly from now on",
                participant.identity,
                participant.room.name,
                budget.short_of,
            )
        await asyncio.sleep(wait)
        return True


def _http_error(status: int, text: str) -> web.HTTPException:
    errors: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
        503: web.HTTPServiceUnavailable,
    }
    return errors.get(status, web.HTTPUnauthorized)(text=text)
