"""The same test with both SDKs: their public surfaces are alike, so `sdk` is one module or the other."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import numpy as np

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import token, until

GREENROOM = "greenroom.rtc"
OFFICIAL = "livekit.rtc"
PAIRS = [(GREENROOM, GREENROOM), (GREENROOM, OFFICIAL), (OFFICIAL, GREENROOM)]
WAIT = 15.0


class Member:
    """A participant in the room, with either SDK, and the events it saw."""

    def __init__(self, sdk: ModuleType, identity: str) -> None:
        self.sdk = sdk
        self.identity = identity
        self.room = sdk.Room()
        self._seen: list[tuple[str, tuple[Any, ...]]] = []
        self._changed = asyncio.Event()
        for event in (
            "participant_connected participant_disconnected track_published track_unpublished track_subscribed "
            "track_unsubscribed track_muted track_unmuted data_received participant_metadata_changed "
            "participant_attributes_changed participant_name_changed disconnected reconnecting reconnected "
            "local_track_republished active_speakers_changed room_metadata_changed transcription_received "
            "participant_active data_track_published local_track_subscribed"
        ).split():
            self.room.on(event, self._recorder(event))

    def _recorder(self, event: str) -> Callable[..., None]:
        def record(*args: Any) -> None:
            self._seen.append((event, args))
            self._changed.set()

        return record

    @property
    def me(self) -> Any:
        return self.room.local_participant

    def events(self, event: str) -> list[tuple[Any, ...]]:
        return [args for name, args in self._seen if name == event]

    async def seen(self, event: str, match: Callable[..., Any] = lambda *_: True, seconds: float = WAIT) -> Any:
        """The arguments of the first `event`, past or to come, for which `match` holds."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for args in self.events(event):
                        if match(*args):
                            return args
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            names = [name for name, _ in self._seen]
            raise AssertionError(f"{self.identity} did not see {event} within {seconds:g} s, only {names}") from None

    async def connect(self, url: str, *, dual: bool = False, agent: bool = False, **options: Any) -> None:
        chosen = self.sdk.RoomOptions(single_peer_connection=False if dual else None, **options)
        jwt = token(self.identity, "test")
        if agent:
            grants = VideoGrants(room_join=True, room="test")
            jwt = (
                AccessToken(DEV_KEY, DEV_SECRET)
                .with_identity(self.identity)
                .with_kind("agent")
                .with_grants(grants)
                .to_jwt()
            )
        await self.room.connect(url.replace("http", "ws", 1), jwt, chosen)

    async def publish_tone(self, frequency: float, seconds: float = 30.0) -> tuple[Any, asyncio.Task[None]]:
        """A microphone with a sine; the task feeds it."""
        source = self.sdk.AudioSource(48000, 1, 200)
        track = self.sdk.LocalAudioTrack.create_audio_track("mic", source)
        options = self.sdk.TrackPublishOptions(source=self.sdk.TrackSource.SOURCE_MICROPHONE)
        publication = await self.me.publish_track(track, options)

        async def feed() -> None:
            for start in range(0, int(48000 * seconds), 480):
                samples = 9000 * np.sin(2 * np.pi * frequency * np.arange(start, start + 480) / 48000)
                await source.capture_frame(self.sdk.AudioFrame(samples.astype(np.int16).tobytes(), 48000, 1, 480))

        return publication, asyncio.create_task(feed())

    async def publish_picture(
        self, left: tuple[int, int, int], right: tuple[int, int, int], **options: Any
    ) -> tuple[Any, asyncio.Task[None]]:
        """A camera that shows two colours side by side; the task feeds it."""
        source = self.sdk.VideoSource(320, 240)
        track = self.sdk.LocalVideoTrack.create_video_track("cam", source)
        options.setdefault("source", self.sdk.TrackSource.SOURCE_CAMERA)
        publication = await self.me.publish_track(track, self.sdk.TrackPublishOptions(**options))
        picture = np.zeros((240, 320, 4), np.uint8)
        picture[:, :160, :3], picture[:, 160:, :3], picture[:, :, 3] = left, right, 255
        frame = self.sdk.VideoFrame(320, 240, self.sdk.VideoBufferType.RGBA, picture.tobytes())

        async def feed() -> None:
            while True:
                source.capture_frame(frame)
                await asyncio.sleep(1 / 20)

        return publication, asyncio.create_task(feed())


def lose_socket(member: Member) -> None:
    """Cut the signalling connection of one of ours as a network failure would."""
    member.room._core.session.signal._socket._response.connection.transport.abort()


@asynccontextmanager
async def in_room(
    server: RoomServer, first: str, second: str, *, dual: bool = False, agent: bool = False
) -> AsyncIterator[tuple[Any, Any]]:
    """Alice (perhaps an agent) with the one SDK and Bob with the other."""
    members = [Member(importlib.import_module(first), "alice"), Member(importlib.import_module(second), "bob")]
    try:
        await members[0].connect(server.url, dual=dual, agent=agent)
        await members[1].connect(server.url, dual=dual)
        await members[0].seen("participant_connected", lambda p: p.identity == "bob")
        yield members[0], members[1]
    finally:
        for member in members:
            await member.room.disconnect()


@asynccontextmanager
async def feeding(task: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def listen(member: Member, track: Any, seconds: float = 1.0, rate: int = 48000, channels: int = 1) -> Any:
    """So much sound of a track, from the first frame that is not silent, as an int16 array (samples, channels)."""
    stream = member.sdk.AudioStream(track, sample_rate=rate, num_channels=channels)
    blocks: list[Any] = []
    try:
        async with asyncio.timeout(WAIT):
            async for event in stream:
                frame = event.frame
                assert (frame.sample_rate, frame.num_channels) == (rate, channels)
                block = np.frombuffer(frame.data, np.int16).reshape(-1, channels)
                if blocks or np.abs(block).max() > 500:
                    blocks.append(block)
                if sum(map(len, blocks)) >= rate * seconds:
                    break
    finally:
        await stream.aclose()
    return np.concatenate(blocks)


def dominant_frequency(samples: Any, rate: int = 48000) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


async def watch(member: Member, track: Any, left: tuple[int, int, int], right: tuple[int, int, int]) -> Any:
    """Until a picture with these two colours, give or take what video coding costs, is there."""
    stream = member.sdk.VideoStream(track, format=member.sdk.VideoBufferType.RGBA)
    last: Any = None
    try:
        async with asyncio.timeout(WAIT):
            async for event in stream:
                frame = event.frame
                last = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)
                middle = frame.height // 2
                colours = last[middle, frame.width // 4, :3], last[middle, frame.width * 3 // 4, :3]
                if all(np.abs(c.astype(int) - w).max() < 30 for c, w in zip(colours, (left, right), strict=True)):
                    return frame
    finally:
        await stream.aclose()
    raise AssertionError(f"the colours never came; last picture: {last is not None and last[120, ::40, :3]}")


async def unsubscribed(server: RoomServer, member: Member) -> None:
    """The member and the server agree that the member is subscribed to nothing.

    The official client announces "unsubscribed" before the server has heard of it and sends each request from a task of its
    own: two in a row can arrive swapped (seen in 1 of 150 and 1 of 240 pairs), and then "unsubscribe" is what was asked for
    last. Who asks for the opposite waits for this first.
    """
    await member.seen("track_unsubscribed")
    subscriptions = server.manager.rooms["test"].participants[member.identity].subscriptions
    await until(lambda: not subscriptions.active, "the server has taken the request to unsubscribe")
