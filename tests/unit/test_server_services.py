"""API services that are added to a server from outside, without touching it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from livekit.protocol import egress
from livekit.protocol.room import ListRoomsRequest

from greenroom.api import LiveKitAPI
from greenroom.api.twirp import ServerError
from greenroom.server.app import RoomServer
from greenroom.server.auth import Auth
from greenroom.server.config import ServerConfig
from greenroom.server.twirp import Rpc
from tests.unit.server_fakes import FakeMediaServer


def recording(server: RoomServer) -> Mapping[str, Mapping[str, Rpc]]:
    async def list_egress(auth: Auth, request: egress.ListEgressRequest) -> egress.ListEgressResponse:
        auth.require("room_record")
        rooms = [request.room_name] if request.room_name else list(server.manager.rooms)
        return egress.ListEgressResponse(items=[egress.EgressInfo(room_name=name) for name in rooms])

    return {"Egress": {"ListEgress": Rpc(egress.ListEgressRequest, list_egress)}}


async def test_a_service_from_outside_answers_in_place_of_the_servers_own(media: FakeMediaServer) -> None:
    async with (
        RoomServer(ServerConfig.dev(port=0), media=media, services=recording) as server,
        LiveKitAPI(server.url, "devkey", "secret") as api,
    ):
        answer = await api.egress.list_egress(egress.ListEgressRequest(room_name="den"))
        assert [item.room_name for item in answer.items] == ["den"]
        with pytest.raises(ServerError, match="no handler"):
            await api.egress.stop_egress(egress.StopEgressRequest(egress_id="EG_1"))


async def test_the_other_services_stay(media: FakeMediaServer) -> None:
    async with (
        RoomServer(ServerConfig.dev(port=0), media=media, services=recording) as server,
        LiveKitAPI(server.url, "devkey", "secret") as api,
    ):
        assert list((await api.room.list_rooms(ListRoomsRequest())).rooms) == []
