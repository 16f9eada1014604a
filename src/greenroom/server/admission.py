"""Who is let into the rooms of this node, and what becomes of it: from the question to the end of its socket."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from aiohttp import WSCloseCode, WSMsgType
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from livekit.protocol import rtc

from .accounts import Accounts
from .arrival import Arrival
from .auth import Auth
from .bounds import MAX_JSON_MESSAGE, MAX_MALFORMED
from .connection import Frame, SignalConnection, SignalSocket
from .join import joined_attributes
from .manager import MediaFailed, RoomManager, RoomNotFound, TooManyRooms
from .participant import Action, Participant, Reason, is_dependent, kind_of
from .permissions import Grants
from .rules import Joining, Refused, publishing_of
from .session import handle_request, read_description, weight_of

__all__ = ["Admission", "Admissions"]

logger = logging.getLogger(__name__)

STATE_HOLD = 2.0
"""Seconds for which a publisher waits at most whose state is told to everybody too often."""
JSON_COST = 8
"""What a byte of JSON takes of the budget for bytes: so much longer it takes to read."""


class Admissions:
    """Asks all that this node has to say about an arrival."""

    def __init__(self, manager: RoomManager, accounts: Accounts) -> None:
        self.manager = manager
        self._accounts = accounts

    async def admit(self, arrival: Arrival) -> Admission:
        """Raises Refused."""
        if not arrival.join.reconnect:
            # A resume in vain is told by a message after the upgrade, which clients turn into a full reconnect.
            try:
                self.manager.check_room(arrival.room)
            except RoomNotFound as error:
                raise Refused(str(error), 404) from error
            except (MediaFailed, TooManyRooms) as error:
                raise Refused(str(error), 503) from error
        if self.is_full(arrival):
            raise Refused("room is full: max participants exceeded", 503)
        return Admission(self, await self._authorise(arrival))

    def is_full(self, arrival: Arrival) -> bool:
        """Whether a room is full for somebody who is not in it already."""
        room = self.manager.get_room(arrival.room)
        dependent = is_dependent(kind_of(arrival.auth.claims), Grants(arrival.auth.video).permission)
        return bool(room and room.is_full and arrival.identity not in room.participants and not dependent)

    def check_account(self, arrival: Arrival) -> None:
        """Raises Refused when the API key has used up what it may."""
        room = self.manager.get_room(arrival.room)
        self._accounts.check(arrival.auth.api_key, replaces=bool(room and arrival.identity in room.participants))

    async def _authorise(self, arrival: Arrival) -> Arrival:
        """What the application's own rules say. Returns the arrival as it counts. Raises Refused."""
        referee = self.manager.referee
        room = self.manager.get_room(arrival.room)
        auth, join = arrival.auth, arrival.join
        claims = auth.claims
        joining = Joining(
            room=arrival.room,
            identity=arrival.identity,
            name=claims.name,
            kind=claims.kind,
            metadata=join.metadata or claims.metadata,
            attributes=joined_attributes(claims, join),
            grants=dataclasses.replace(auth.video, room=arrival.room),
            api_key=auth.api_key,
            address=arrival.address,
            resumed=join.reconnect,
            participants=len(room.participants) if room else 0,
        )
        self.check_account(arrival)
        grants = await referee.authorise_join(joining)
        if grants is not None:
            granted = dataclasses.replace(grants, room=arrival.room, room_join=True)
            arrival = dataclasses.replace(arrival, auth=Auth(dataclasses.replace(claims, video=granted)))
        if referee.asks_publish:
            asked = join.add_tracks
            answers = await asyncio.gather(*(self._may_publish(arrival, track) for track in asked))
            join.add_tracks = [track for track, refusal in zip(asked, answers, strict=True) if refusal is None]
            join.refused_tracks = [(track, why) for track, why in zip(asked, answers, strict=True) if why is not None]
        return arrival

    async def _may_publish(self, arrival: Arrival, request: rtc.AddTrackRequest) -> str | None:
        """Why a track that is asked for with the join may not be published."""
        auth = arrival.auth
        if not Grants(auth.video).may_publish(request.source):
            return None  # refused without asking
        asked = publishing_of(arrival.room, arrival.identity, auth.api_key, request)
        try:
            await self.manager.referee.authorise_publish(asked)
        except Refused as refused:
            return str(refused)
        return None


class Admission:
    """Somebody who was let in."""

    def __init__(self, admissions: Admissions, arrival: Arrival) -> None:
        self._admissions = admissions
        self._manager = admissions.manager
        self._arrival = arrival

    async def aclose(self) -> None:
        """Nothing is held until it is served."""

    async def serve(self, socket: SignalSocket) -> None:
        """Be the session on this socket until one of the two ends. Closes the socket."""
        name, join = self._arrival.room, self._arrival.join
        connection = SignalConnection(socket)
        writer = asyncio.create_task(connection.run(), name=f"signal {self._arrival.identity}")
        participant = None
        try:
            turns = self._manager.turns
            if join.offer:
                join.description = await read_description(turns, name, join.offer.sdp)
            else:
                await turns.take(name)
            if not socket.closed:
                participant = self._enter(connection)
            if participant is not None:
                for track, why in join.refused_tracks:
                    refusal = rtc.RequestResponse.Reason.NOT_ALLOWED
                    participant.request_response(refusal, why, add_track=track)
                await self._read(socket, connection, participant)
        finally:
            if participant is not None:
                participant.signal_lost(connection)
            connection.close()
            await writer

    def _enter(self, connection: SignalConnection) -> Participant | None:
        arrival, manager, admissions = self._arrival, self._manager, self._admissions
        auth, join, identity, name = arrival.auth, arrival.join, arrival.identity, arrival.room
        over = (manager.endings.of_resumed if join.reconnect else manager.endings.of_rejoined)(join.participant_sid)
        if over is not None:
            leave = rtc.LeaveRequest(reason=over, action=Action.DISCONNECT)
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
            return None
        if not join.reconnect:
            try:
                admissions.check_account(arrival)
                room = None if admissions.is_full(arrival) else manager.room_for(name, auth)
            except (MediaFailed, Refused, RoomNotFound, TooManyRooms):
                room = None
            if room:
                return room.join(auth, join, identity, connection)
            # Others were quicker since the request was checked.
            leave = rtc.LeaveRequest(reason=Reason.JOIN_FAILURE, action=Action.DISCONNECT)
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
            return None
        room = manager.get_room(name)
        participant = room.resume(auth, join, identity, connection) if room else None
        if participant is None:
            leave = rtc.LeaveRequest(reason=Reason.STATE_MISMATCH)
            if join.client.protocol > 12:
                leave.action = Action.RECONNECT
            else:
                leave.can_reconnect = True
            connection.send(Frame(rtc.SignalResponse(leave=leave)))
        return participant

    async def _read(self, socket: SignalSocket, connection: SignalConnection, participant: Participant) -> None:
        malformed = 0
        async for message in socket:
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
                self._manager.limited["malformed"] += 1
                malformed += 1
                if malformed >= MAX_MALFORMED:
                    connection.abort(WSCloseCode.UNSUPPORTED_DATA)
                    return
                continue
            size = len(message.data) * (JSON_COST if message.type == WSMsgType.TEXT else 1)
            if not await self._afford(participant, request, size):
                return
            if connection.closing or participant.closed:
                return
            if message.type == WSMsgType.PING:
                try:
                    await socket.pong(message.data)
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

    async def _afford(self, participant: Participant, request: rtc.SignalRequest, size: int) -> bool:
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
