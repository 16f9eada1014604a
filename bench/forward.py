"""Forwarding: RTP packets that subscribers receive per second of the server's CPU time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from .figures import Figure, emit, say
from .fleet import Fleet, fleet
from .signalling import LoadClient
from .target import Options, Target, target

__all__ = ["ROWS", "Row", "measure", "run"]

PACKET_LEN = {"video": 1100, "audio": 150}
"""RTP packets in bytes, header included, SRTP tag not."""
VIDEO_BITRATE = 2_000_000
PACKETS_PER_FRAME = 10
AUDIO_HEADER_LEN = 24
"""Fixed header, mid and audio level."""
SETTLE_SECONDS = 2.0
WINDOWS = 3
MAX_LAG_MS = 20.0
"""How far the generator may fall behind in a window that counts, if there is one without."""
WINDOW_SECONDS = 15.0
QUICK_SECONDS = 4.0


@dataclass(frozen=True)
class Row:
    """One load: `publishers` streams of `kind` to each of `subscribers`. `reference`: packets per CPU-second."""

    kind: str
    publishers: int
    subscribers: int
    reference: float | None

    @property
    def name(self) -> str:
        return f"{self.kind} {self.publishers} to {self.subscribers}"


ROWS = (
    Row("video", 1, 10, 36_000),
    Row("video", 1, 30, 50_000),
    Row("video", 1, 60, 55_000),
    Row("audio", 10, 10, 26_000),
    Row("audio", 10, 30, 47_000),
    Row("audio", 10, 50, 57_000),
    # Nobody measured the peer here: a server near its limit, where batching shows.
    Row("video", 6, 60, None),
    Row("audio", 20, 60, None),
)


def audio_payloads() -> list[bytes]:
    """Looks like Opus (CELT, 20 ms, mono, one frame), sounds like noise: nobody decodes it here."""
    length = PACKET_LEN["audio"] - AUDIO_HEADER_LEN
    return [bytes([0x98, *((7 * index + 13 * row) % 256 for index in range(length - 1))]) for row in range(50)]


@dataclass(frozen=True)
class _Counts:
    packets: int
    lost: int
    late: int
    repairs: int
    skipped: int


def _counts(fleet: Fleet, subscribers: list[LoadClient]) -> _Counts:
    stats = fleet.peer_stats()
    streams = [s for client in subscribers for s in stats[client.subscriber_peer or 0]["received"].values()]
    sent = [s for peer in stats.values() for s in peer["sent"].values()]
    return _Counts(
        packets=sum(stream["packets"] for stream in streams),
        lost=sum(stream["lost"] + stream["missing"] for stream in streams),
        late=sum(stream["late"] for stream in streams),
        repairs=sum(stats[client.subscriber_peer or 0]["repairs"] for client in subscribers),
        skipped=sum(stream["skipped"] for stream in sent),
    )


async def publish(client: LoadClient, kind: str) -> None:
    if kind == "video":
        packet = PACKET_LEN["video"]
        await client.publish_video(bitrate=VIDEO_BITRATE, packet_len=packet, packets_per_frame=PACKETS_PER_FRAME)
    else:
        await client.publish_audio(audio_payloads(), stamp=True)


async def measure(server: Target, row: Row, windows: int, seconds: float, *, coalesce: bool) -> list[Figure]:
    """Run one load through `windows` windows of `seconds` and return the figures of the median one."""
    async with fleet(server, coalesce=coalesce) as load:
        room = f"forward-{row.kind}-{row.publishers}-{row.subscribers}"
        publishers = await load.join_many(row.publishers, room, publish=True, subscribe=False)
        await asyncio.gather(*(publish(client, row.kind) for client in publishers))
        subscribers = await load.join_many(row.subscribers, room)
        await load.wait_connected()
        await load.wait_streams(subscribers, row.publishers)
        await asyncio.sleep(SETTLE_SECONDS)
        measured = [await _window(server, load, subscribers, seconds) for _ in range(windows)]
    # A generator that was held up sends in bursts, which cost the server less: such windows say little.
    quiet = [window for window in measured if window[1]["generator_worst_lag_ms"] <= MAX_LAG_MS] or measured
    measured = sorted(quiet, key=lambda window: window[0])
    values = [value for value, _ in measured]
    value, detail = measured[(len(measured) - 1) // 2]
    detail |= {"min": round(values[0]), "max": round(values[-1]), "windows": len(measured)}
    lost = sum(window["lost"] for _, window in measured)
    return [
        Figure("forward", row.name, value, "packets/CPU-s", row.reference, detail=detail),
        Figure("forward", f"{row.name}, lost", lost, "packets", better="lower"),
    ]


async def _window(
    server: Target, load: Fleet, subscribers: list[LoadClient], seconds: float
) -> tuple[float, dict[str, Any]]:
    """Packets per CPU-second of one window, and what else was seen in it."""
    load.engine.mark()
    before, cpu_before, started = _counts(load, subscribers), server.cpu_seconds(), time.monotonic()
    generator_before = time.process_time()
    await asyncio.sleep(seconds)
    after, cpu_after, ended = _counts(load, subscribers), server.cpu_seconds(), time.monotonic()
    generator = time.process_time() - generator_before
    stats = load.engine.stats()
    elapsed, cpu = ended - started, cpu_after - cpu_before
    packets = after.packets - before.packets
    detail: dict[str, Any] = {
        "packets_per_second": round(packets / elapsed),
        "cpu_percent": round(100 * cpu / elapsed, 1),
        "us_per_packet": round(1e6 * cpu / packets, 2) if packets else None,
        "lost": after.lost - before.lost,
        "late": after.late - before.late,
        "repairs": after.repairs - before.repairs,
        "seconds": round(elapsed, 1),
        "generator_cpu_percent": round(100 * generator / elapsed, 1),
        "generator_worst_lag_ms": round(stats["worst_lag_us"] / 1000, 1),
        "generator_skipped": after.skipped - before.skipped,
    }
    if stats["delay_us"]:
        p50, p99, p999 = stats["delay_us"]
        detail["delay_us"] = {"p50": p50, "p99": p99, "p999": p999}
    return (packets / cpu if cpu else 0.0), detail


async def run(options: Options) -> None:
    seconds = options.seconds or (QUICK_SECONDS if options.quick else WINDOW_SECONDS)
    for row in ROWS:
        if options.rows and row.name not in options.rows and row.kind not in options.rows:
            continue
        say(f"forward: {row.name}")
        async with target(options) as server:
            windows = 1 if options.quick else WINDOWS
            for figure in await measure(server, row, windows, seconds, coalesce=options.coalesce):
                emit(figure)
