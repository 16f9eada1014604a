"""Clients of the server's API services, one method a call. Each takes and returns the protocol's own messages."""

from __future__ import annotations

import builtins
from typing import Any, TypeVar

import aiohttp
from google.protobuf.message import Message
from livekit.protocol import agent_dispatch as dispatch, egress, ingress, models, room

from .access_token import AccessToken
from .grants import SIPGrants, VideoGrants
from .twirp import TwirpClient

__all__ = ["AgentDispatchService", "EgressService", "IngressService", "RoomService", "Service"]

Response = TypeVar("Response", bound=Message)


class Service:
    """Signs each call with just the grants it needs, or sends a token that was made elsewhere."""

    name = ""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, api_key: str = "", api_secret: str = "", *, token: str = ""
    ) -> None:
        self._client = TwirpClient(session, url)
        self._api_key = api_key
        self._api_secret = api_secret
        self._token = token

    async def _call(
        self,
        method: str,
        request: Message,
        response: type[Response],
        grants: VideoGrants,
        *,
        sip: SIPGrants | None = None,
        timeout: float | None = None,
    ) -> Response:
        token = self._token
        if not token:
            builder = AccessToken(self._api_key, self._api_secret).with_grants(grants)
            token = (builder.with_sip_grants(sip) if sip else builder).to_jwt()
        headers = {"Authorization": f"Bearer {token}"}
        return await self._client.request(self.name, method, request, headers, response, timeout=timeout)


def _admin(room_name: str, **more: Any) -> VideoGrants:
    return VideoGrants(room_admin=True, room=room_name, **more)


class RoomService(Service):
    """Rooms and the participants in them."""

    name = "RoomService"

    async def create_room(self, create: room.CreateRoomRequest) -> models.Room:
        """An existing room is returned as it is."""
        return await self._call("CreateRoom", create, models.Room, VideoGrants(room_create=True))

    async def list_rooms(self, list: room.ListRoomsRequest | None = None) -> room.ListRoomsResponse:
        request = list or room.ListRoomsRequest()
        return await self._call("ListRooms", request, room.ListRoomsResponse, VideoGrants(room_list=True))

    async def delete_room(self, delete: room.DeleteRoomRequest) -> room.DeleteRoomResponse:
        """Everybody in it is sent away."""
        return await self._call("DeleteRoom", delete, room.DeleteRoomResponse, VideoGrants(room_create=True))

    async def update_room_metadata(self, update: room.UpdateRoomMetadataRequest) -> models.Room:
        return await self._call("UpdateRoomMetadata", update, models.Room, _admin(update.room))

    async def list_participants(self, list: room.ListParticipantsRequest) -> room.ListParticipantsResponse:
        return await self._call("ListParticipants", list, room.ListParticipantsResponse, _admin(list.room))

    async def get_participant(self, get: room.RoomParticipantIdentity) -> models.ParticipantInfo:
        return await self._call("GetParticipant", get, models.ParticipantInfo, _admin(get.room))

    async def remove_participant(self, remove: room.RoomParticipantIdentity) -> room.RemoveParticipantResponse:
        return await self._call("RemoveParticipant", remove, room.RemoveParticipantResponse, _admin(remove.room))

    async def forward_participant(self, forward: room.ForwardParticipantRequest) -> None:
        grants = _admin(forward.room, destination_room=forward.destination_room)
        await self._call("ForwardParticipant", forward, room.ForwardParticipantResponse, grants)

    async def move_participant(self, move: room.MoveParticipantRequest) -> None:
        grants = _admin(move.room, destination_room=move.destination_room)
        await self._call("MoveParticipant", move, room.MoveParticipantResponse, grants)

    async def mute_published_track(self, update: room.MuteRoomTrackRequest) -> room.MuteRoomTrackResponse:
        return await self._call("MutePublishedTrack", update, room.MuteRoomTrackResponse, _admin(update.room))

    async def update_participant(self, update: room.UpdateParticipantRequest) -> models.ParticipantInfo:
        return await self._call("UpdateParticipant", update, models.ParticipantInfo, _admin(update.room))

    async def update_subscriptions(self, update: room.UpdateSubscriptionsRequest) -> room.UpdateSubscriptionsResponse:
        return await self._call("UpdateSubscriptions", update, room.UpdateSubscriptionsResponse, _admin(update.room))

    async def send_data(self, send: room.SendDataRequest) -> room.SendDataResponse:
        return await self._call("SendData", send, room.SendDataResponse, _admin(send.room))

    async def perform_rpc(self, rpc: room.PerformRpcRequest) -> room.PerformRpcResponse:
        """Call a method that a participant registered. Waits as long as the request's own time limit, plus 2 s."""
        timeout = (rpc.response_timeout_ms or 10_000) / 1000 + 2
        return await self._call("PerformRpc", rpc, room.PerformRpcResponse, _admin(rpc.room), timeout=timeout)


class AgentDispatchService(Service):
    """Which agents are in which rooms."""

    name = "AgentDispatchService"

    async def create_dispatch(self, req: dispatch.CreateAgentDispatchRequest) -> dispatch.AgentDispatch:
        """Ask for an agent by name. A missing room is created."""
        return await self._call("CreateDispatch", req, dispatch.AgentDispatch, _admin(req.room))

    async def delete_dispatch(self, dispatch_id: str, room_name: str) -> dispatch.AgentDispatch:
        """Its jobs are ended."""
        request = dispatch.DeleteAgentDispatchRequest(dispatch_id=dispatch_id, room=room_name)
        return await self._call("DeleteDispatch", request, dispatch.AgentDispatch, _admin(room_name))

    async def list_dispatch(self, room_name: str) -> builtins.list[dispatch.AgentDispatch]:
        request = dispatch.ListAgentDispatchRequest(room=room_name)
        answer = await self._call("ListDispatch", request, dispatch.ListAgentDispatchResponse, _admin(room_name))
        return list(answer.agent_dispatches)

    async def get_dispatch(self, dispatch_id: str, room_name: str) -> dispatch.AgentDispatch | None:
        request = dispatch.ListAgentDispatchRequest(dispatch_id=dispatch_id, room=room_name)
        answer = await self._call("ListDispatch", request, dispatch.ListAgentDispatchResponse, _admin(room_name))
        return answer.agent_dispatches[0] if answer.agent_dispatches else None


class EgressService(Service):
    """Recording and streaming out of rooms (needs a server with egress workers)."""

    name = "Egress"

    async def _start(self, method: str, request: Message) -> egress.EgressInfo:
        return await self._call(method, request, egress.EgressInfo, VideoGrants(room_record=True))

    async def start_egress(self, start: egress.StartEgressRequest) -> egress.EgressInfo:
        return await self._start("StartEgress", start)

    async def start_room_composite_egress(self, start: egress.RoomCompositeEgressRequest) -> egress.EgressInfo:
        return await self._start("StartRoomCompositeEgress", start)

    async def start_web_egress(self, start: egress.WebEgressRequest) -> egress.EgressInfo:
        return await self._start("StartWebEgress", start)

    async def start_participant_egress(self, start: egress.ParticipantEgressRequest) -> egress.EgressInfo:
        return await self._start("StartParticipantEgress", start)

    async def start_track_composite_egress(self, start: egress.TrackCompositeEgressRequest) -> egress.EgressInfo:
        return await self._start("StartTrackCompositeEgress", start)

    async def start_track_egress(self, start: egress.TrackEgressRequest) -> egress.EgressInfo:
        return await self._start("StartTrackEgress", start)

    async def update_layout(self, update: egress.UpdateLayoutRequest) -> egress.EgressInfo:
        return await self._start("UpdateLayout", update)

    async def update_stream(self, update: egress.UpdateStreamRequest) -> egress.EgressInfo:
        return await self._start("UpdateStream", update)

    async def stop_egress(self, stop: egress.StopEgressRequest) -> egress.EgressInfo:
        return await self._start("StopEgress", stop)

    async def list_egress(self, list: egress.ListEgressRequest) -> egress.ListEgressResponse:
        return await self._call("ListEgress", list, egress.ListEgressResponse, VideoGrants(room_record=True))


class IngressService(Service):
    """Streams from outside into rooms (needs a server with ingress workers)."""

    name = "Ingress"

    async def create_ingress(self, create: ingress.CreateIngressRequest) -> ingress.IngressInfo:
        return await self._call("CreateIngress", create, ingress.IngressInfo, VideoGrants(ingress_admin=True))

    async def update_ingress(self, update: ingress.UpdateIngressRequest) -> ingress.IngressInfo:
        return await self._call("UpdateIngress", update, ingress.IngressInfo, VideoGrants(ingress_admin=True))

    async def list_ingress(self, list: ingress.ListIngressRequest) -> ingress.ListIngressResponse:
        return await self._call("ListIngress", list, ingress.ListIngressResponse, VideoGrants(ingress_admin=True))

    async def delete_ingress(self, delete: ingress.DeleteIngressRequest) -> ingress.IngressInfo:
        return await self._call("DeleteIngress", delete, ingress.IngressInfo, VideoGrants(ingress_admin=True))
