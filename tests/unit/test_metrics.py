"""Metrics: names that LiveKit's dashboards know, on a port of their own."""

import aiohttp
import pytest
from livekit.protocol import models
from prometheus_client.parser import text_string_to_metric_families

from greenroom.api import CreateRoomRequest, DeleteRoomRequest, LiveKitAPI
from greenroom.server.app import RoomServer, StartError
from greenroom.server.config import PrometheusConfig, ServerConfig
from greenroom.server.manager import RoomEvent
from greenroom.server.prometheus import Metrics

from .server_fakes import FakeMediaServer


class CountingMedia(FakeMediaServer):
    """A fake that counted something."""

    def metrics(self):
        return {"packets_in": 5, "packets_out": 7, "bytes_out": 900, "nacks_in": 1, "dropped_bad_srtp": 3}


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def samples(text: str) -> dict[tuple, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key not in ("node_id", "node_type")}
            assert sample.labels["node_type"] == "SERVER"
            found[(sample.name, *sorted(labels.values()))] = sample.value
    return found


async def test_rooms_calls_and_packets_are_counted():
    config = ServerConfig.dev(port=0, prometheus=PrometheusConfig(port=free_port(), username="u", password="p"))
    async with RoomServer(config, media=CountingMedia()) as server, LiveKitAPI(server.url, "devkey", "secret") as api:
        await api.room.create_room(CreateRoomRequest(name="a"))
        await api.room.create_room(CreateRoomRequest(name="b"))
        server.manager.limited["held_offers"] += 3
        for name in ("a", "b"):
            server.manager.rooms[name].data.dropped["over_budget"] += 2
            server.manager.rooms[name].data.tracks.dropped["unknown_handle"] += 1
        await api.room.delete_room(DeleteRoomRequest(room="b"))
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                assert response.status == 401
            async with session.get(url, headers={"Authorization": "Basic dTpw"}) as response:
                found = samples(await response.text())
    assert found[("livekit_room_total",)] == 1
    assert found[("livekit_participant_total",)] == 0
    assert found[("livekit_room_duration_seconds_count",)] == 1
    assert found[("livekit_packet_total", "outgoing")] == 7
    assert found[("livekit_packet_bytes_total", "outgoing")] == 900
    assert found[("livekit_nack_total", "incoming")] == 1
    assert found[("greenroom_limited_total", "held_offers")] == 3
    assert found[("greenroom_data_dropped_total", "over_budget")] == 4, "rooms that are gone count too"
    assert found[("greenroom_data_dropped_total", "unknown_handle")] == 2
    assert found[("greenroom_media_dropped_bad_srtp",)] == 3
    assert found[("livekit_node_twirp_request_status_total", "", "CreateRoom", "RoomService", "success")] == 2


def test_people_and_tracks_are_counted_as_they_come():
    class FakeManager:
        def __init__(self):
            self.rooms = {}

        def on(self, callback):
            self.emit = callback

    manager = FakeManager()
    metrics = Metrics(manager, CountingMedia(), node_id="ND_x")
    room = type("FakeRoom", (), {"sid": "RM_x"})
    for kind in ("participant_joined", "participant_active", "participant_joined"):
        manager.emit(RoomEvent(kind, room))
    manager.emit(RoomEvent("track_published", room, None, models.TrackInfo(type=models.TrackType.VIDEO)))
    value = metrics.registry.get_sample_value
    node = {"node_id": "ND_x", "node_type": "SERVER"}
    assert value("livekit_participant_join_total", node | {"state": "joined"}) == 2
    assert value("livekit_participant_join_total", node | {"state": "active"}) == 1
    assert value("livekit_track_publish_counter_total", node | {"kind": "video", "state": "success"}) == 1


async def test_a_taken_port_is_a_clear_error():
    async with RoomServer(ServerConfig.dev(port=0), media=FakeMediaServer()) as other:
        config = ServerConfig.dev(port=0, prometheus=PrometheusConfig(port=other.port))
        with pytest.raises(StartError, match=f"metrics on port {other.port}: it is in use"):
            await RoomServer(config, media=FakeMediaServer()).start()
