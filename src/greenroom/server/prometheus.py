"""Metrics with the names that dashboards for LiveKit servers know, on a port of their own."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web
from livekit.protocol import models
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .config import PrometheusConfig
from .manager import RoomEvent, RoomManager

if TYPE_CHECKING:
    from greenroom._native import MediaServer

__all__ = ["Metrics", "MetricsServer"]

NODE_TYPE = "SERVER"
DIRECTIONS = {
    "packets": "livekit_packet",
    "bytes": "livekit_packet_bytes",
    "nacks": "livekit_nack",
    "plis": "livekit_pli",
}
"""Native counter (with `_in` and `_out`) to metric name."""
ROOM_SECONDS = (5, 10, 60, 5 * 60, 10 * 60, 30 * 60, 60 * 60, 2 * 60 * 60, 5 * 60 * 60, 10 * 60 * 60)
CALL_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000)


class Metrics(Collector):
    """Counts what happens, and looks at rooms and the native core when it is asked."""

    def __init__(self, manager: RoomManager, media: MediaServer, *, node_id: str) -> None:
        self.registry = CollectorRegistry()
        self._manager = manager
        self._media = media
        self._node = {"node_id": node_id, "node_type": NODE_TYPE}
        labels = list(self._node)
        self._joins = Counter(
            "livekit_participant_join", "Participants by how far they came", [*labels, "state"], registry=self.registry
        )
        self._published = Counter(
            "livekit_track_publish_counter", "Tracks published", [*labels, "kind", "state"], registry=self.registry
        )
        self._room_seconds = Histogram(
            "livekit_room_duration_seconds", "Life of rooms", labels, buckets=ROOM_SECONDS, registry=self.registry
        )
        call = [*labels, "service", "method"]
        self._calls = Counter(
            "livekit_node_twirp_request_status",
            "API calls by outcome",
            [*call, "status", "code"],
            registry=self.registry,
        )
        self._call_ms = Histogram(
            "livekit_node_twirp_request_latency_ms", "Time of API calls", call, buckets=CALL_MS, registry=self.registry
        )
        self._started: dict[str, float] = {}
        self.registry.register(self)
        manager.on(self._on_event)

    def _on_event(self, event: RoomEvent) -> None:
        if event.kind == "room_started":
            self._started[event.room.sid] = time.monotonic()
        elif event.kind == "room_finished":
            started = self._started.pop(event.room.sid, None)
            if started is not None:
                self._room_seconds.labels(**self._node).observe(time.monotonic() - started)
        elif event.kind in ("participant_joined", "participant_active", "participant_connection_aborted"):
            self._joins.labels(**self._node, state=event.kind.removeprefix("participant_")).inc()
        elif event.kind == "track_published" and event.track is not None:
            self._published.labels(**self._node, kind=_kind(event.track), state="success").inc()

    def twirp_call(self, service: str, method: str, outcome: str, seconds: float) -> None:
        status = "success" if outcome == "ok" else "failure"
        call = {**self._node, "service": service, "method": method}
        self._calls.labels(**call, status=status, code="" if outcome == "ok" else outcome).inc()
        self._call_ms.labels(**call).observe(seconds * 1000)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        rooms = list(self._manager.rooms.values())
        yield self._gauge("livekit_room_total", "Rooms that are open", len(rooms))
        people = [participant for room in rooms for participant in room.participants.values()]
        yield self._gauge("livekit_participant_total", "Participants in rooms", len(people))
        tracks = [track for participant in people for track in participant.to_proto().tracks]
        published = GaugeMetricFamily(
            "livekit_track_published_total", "Tracks published now", labels=[*self._node, "kind"]
        )
        for kind in ("audio", "video"):
            published.add_metric([*self._node.values(), kind], sum(_kind(track) == kind for track in tracks))
        yield published
        limited = CounterMetricFamily(
            "greenroom_limited", "Held back, refused or ended by a budget or a bound", labels=[*self._node, "reason"]
        )
        for reason, count in sorted(self._manager.limited.items()):
            limited.add_metric([*self._node.values(), reason], count)
        yield limited
        data = sum((room.data.drops() for room in rooms), self._manager.data_dropped.copy())
        dropped = CounterMetricFamily(
            "greenroom_data_dropped", "Data packets that were not forwarded", labels=[*self._node, "reason"]
        )
        for reason, count in sorted(data.items()):
            dropped.add_metric([*self._node.values(), reason], count)
        yield dropped
        yield from self._native()

    def _native(self) -> Iterable[Metric]:
        counters = dict(self._media.metrics())
        for key, name in DIRECTIONS.items():
            family = CounterMetricFamily(name, f"Media {key}", labels=[*self._node, "direction"])
            for suffix, direction in (("in", "incoming"), ("out", "outgoing")):
                family.add_metric([*self._node.values(), direction], counters.pop(f"{key}_{suffix}", 0))
            yield family
        for key, value in sorted(counters.items()):
            yield self._gauge(f"greenroom_media_{key}", "From the native core", value)

    def _gauge(self, name: str, help_text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, help_text, labels=list(self._node))
        family.add_metric(list(self._node.values()), value)
        return family


def _kind(track: models.TrackInfo) -> str:
    return models.TrackType.Name(track.type).lower()


class MetricsServer:
    """`GET /metrics`, with basic authentication when a user name or a password is configured."""

    def __init__(self, metrics: Metrics, config: PrometheusConfig, hosts: list[str]) -> None:
        self._metrics = metrics
        self._hosts = hosts
        self.port = config.port
        secret = f"{config.username}:{config.password}"
        self._expected = f"Basic {base64.b64encode(secret.encode()).decode()}" if secret != ":" else ""
        app = web.Application()
        app.router.add_get("/metrics", self._handle)
        app.router.add_get("/", self._handle)
        self._runner = web.AppRunner(app, access_log=None)

    async def _handle(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if self._expected and not hmac.compare_digest(given.encode(), self._expected.encode()):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="metrics"'})
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def start(self) -> None:
        """OSError when the port is taken."""
        await self._runner.setup()
        for host in self._hosts:
            await web.TCPSite(self._runner, host, self.port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()
