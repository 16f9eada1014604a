"""`livekit.RoomService` on top of the room manager. Each method runs on the node of its room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from livekit.protocol import models, room

from ..auth import Auth
from ..config import LimitConfig
from ..data import RpcError
from ..manager import MediaFailed, RoomManager, TooManyRooms
from ..participant import Participant
from ..room import Room
from ..twirp import Rpc, TwirpError

__all__ = ["room_rpcs"]

DEFAULT_RPC_SECONDS = 10.0
MAX_RPC_SECONDS = 55.0
"""Below the Twirp limit, so that the answer says which of the two was too slow."""


def room_rpcs(manager: RoomManager, limits: LimitConfig) -> dict[str, Rpc]:
    api = _RoomService(manager, limits)

    def named(request: Any) -> str:
        return str(request.room)

    return {
        "CreateRoom": Rpc(room.CreateRoomRequest, api.create_room, room=lambda request: request.name, opens=True),
        "ListRooms": Rpc(room.ListRoomsRequest, api.list_rooms, gather=_together),
        "DeleteRoom": Rpc(room.DeleteRoomRequest, api.delete_room, room=named),
        "ListParticipants": Rpc(room.ListParticipantsRequest, api.list_participants, room=named),
        "GetParticipant": Rpc(room.RoomParticipantIdentity, api.get_participant, room=named),
        "RemoveParticipant": Rpc(room.RoomParticipantIdentity, api.remove_participant, room=named),
        "MutePublishedTrack": Rpc(room.MuteRoomTrackRequest, api.mute_published_track, room=named),
        "UpdateParticipant": Rpc(room.UpdateParticipantRequest, api.update_participant, room=named),
        "UpdateSubscriptions": Rpc(room.UpdateSubscriptionsRequest, api.update_subscriptions, room=named),
        "SendData": Rpc(room.SendDataRequest, api.send_data, room=named),
        "UpdateRoomMetadata": Rpc(room.UpdateRoomMetadataRequest, api.update_room_metadata, room=named),
        "PerformRpc": Rpc(room.PerformRpcRequest, api.perform_rpc, room=named),
        "ForwardParticipant": Rpc(room.ForwardParticipantRequest, _between_rooms("ForwardParticipant"), room=named),
        "MoveParticipant": Rpc(room.MoveParticipantRequest, _between_rooms("MoveParticipant"), room=named),
    }


def _together(answers: Sequence[room.ListRoomsResponse]) -> room.ListRoomsResponse:
    return room.ListRoomsResponse(rooms=[one for answer in answers for one in answer.rooms])


Between = room.ForwardParticipantRequest | room.MoveParticipantRequest


def _between_rooms(method: str) -> Callable[[Auth, Between], Awaitable[models.ParticipantInfo]]:
    async def refuse(auth: Auth, request: Between) -> models.ParticipantInfo:
        auth.require_room_admin(request.room)
        if auth.video.destination_room != request.destination_room:
            raise TwirpError("unauthenticated", "permissions denied")
        raise TwirpError("unimplemented", f"{method} is not implemented by this server")

    return refuse


class _RoomService:
    def __init__(self, manager: RoomManager, limits: LimitConfig) -> None:
        self._manager = manager
        self._limits = limits

    async def create_room(self, auth: Auth, request: room.CreateRoomRequest) -> models.Room:
        auth.require("room_create")
        if not request.name:
            raise TwirpError("invalid_argument", "room name is missing")
        limit = self._limits.max_room_name_length
        if limit and len(request.name) > limit:
            raise TwirpError("invalid_argument", f"room name length exceeds limits: max length {limit}")
        self._check_metadata(request.metadata)
        try:
            for wish in request.agents:
                self._manager.settings.check_wish(wish)
        except ValueError as error:
            raise TwirpError("invalid_argument", str(error)) from error
        if request.room_preset and request.room_preset not in self._manager.settings.room_configurations:
            raise TwirpError("invalid_argument", f"unknown room preset {request.room_preset!r}")
        try:
            created = await self._manager.create_room(request)
        except (MediaFailed, TooManyRooms) as error:
            raise TwirpError("unavailable", str(error)) from error
        return created.to_proto()

    async def list_rooms(self, auth: Auth, request: room.ListRoomsRequest) -> room.ListRoomsResponse:
        auth.require("room_list")
        return room.ListRoomsResponse(rooms=self._manager.list_rooms(list(request.names)))

    async def delete_room(self, auth: Auth, request: room.DeleteRoomRequest) -> room.DeleteRoomResponse:
        auth.require("room_create")
        if not await self._manager.delete_room(request.room):
            raise TwirpError("not_found", "requested room does not exist")
        return room.DeleteRoomResponse()

    async def update_room_metadata(self, auth: Auth, request: room.UpdateRoomMetadataRequest) -> models.Room:
        auth.require_room_admin(request.room)
        self._check_metadata(request.metadata)
        target = self._room(request.room)
        target.set_metadata(request.metadata)
        return target.to_proto()

    async def list_participants(
        self, auth: Auth, request: room.ListParticipantsRequest
    ) -> room.ListParticipantsResponse:
        auth.require_room_admin(request.room)
        target = self._manager.get_room(request.room)
        participants = target.participants.values() if target else ()
        return room.ListParticipantsResponse(participants=[p.to_proto() for p in participants])

    async def get_participant(self, auth: Auth, request: room.RoomParticipantIdentity) -> models.ParticipantInfo:
        auth.require_room_admin(request.room)
        return self._participant(request.room, request.identity).to_proto()

    async def remove_participant(
        self, auth: Auth, request: room.RoomParticipantIdentity
    ) -> room.RemoveParticipantResponse:
        auth.require_room_admin(request.room)
        self._participant(request.room, request.identity)
        self._room(request.room).remove_participant(request.identity)
        return room.RemoveParticipantResponse()

    async def mute_published_track(self, auth: Auth, request: room.MuteRoomTrackRequest) -> room.MuteRoomTrackResponse:
        auth.require_room_admin(request.room)
        participant = self._participant(request.room, request.identity)
        try:
            track = participant.mute_track(request.track_sid, request.muted)
        except LookupError as error:
            raise TwirpError("not_found", "track is not found") from error
        except PermissionError as error:
            raise TwirpError("failed_precondition", "remote unmute not enabled") from error
        return room.MuteRoomTrackResponse(track=track)

    async def update_participant(self, auth: Auth, request: room.UpdateParticipantRequest) -> models.ParticipantInfo:
        auth.require_room_admin(request.room)
        participant = self._participant(request.room, request.identity)
        try:
            # an empty string means: leave it as it is
            participant.update_by_api(
                name=request.name or None,
                metadata=request.metadata or None,
                attributes=dict(request.attributes) or None,
                permission=request.permission if request.HasField("permission") else None,
            )
        except ValueError as error:
            raise TwirpError("invalid_argument", str(error)) from error
        return participant.to_proto()

    async def update_subscriptions(
        self, auth: Auth, request: room.UpdateSubscriptionsRequest
    ) -> room.UpdateSubscriptionsResponse:
        auth.require_room_admin(request.room)
        participant = self._participant(request.room, request.identity)
        participant.update_subscriptions(
            list(request.track_sids), request.subscribe, list(request.participant_tracks), by_api=True
        )
        return room.UpdateSubscriptionsResponse()

    async def send_data(self, auth: Auth, request: room.SendDataRequest) -> room.SendDataResponse:
        auth.require_room_admin(request.room)
        if len(request.nonce) not in (0, 16):
            raise TwirpError(
                "invalid_argument", f"nonce should be 16-bytes or not present, got: {len(request.nonce)} bytes"
            )
        self._room(request.room).send_data(
            request.data,
            kind=request.kind,
            topic=request.topic if request.HasField("topic") else "",
            destination_identities=tuple(request.destination_identities),
            destination_sids=tuple(request.destination_sids),
            nonce=request.nonce,
        )
        return room.SendDataResponse()

    async def perform_rpc(self, auth: Auth, request: room.PerformRpcRequest) -> room.PerformRpcResponse:
        auth.require_room_admin(request.room)
        self._participant(request.room, request.destination_identity)
        seconds = min(request.response_timeout_ms / 1000 or DEFAULT_RPC_SECONDS, MAX_RPC_SECONDS)
        target = self._room(request.room)
        try:
            payload = await target.perform_rpc(
                request.destination_identity, request.method, request.payload, timeout=seconds
            )
        except RpcError as error:
            if error.code in (RpcError.RESPONSE_TIMEOUT, RpcError.CONNECTION_TIMEOUT):
                raise TwirpError("deadline_exceeded", error.message) from error
            meta = {"rpc_code": str(error.code), "rpc_data": str(error.data or "")}
            raise TwirpError("failed_precondition", error.message, meta) from error
        return room.PerformRpcResponse(payload=payload)

    def _room(self, name: str) -> Room:
        target = self._manager.get_room(name)
        if target is None:
            raise TwirpError("not_found", "requested room does not exist")
        return target

    def _participant(self, room_name: str, identity: str) -> Participant:
        target = self._manager.get_room(room_name)
        participant = target.get_participant(identity) if target else None
        if participant is None:
            raise TwirpError("not_found", "participant does not exist")
        return participant

    def _check_metadata(self, metadata: str) -> None:
        try:
            self._manager.settings.check_metadata(metadata)
        except ValueError as error:
            raise TwirpError("invalid_argument", str(error)) from error
