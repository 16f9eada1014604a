"""Data tracks: small fresh frames over the unreliable channel, latest matters most.

A frame travels in one or more packets of `_data_track`: 12 bytes (version, start, final and extension flags; track
handle, sequence, frame number, 32-bit timestamp at 90 kHz), optional extensions, payload. The server rewrites the handle
to one that it told each subscriber (`DataTrackSubscriberHandles`).
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from livekit.protocol import models, rtc as proto

from .errors import ConnectError, PublishDataTrackError, PushFrameError, SubscribeDataTrackError
from .log import logger
from .transport import DATA_TRACK

if TYPE_CHECKING:
    from .room_core import RoomCore

HEADER = struct.Struct("!BBHHHI")
START, FINAL, EXTENDED = 0x10, 0x08, 0x04
TAG_USER_TIMESTAMP = 2
PACKET_SIZE = 16_000
MAX_FRAME_SIZE = 4 * 1024 * 1024
PUBLISH_TIMEOUT = 5.0
DEFAULT_BUFFER = 16
DEFAULT_PARTIAL_FRAMES = 2
MAX_HANDLE = 0xFFFF
RETURN_TIMEOUT = 30.0
"""Seconds in which the subscribed tracks of somebody whose session broke may come back, under new sids."""


@dataclass
class DataTrackFrame:
    """`user_timestamp`: any unsigned 64-bit number, by custom microseconds since the epoch."""

    payload: bytes
    user_timestamp: int | None = None


@dataclass
class DataTrackInfo:
    sid: str
    name: str
    uses_e2ee: bool


def _info_of(info: models.DataTrackInfo) -> DataTrackInfo:
    return DataTrackInfo(info.sid, info.name, bool(info.encryption))


def split_frame(frame: DataTrackFrame, handle: int, sequence: int, number: int, ticks: int) -> list[bytes]:
    """The packets of a frame. An empty payload is one packet."""
    extension = b""
    if frame.user_timestamp is not None:
        extension = struct.pack("!BBQ", TAG_USER_TIMESTAMP, 8, frame.user_timestamp)
        extension = struct.pack("!H", (len(extension) + 2 + 3) // 4 - 1) + extension
        extension += bytes(-len(extension) % 4)
    room = PACKET_SIZE - HEADER.size - len(extension)
    pieces = [frame.payload[i : i + room] for i in range(0, len(frame.payload), room)] or [b""]
    packets = []
    for index, piece in enumerate(pieces):
        flags = EXTENDED if extension else 0
        if index == 0:
            flags |= START
        if index == len(pieces) - 1:
            flags |= FINAL
        header = HEADER.pack(flags, 0, handle, (sequence + index) & 0xFFFF, number & 0xFFFF, ticks & 0xFFFFFFFF)
        packets.append(header + extension + piece)
    return packets


@dataclass
class _Packet:
    start: bool
    final: bool
    handle: int
    sequence: int
    number: int
    user_timestamp: int | None
    payload: bytes


def parse_packet(data: bytes) -> _Packet:
    """ValueError for what is not a data track packet of version 0."""
    if len(data) < HEADER.size:
        raise ValueError("too short")
    flags, _, handle, sequence, number, _ticks = HEADER.unpack_from(data)
    if flags >> 5:
        raise ValueError(f"unknown version {flags >> 5}")
    offset = HEADER.size
    timestamp = None
    if flags & EXTENDED:
        if len(data) < offset + 2:
            raise ValueError("extensions cut off")
        end = offset + (int.from_bytes(data[offset : offset + 2], "big") + 1) * 4
        if len(data) < end:
            raise ValueError("extensions cut off")
        at = offset + 2
        while at + 2 <= end:
            tag, length = data[at], data[at + 1]
            at += 2
            if tag == 0:
                break
            if at + length > end:
                raise ValueError("an extension is cut off")
            if tag == TAG_USER_TIMESTAMP and length == 8:
                timestamp = int.from_bytes(data[at : at + 8], "big")
            at += length
        offset = end
    return _Packet(bool(flags & START), bool(flags & FINAL), handle, sequence, number, timestamp, data[offset:])


class FrameAssembler:
    """Packets to frames. Keeps the newest few incomplete frames; older ones are given up."""

    def __init__(self, max_partial_frames: int = DEFAULT_PARTIAL_FRAMES) -> None:
        self.max_partial_frames = max_partial_frames
        self._partial: OrderedDict[int, dict[int, _Packet]] = OrderedDict()

    def forget(self) -> None:
        """What comes now belongs to no frame of before."""
        self._partial.clear()

    def push(self, packet: _Packet) -> DataTrackFrame | None:
        if packet.start and packet.final:
            return DataTrackFrame(packet.payload, packet.user_timestamp)
        packets = self._partial.setdefault(packet.number, {})
        packets[packet.sequence] = packet
        first = next((p for p in packets.values() if p.start), None)
        last = next((p for p in packets.values() if p.final), None)
        if first is not None and last is not None:
            count = ((last.sequence - first.sequence) & 0xFFFF) + 1
            if len(packets) == count:
                del self._partial[packet.number]
                ordered = [packets[(first.sequence + i) & 0xFFFF] for i in range(count)]
                return DataTrackFrame(b"".join(p.payload for p in ordered), first.user_timestamp)
        if sum(len(p.payload) for p in packets.values()) > MAX_FRAME_SIZE:
            del self._partial[packet.number]
        while len(self._partial) > self.max_partial_frames:
            self._partial.popitem(last=False)
        return None


class LocalDataTrack:
    """Ours. `try_push` never waits."""

    def __init__(self, manager: DataTrackManager, info: models.DataTrackInfo) -> None:
        self._manager = manager
        self._info = info
        self._sequence = 0
        self._number = 0
        self._published = True

    @property
    def info(self) -> DataTrackInfo:
        return _info_of(self._info)

    def is_published(self) -> bool:
        return self._published

    def try_push(self, frame: DataTrackFrame) -> None:
        """Send a frame. PushFrameError when it cannot be sent right now, or exceeds 4 MiB."""
        if not self._published:
            raise PushFrameError("the data track is not published")
        if len(frame.payload) > MAX_FRAME_SIZE:
            raise PushFrameError(f"a frame holds {MAX_FRAME_SIZE} bytes at most, not {len(frame.payload)}")
        ticks = self._manager.clock_offset + time.monotonic_ns() * 9 // 100_000
        packets = split_frame(frame, self._info.pub_handle, self._sequence, self._number, ticks)
        self._sequence += len(packets)
        self._number += 1
        self._manager.send(packets)

    async def unpublish(self) -> None:
        """Twice is fine."""
        if self._published:
            self._published = False
            self._manager.unpublish(self)

    def __repr__(self) -> str:
        return f"rtc.LocalDataTrack(sid={self._info.sid}, name={self._info.name})"


class DataTrackStream:
    """Frames of a subscribed data track. When the reader is slow, the oldest frames go."""

    def __init__(self, track: RemoteDataTrack, buffer_size: int) -> None:
        self._track = track
        self._frames: deque[DataTrackFrame] = deque(maxlen=buffer_size)
        self._arrived = asyncio.Event()
        self._ended = False

    def _put(self, frame: DataTrackFrame) -> None:
        self._frames.append(frame)
        self._arrived.set()

    def _end(self) -> None:
        self._ended = True
        self._arrived.set()

    async def read(self) -> DataTrackFrame | None:
        """The next frame; None when the track was unpublished or the stream closed."""
        while not self._frames:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._frames.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DataTrackFrame:
        frame = await self.read()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def close(self) -> None:
        """Unsubscribe when it was the last stream. Twice is fine."""
        if not self._ended:
            self._frames.clear()
            self._end()
            self._track._stream_closed(self)

    async def aclose(self) -> None:
        self.close()


class RemoteDataTrack:
    def __init__(self, manager: DataTrackManager, info: models.DataTrackInfo, publisher_identity: str) -> None:
        self._manager = manager
        self._info = info
        self._publisher_identity = publisher_identity
        self._streams: dict[DataTrackStream, None] = {}
        self._assembler = FrameAssembler()
        self._published = True

    @property
    def info(self) -> DataTrackInfo:
        return _info_of(self._info)

    @property
    def publisher_identity(self) -> str:
        return self._publisher_identity

    def is_published(self) -> bool:
        return self._published

    def set_pipeline_options(self, *, max_partial_frames: int | None = None) -> None:
        """How many incomplete frames to wait for at a time."""
        self._assembler.max_partial_frames = max_partial_frames or DEFAULT_PARTIAL_FRAMES

    def subscribe(self, *, buffer_size: int | None = None) -> DataTrackStream:
        """Receive its frames. SubscribeDataTrackError when it is gone."""
        if not self._published:
            raise SubscribeDataTrackError("the data track is not published")
        stream = DataTrackStream(self, buffer_size or DEFAULT_BUFFER)
        if not self._streams:
            self._manager.set_subscribed(self._info.sid, True)
        self._streams[stream] = None
        return stream

    def _stream_closed(self, stream: DataTrackStream) -> None:
        self._streams.pop(stream, None)
        if not self._streams and self._published:
            self._manager.set_subscribed(self._info.sid, False)

    def _handle(self, packet: _Packet) -> None:
        frame = self._assembler.push(packet)
        if frame is not None:
            for stream in self._streams:
                stream._put(frame)

    def _unpublished(self) -> None:
        self._published = False
        for stream in self._streams:
            stream._end()
        self._streams.clear()

    def __repr__(self) -> str:
        return f"rtc.RemoteDataTrack(sid={self._info.sid}, name={self._info.name})"


class DataTrackManager:
    """All data tracks of a room."""

    def __init__(self, room: RoomCore) -> None:
        self._room = room
        self._remote: dict[str, RemoteDataTrack] = {}
        self._by_handle: dict[int, str] = {}
        self._local: dict[int, LocalDataTrack] = {}
        self._awaited: dict[tuple[str, str], tuple[RemoteDataTrack, asyncio.TimerHandle]] = {}
        """Subscribed tracks of those who are expected back, by identity and name."""
        self._names: set[str] = set()
        """Of the tracks that are being published."""
        self._last_handle = 0
        self.clock_offset = secrets.randbits(32)

    async def publish(self, name: str) -> LocalDataTrack:
        session = self._room.session
        if session is None or session.publisher is None:
            raise PublishDataTrackError("cannot publish: the room is not connected")
        if name in self._names or any(track._info.name == name for track in self._local.values()):
            raise PublishDataTrackError(f"a data track called {name!r} is published already")
        if self._last_handle >= MAX_HANDLE:
            raise PublishDataTrackError("no handle is left for another data track")
        self._last_handle += 1
        self._names.add(name)
        try:
            info = await self._publish(self._last_handle, name)
        finally:
            self._names.discard(name)
        track = self._local[info.pub_handle] = LocalDataTrack(self, info)
        return track

    async def _publish(self, handle: int, name: str) -> models.DataTrackInfo:
        session = self._room.session
        if session is None or session.publisher is None:
            raise PublishDataTrackError("cannot publish: the room is not connected")
        key = ("data_track", handle)
        answer = session.expect(key)
        request = proto.PublishDataTrackRequest(pub_handle=handle, name=name)
        session.send(proto.SignalRequest(publish_data_track_request=request))
        info: models.DataTrackInfo | None = None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                info = await answer
            session.offer_publisher()
            await session.publisher.wait_channel(DATA_TRACK, PUBLISH_TIMEOUT)
        except BaseException as error:
            # Published or not: nobody here holds it, so nobody shall see it there.
            if info is not None or not isinstance(error, ConnectError):
                self._send_unpublish(handle)
            if isinstance(error, TimeoutError):
                why = f"the server did not answer within {PUBLISH_TIMEOUT:g} s"
                raise PublishDataTrackError(why) from None
            if isinstance(error, ConnectError):
                raise PublishDataTrackError(f"cannot publish {name!r}: {error.message}") from None
            raise
        finally:
            session.forget(key)
        return info

    def unpublish(self, track: LocalDataTrack) -> None:
        if self._local.pop(track._info.pub_handle, None) is not None:
            self._send_unpublish(track._info.pub_handle)

    def _send_unpublish(self, handle: int) -> None:
        if self._room.session is not None:
            request = proto.UnpublishDataTrackRequest(pub_handle=handle)
            self._room.session.send(proto.SignalRequest(unpublish_data_track_request=request))

    def published(self) -> list[proto.PublishDataTrackResponse]:
        """For `SyncState`."""
        return [proto.PublishDataTrackResponse(info=track._info) for track in self._local.values()]

    def subscribed(self) -> proto.UpdateDataSubscription:
        """For `SyncState`; the server answers with the handles."""
        sids = [sid for sid, track in self._remote.items() if track._streams]
        updates = [proto.UpdateDataSubscription.Update(track_sid=sid, subscribe=True) for sid in sids]
        return proto.UpdateDataSubscription(updates=updates)

    def session_replaced(self) -> None:
        """A full reconnect: what is received is asked for again. What is published follows with `republish`."""
        self._by_handle.clear()
        for sid, track in self._remote.items():
            if track._streams:
                self.set_subscribed(sid, True)

    async def republish(self) -> None:
        """After a full reconnect: the same tracks, with the same handles, under new sids."""
        for handle, track in list(self._local.items()):
            try:
                info = await self._publish(handle, track._info.name)
            except PublishDataTrackError as error:
                logger.error("%r is not published any more: %s", track, error)
                track._published = False
                self._local.pop(handle, None)
                continue
            track._info = info
            if not track._published:  # by the program, meanwhile
                self._send_unpublish(handle)

    def participant_left(self, identity: str, *, expected_back: bool) -> None:
        """Its tracks end. Those that are read wait a while for it if it may come back."""
        if expected_back:
            for sid, track in list(self._remote.items()):
                if track._publisher_identity == identity and track._streams:
                    del self._remote[sid]
                    key = (identity, track._info.name)
                    timer = asyncio.get_running_loop().call_later(RETURN_TIMEOUT, self._give_up, key)
                    self._awaited[key] = (track, timer)
        self.set_published(models.ParticipantInfo(identity=identity), announce=True)

    def _give_up(self, key: tuple[str, str]) -> None:
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            awaited[0]._unpublished()
            self._room.emit("data_track_unpublished", awaited[0]._info.sid)

    def send(self, packets: list[bytes]) -> None:
        session = self._room.session
        if session is None or session.publisher is None:
            raise PushFrameError("the room is not connected")
        try:
            for packet in packets:
                session.publisher.peer.send(DATA_TRACK, packet)
        except (RuntimeError, BufferError) as error:
            raise PushFrameError(f"the data channel does not take the frame: {error}") from None

    def set_published(self, info: models.ParticipantInfo, *, announce: bool) -> None:
        """What a participant publishes now, as its newest info says."""
        present = {track.sid for track in info.data_tracks}
        by_name = {track.name: track for track in info.data_tracks if track.sid not in self._remote}
        for sid, track in list(self._remote.items()):
            if track._publisher_identity == info.identity and sid not in present and track._info.name in by_name:
                # The publisher came back within one update.
                del self._remote[sid]
                self._adopt(track, by_name[track._info.name])
        for name, published in by_name.items():
            if awaited := self._awaited.pop((info.identity, name), None):
                awaited[1].cancel()
                self._adopt(awaited[0], published)
        for sid, track in list(self._remote.items()):
            if track._publisher_identity == info.identity and sid not in present:
                del self._remote[sid]
                track._unpublished()
                if announce:
                    self._room.emit("data_track_unpublished", sid)
        for published in info.data_tracks:
            if published.sid not in self._remote:
                track = self._remote[published.sid] = RemoteDataTrack(self, published, info.identity)
                if announce:
                    self._room.emit("data_track_published", track)

    def _adopt(self, track: RemoteDataTrack, published: models.DataTrackInfo) -> None:
        """The same track to the program, published again under a new sid."""
        track._info = published
        track._assembler.forget()
        self._remote[published.sid] = track
        if track._streams:
            self.set_subscribed(published.sid, True)

    def set_subscribed(self, sid: str, subscribed: bool) -> None:
        if self._room.session is not None:
            update = proto.UpdateDataSubscription.Update(track_sid=sid, subscribe=subscribed)
            self._room.session.send(
                proto.SignalRequest(update_data_subscription=proto.UpdateDataSubscription(updates=[update]))
            )

    def set_handles(self, handles: proto.DataTrackSubscriberHandles) -> None:
        """The whole map of what the server sends: handle to track."""
        self._by_handle = {handle: entry.track_sid for handle, entry in handles.sub_handles.items()}

    def handle_packet(self, data: bytes) -> None:
        try:
            packet = parse_packet(data)
        except ValueError:
            return
        track = self._remote.get(self._by_handle.get(packet.handle, ""))
        if track is not None:
            track._handle(packet)

    def close(self) -> None:
        for local in self._local.values():
            local._published = False
        self._local.clear()
        for remote in self._remote.values():
            remote._unpublished()
        for remote, timer in self._awaited.values():
            timer.cancel()
            remote._unpublished()
        self._awaited.clear()
        self._remote.clear()
        self._by_handle.clear()
