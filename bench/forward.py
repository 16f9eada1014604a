"""Forwarding: RTP packets that subscribers receive per second of the server's CPU time, the delay it adds, and loss.

The load is that of people in a call: cameras that send short runs of packets (`--pace`), microphones out of step with each
other, every participant on a socket of its own. With `--beside EXECUTABLE` a livekit-server is put under the same load in
the same run, round by round in turn."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from .figures import REFERENCE_SOURCE, Figure, emit, say
from .fleet import Fleet, fleet
from .signalling import LoadClient
from .target import Options, Target, livekit_server, target

__all__ = ["ROWS", "Row", "run"]

VIDEO_PACKET_LEN = 1100
"""Longest RTP packet in bytes, header included, SRTP tag not."""
VIDEO_BITRATE = 2_000_000
VIDEO_FRAME_RATE = 30
AUDIO_PACKET_LEN = 150
"""Mean RTP packet in bytes, header included, SRTP tag not."""
AUDIO_SPREAD = 20
"""Encoders of a variable bitrate: packets are so many bytes shorter or longer."""
AUDIO_HEADER_LEN = 24
"""Fixed header, mid and audio level."""
SETTLE_SECONDS = 2.0
ROUNDS = 3
MAX_LAG_MS = 20.0
"""How far the generator may fall behind in a window that counts, if there is one without."""
WINDOW_SECONDS = 8.0
QUICK_SECONDS = 4.0


@dataclass(frozen=True)
class Row:
    """One load: `publishers` streams of `kind` to each of `subscribers`. `reference`: packets per CPU-second."""

    kind: str
    publishers: int
    subscribers: int
    reference: float | None = None
    top_speakers: int = 0
    """The room forwards only so many speakers, 0: all."""
    audio_wait_ms: int = 0
    """How long our server may keep audio back."""
    beside: bool = True
    """A peer can carry it on this kind of machine."""

    @property
    def name(self) -> str:
        top = f", top {self.top_speakers}" if self.top_speakers else ""
        wait = f", wait {self.audio_wait_ms} ms" if self.audio_wait_ms else ""
        return f"{self.kind} {self.publishers} to {self.subscribers}{top}{wait}"

    @property
    def config(self) -> str:
        """What our server is told, YAML. Empty: nothing."""
        top, wait = self.top_speakers, self.audio_wait_ms
        lines = [f"room: {{top_speakers: {top}}}"] * bool(top) + [f"rtc: {{audio_wait_ms: {wait}}}"] * bool(wait)
        return "\n".join(lines)

    @property
    def streams(self) -> int:
        """That each subscriber receives."""
        return min(self.publishers, self.top_speakers or self.publishers)


ROWS = (
    Row("video", 1, 10, 36_000),
    Row("video", 1, 30, 50_000),
    Row("video", 1, 60, 55_000),
    Row("audio", 10, 10, 26_000),
    Row("audio", 10, 30, 47_000),
    Row("audio", 10, 50, 57_000),
    # What it would save if audio waited.
    Row("audio", 10, 30, 47_000, audio_wait_ms=3),
    Row("audio", 10, 50, 57_000, audio_wait_ms=3),
    # A server near its limit, where batching shows.
    Row("video", 6, 60),
    Row("audio", 20, 60),
    # Half a million packets a second, unless the room knows who speaks.
    Row("audio", 100, 100, beside=False),
    Row("audio", 100, 100, top_speakers=8, beside=False),
)


def audio_payloads(seed: int) -> list[bytes]:
    """Looks like Opus (CELT, 20 ms, mono, one frame), sounds like noise: nobody decodes it here."""
    numbers = random.Random(seed)
    mean = AUDIO_PACKET_LEN - AUDIO_HEADER_LEN - 1
    lengths = [mean + numbers.randint(-AUDIO_SPREAD, AUDIO_SPREAD) for _ in range(101)]
    return [bytes([0x98]) + numbers.randbytes(length) for length in lengths]


@dataclass(frozen=True)
class _Counts:
    packets: int
    lost: int
    late: int
    repairs: int
    sent: int
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
        sent=sum(stream["packets"] for stream in sent),
        skipped=sum(stream["skipped"] for stream in sent),
    )


async def _publish(client: LoadClient, row: Row, number: int, options: Options) -> None:
    if row.kind == "video":
        await client.publish_video(
            bitrate=VIDEO_BITRATE,
            frame_rate=VIDEO_FRAME_RATE,
            packet_len=VIDEO_PACKET_LEN,
            pace=options.pace,
            uplink_bps=int(1e6 * options.uplink_mbps),
        )
    else:
        # Loudness differs, so that a room that knows its speakers knows whom to forward.
        await client.publish_audio(audio_payloads(number), level=20 + number % 60, stamp=True)


@dataclass(frozen=True)
class _Window:
    """What was seen in one measuring window."""

    packets: int
    cpu: float
    """Seconds of the server's process, user and system."""
    delay_us: tuple[float, float, float] | None
    frame_delay_us: tuple[float, float, float] | None
    lag_ms: float
    detail: dict[str, Any]

    @property
    def rate(self) -> float:
        return self.packets / self.cpu if self.cpu else 0.0


async def _measure(server: Target, row: Row, seconds: float, options: Options) -> _Window:
    """Put one load on a server and watch it for `seconds`."""
    async with fleet(server, coalesce=options.coalesce) as load:
        room = f"forward-{row.kind}-{row.publishers}-{row.subscribers}"
        publishers = await load.join_many(row.publishers, room, publish=True, subscribe=False)
        jobs = (_publish(client, row, number, options) for number, client in enumerate(publishers))
        await asyncio.gather(*jobs)
        subscribers = await load.join_many(row.subscribers, room)
        await load.wait_connected()
        await load.wait_streams(subscribers, row.streams)
        await asyncio.sleep(SETTLE_SECONDS)
        return await _window(server, load, subscribers, seconds)


async def _window(server: Target, load: Fleet, subscribers: list[LoadClient], seconds: float) -> _Window:
    media_before = await server.media()
    load.engine.mark()
    before, cpu_before, started = _counts(load, subscribers), server.cpu_seconds(), time.monotonic()
    generator_before = time.process_time()
    await asyncio.sleep(seconds)
    after, cpu_after, ended = _counts(load, subscribers), server.cpu_seconds(), time.monotonic()
    generator = time.process_time() - generator_before
    stats = load.engine.stats()
    elapsed, cpu = ended - started, cpu_after - cpu_before
    packets, lag_ms = after.packets - before.packets, stats["worst_lag_us"] / 1000
    detail = {
        "packets_per_second": round(packets / elapsed),
        "ingested_per_second": round((after.sent - before.sent) / elapsed),
        "cpu_percent": round(100 * cpu / elapsed, 1),
        "us_per_packet": round(1e6 * cpu / packets, 2) if packets else None,
        "lost": after.lost - before.lost,
        "late": after.late - before.late,
        "repairs": after.repairs - before.repairs,
        "seconds": round(elapsed, 1),
        "generator_cpu_percent": round(100 * generator / elapsed, 1),
        "generator_worst_lag_ms": round(lag_ms, 1),
        "generator_skipped": after.skipped - before.skipped,
    }
    if media_before:
        media = {name: value - media_before[name] for name, value in (await server.media()).items()}
        sent = media["rtp_out"]
        detail |= {
            "packets_per_send": round(sent / media["sends"], 2),
            "sends_per_call": round(media["sends"] / media["send_calls"], 1),
            "turns_per_second": round(media["turns"] / elapsed),
        }
    return _Window(packets, cpu, stats["delay_us"], stats["frame_delay_us"], lag_ms, detail)


@dataclass(frozen=True)
class _Result:
    """All windows of one load on one server."""

    windows: list[_Window]

    def middle(self) -> _Window:
        """The one with the median cost. A generator that was held up sends in bursts, which cost a server less: such
        windows count only where there is no other."""
        quiet = [window for window in self.windows if window.lag_ms <= MAX_LAG_MS] or self.windows
        return sorted(quiet, key=lambda window: window.rate)[(len(quiet) - 1) // 2]

    def delay_ms(self, at: int, *, frames: bool = False) -> float | None:
        """The median over windows of the quantile at position `at`, of packets or of the last packets of frames."""
        each = [window.frame_delay_us if frames else window.delay_us for window in self.windows]
        delays = [delay[at] for delay in each if delay]
        return statistics.median(delays) / 1000 if delays else None

    def lost(self) -> int:
        return sum(window.detail["lost"] for window in self.windows)

    def detail(self) -> dict[str, Any]:
        rates = sorted(window.rate for window in self.windows)
        return self.middle().detail | {"min": round(rates[0]), "max": round(rates[-1]), "rounds": len(rates)}


def _figures(name: str, row: Row, ours: _Result, peer: _Result | None) -> list[Figure]:
    detail, reference, source = ours.detail(), row.reference, REFERENCE_SOURCE
    if peer is not None:
        reference, source = peer.middle().rate, "the server of --beside, in this run"
        detail["beside"] = peer.detail()
    figures = [Figure("forward", name, ours.middle().rate, "packets/CPU-s", reference, detail=detail, source=source)]
    for what, frames in (("delay", False), ("frame delay", True)):
        for at, quantile in ((0, "p50"), (1, "p99")):
            value = ours.delay_ms(at, frames=frames)
            if value is not None:
                other = peer.delay_ms(at, frames=frames) if peer else None
                label = f"{name}, {what} added {quantile}"
                figures.append(Figure("forward", label, value, "ms", other, better="lower", source=source))
    beside = {"beside": peer.lost()} if peer else None
    figures.append(Figure("forward", f"{name}, lost", ours.lost(), "packets", better="lower", detail=beside))
    return figures


def _chosen(options: Options) -> list[Row]:
    wanted = options.rows
    return [row for row in ROWS if not wanted or row.name in wanted or row.kind in wanted]


async def run(options: Options) -> None:
    seconds = options.seconds or (QUICK_SECONDS if options.quick else WINDOW_SECONDS)
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    for row in _chosen(options):
        shape = options.pace if row.kind == "video" and options.pace != "runs" else ""
        name = f"{row.name}, {shape}" if shape else row.name
        windows: tuple[list[_Window], list[_Window]] = ([], [])
        for number in range(rounds):
            say(f"forward: {name}, round {number + 1} of {rounds}")
            servers: list[AbstractAsyncContextManager[Target]] = [target(options, row.config)]
            if options.beside and row.beside:
                servers.append(livekit_server(options.beside))
            for kept, starting in zip(windows, servers, strict=False):
                async with starting as server:
                    kept.append(await _measure(server, row, seconds, options))
        peer = _Result(windows[1]) if windows[1] else None
        for figure in _figures(name, row, _Result(windows[0]), peer):
            emit(figure)
