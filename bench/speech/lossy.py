"""Voices that come over a real call (Opus, SRTP, our server and our clients) on a link that loses packets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from greenroom import rtc
from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET, RtcConfig, ServerConfig
from greenroom.tasks import Tasks

from ..sound import RATE
from ..target import TargetError

__all__ = ["over_a_lossy_link"]

logger = logging.getLogger("bench")

ROOM = "lossy"
CALLERS = 4
"""That speak at the same time, each on a track of its own, so that it takes a quarter of the time."""
FRAME = RATE // 50
LEAD = 0.1
"""Seconds before an utterance that are kept; less than there is silence between two."""
TAIL = 0.6
"""Seconds after it: what the way and the jitter buffer delay, at most."""
WAIT = 20.0


async def over_a_lossy_link(utterances: Sequence[bytes], *, loss: float, seed: int) -> tuple[list[bytes], float]:
    """What a listener hears of each (16 kHz), when `loss` of the packets that callers send never arrive, and the share that
    was really lost. In real time. Raises TargetError when no call comes about."""
    from tests.sim.lossy_link import LossyLink, through

    heard: list[bytes] = [b""] * len(utterances)
    async with RoomServer(ServerConfig.dev(port=0, rtc=RtcConfig(udp_port=0))) as server:
        port = server.manager.media.port(0)
        link = LossyLink(("127.0.0.1", port), loss=loss, jitter=0.0, seed=seed, loss_back=0.0)
        rooms: list[rtc.Room] = []
        try:
            with through(await link.start(), port):
                listener = _Listener()
                rooms.append(listener.room)
                await _join(server, listener.room, "listener")
                callers = []
                for number in range(min(CALLERS, len(utterances))):
                    rooms.append(rtc.Room())
                    await _join(server, rooms[-1], f"caller-{number}")
                    callers.append(await _microphone(rooms[-1]))
                recorded = [await listener.track(f"caller-{number}") for number in range(len(callers))]

                async def call(number: int) -> None:
                    for index in range(number, len(utterances), len(callers)):
                        heard[index] = await _said(callers[number], utterances[index], recorded[number])

                await asyncio.gather(*map(call, range(len(callers))))
        except (rtc.ConnectError, TimeoutError) as error:
            raise TargetError(f"no call over a lossy link: {error or type(error).__name__}") from None
        finally:
            for room in rooms:
                await room.disconnect()
            link.close()
    return heard, link.lost / max(1, link.sent)


async def _join(server: RoomServer, room: rtc.Room, identity: str) -> None:
    grants = VideoGrants(room_join=True, room=ROOM)
    token = AccessToken(DEV_KEY, DEV_SECRET).with_identity(identity).with_grants(grants).to_jwt()
    async with asyncio.timeout(WAIT):
        await room.connect(server.url.replace("http", "ws", 1), token)


async def _microphone(room: rtc.Room) -> rtc.AudioSource:
    source = rtc.AudioSource(RATE, 1, 100)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    async with asyncio.timeout(WAIT):
        await room.local_participant.publish_track(track, options)
        # The sound of a track begins with its first packet.
        await _play(source, bytes(FRAME * 2 * 10))
    return source


async def _play(source: rtc.AudioSource, pcm: bytes) -> None:
    for at in range(0, len(pcm), FRAME * 2):
        await source.capture_frame(rtc.AudioFrame(pcm[at : at + FRAME * 2].ljust(FRAME * 2, b"\0"), RATE, 1, FRAME))


async def _said(source: rtc.AudioSource, pcm: bytes, recorded: bytearray) -> bytes:
    """Say it, and return what was recorded meanwhile."""
    await _play(source, bytes(int(LEAD * RATE) * 2))
    await source.wait_for_playout()
    began = len(recorded)
    await _play(source, pcm + bytes(int(TAIL * RATE) * 2))
    await source.wait_for_playout()
    return bytes(recorded[max(0, began - int(LEAD * RATE) * 2) :])


class _Listener:
    """Records every track of its room."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self._recorded: dict[str, bytearray] = {}
        self._changed = asyncio.Event()
        self._tasks = Tasks(logger)
        self.room.on("track_subscribed", self._on_track)

    async def track(self, identity: str) -> bytearray:
        """What is heard of this participant so far, and grows. TimeoutError when it says nothing."""
        async with asyncio.timeout(WAIT):
            while identity not in self._recorded:
                self._changed.clear()
                await self._changed.wait()
        return self._recorded[identity]

    def _on_track(self, track: rtc.Track, publication: object, participant: rtc.RemoteParticipant) -> None:
        self._tasks.start(self._record(track, participant.identity), f"record {participant.identity}")

    async def _record(self, track: rtc.Track, identity: str) -> None:
        async with rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=10) as stream:
            async for event in stream:
                self._recorded.setdefault(identity, bytearray()).extend(event.frame.data.cast("B"))
                self._changed.set()
