"""Data streams: text or bytes of any length, sent in chunks over the reliable channel (protocol: `DataStream`)."""

from __future__ import annotations

import asyncio
import codecs
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from livekit.protocol import models

from .errors import StreamError
from .log import logger
from .participant import core_of

if TYPE_CHECKING:
    from .local_participant import LocalParticipant, LocalParticipantCore

STREAM_CHUNK_SIZE = 15_000
"""Bytes of content in one packet, and the limit for a whole header packet."""


@dataclass
class BaseStreamInfo:
    """`timestamp`: milliseconds since the epoch. `size`: bytes before compression, None when not known."""

    stream_id: str
    mime_type: str
    topic: str
    timestamp: int
    size: int | None
    attributes: dict[str, str] | None


@dataclass
class TextStreamInfo(BaseStreamInfo):
    attachments: list[str]


@dataclass
class ByteStreamInfo(BaseStreamInfo):
    name: str


TextStreamHandler = Callable[["TextStreamReader", str], Any]
ByteStreamHandler = Callable[["ByteStreamReader", str], Any]

Piece = TypeVar("Piece", str, bytes)


class IncomingStream(Generic[Piece]):
    """What arrived of a stream and was not read yet. The room puts in, a reader takes out."""

    def __init__(
        self, stream_id: str, decode: Callable[[bytes], Piece], *, on_close: Callable[[], None] | None = None
    ) -> None:
        self.unread = 0
        """Of its pieces, together."""
        self._stream_id = stream_id
        self._decode: Callable[[bytes], Piece] = decode
        self._on_close = on_close
        self._pieces: deque[Piece] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: StreamError | None = None
        self._closed = False

    def feed(self, content: bytes) -> None:
        try:
            piece = self._decode(content)
        except UnicodeDecodeError:
            self.end(StreamError(f"text stream {self._stream_id} is not UTF-8"))
            return
        if piece and not self._closed:
            self._pieces.append(piece)
            self.unread += len(piece)
            self._arrived.set()

    def end(self, error: StreamError | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._error = error
            self._arrived.set()

    async def next(self) -> Piece:
        """StopAsyncIteration after the end, StreamError when it broke."""
        while not self._pieces:
            if self._closed:
                raise StopAsyncIteration
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        piece = self._pieces.popleft()
        self.unread -= len(piece)
        return piece

    def close(self) -> None:
        """What arrives later is dropped. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._pieces.clear()
        self.unread = 0
        self._arrived.set()
        if self._on_close is not None:
            self._on_close()


class _StreamReader(Generic[Piece]):
    """Pieces in their order. Ends when the sender closed the stream; raises `StreamError` when it broke."""

    def __init__(self, stream: IncomingStream[Piece]) -> None:
        self._stream: IncomingStream[Piece] = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        return await self._stream.next()

    def close(self) -> None:
        """Stop reading; what arrives later is dropped. Twice is fine."""
        self._stream.close()

    async def aclose(self) -> None:
        self.close()


class TextStreamReader(_StreamReader[str]):
    def __init__(self, info: TextStreamInfo, stream: IncomingStream[str]) -> None:
        super().__init__(stream)
        self._info = info

    @property
    def info(self) -> TextStreamInfo:
        return self._info

    async def read_all(self) -> str:
        """The whole text, once the sender has closed the stream."""
        return "".join([piece async for piece in self])


class ByteStreamReader(_StreamReader[bytes]):
    def __init__(self, info: ByteStreamInfo, stream: IncomingStream[bytes]) -> None:
        super().__init__(stream)
        self._info = info

    @property
    def info(self) -> ByteStreamInfo:
        return self._info

    async def read_all(self) -> bytes:
        """All bytes, once the sender has closed the stream."""
        return b"".join([piece async for piece in self])


def text_decoder() -> Callable[[bytes], str]:
    """Bytes to text, also where a character is torn between two pieces. UnicodeDecodeError for what is not UTF-8."""
    return codecs.getincrementaldecoder("utf-8")().decode


def split_utf8(text: str, size: int = STREAM_CHUNK_SIZE) -> list[bytes]:
    """`text` as UTF-8 in pieces of at most `size` bytes, no character torn."""
    data = text.encode()
    pieces = []
    start = 0
    while start < len(data):
        end = min(start + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[start:end])
        start = end
    return pieces


def split_bytes(data: bytes, size: int = STREAM_CHUNK_SIZE) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield bytes(data[start : start + size])


class OutgoingStream:
    """A stream on its way to others: header, chunks, trailer."""

    def __init__(
        self,
        local: LocalParticipantCore,
        info: TextStreamInfo | ByteStreamInfo,
        destination_identities: list[str] | None,
        *,
        reply_to_id: str | None = None,
        sender_identity: str | None = None,
    ) -> None:
        self.header = make_header(info, reply_to_id)
        self._local = local
        self._id = info.stream_id
        self._destinations = list(destination_identities or [])
        self._sender = sender_identity or local.identity
        self._lock = asyncio.Lock()
        self._next_chunk = 0
        self._opened = False
        self._closed = False

    def packet(self, **content: Any) -> models.DataPacket:
        return models.DataPacket(
            kind=models.DataPacket.RELIABLE,
            participant_identity=self._sender,
            destination_identities=self._destinations,
            **content,
        )

    async def open(self) -> None:
        """Send the header. StreamError when it is too large or cannot be sent."""
        packet = self.packet(stream_header=self.header)
        if packet.ByteSize() > STREAM_CHUNK_SIZE:
            raise StreamError(f"the stream's header exceeds {STREAM_CHUNK_SIZE} bytes: use fewer or shorter attributes")
        await self._local.send_stream_packet(packet)
        self._opened = True

    async def write(self, pieces: Iterable[bytes]) -> None:
        """Send chunks. RuntimeError when it is not open."""
        async with self._lock:
            if self._closed:
                raise RuntimeError("Cannot write after stream is closed")
            if not self._opened:
                raise RuntimeError("Stream is not open")
            for piece in pieces:
                chunk = models.DataStream.Chunk(stream_id=self._id, chunk_index=self._next_chunk, content=piece)
                await self._local.send_stream_packet(self.packet(stream_chunk=chunk))
                # Cancelled before that it was not sent, and the next one has its number.
                self._next_chunk += 1

    async def close(self, *, reason: str = "", attributes: dict[str, str] | None = None) -> None:
        """Send the trailer. Cancelled, it is sent all the same: the reader waits for it. Twice is fine."""
        async with self._lock:
            if self._closed or not self._opened:
                return
            self._closed = True
            trailer = models.DataStream.Trailer(stream_id=self._id, reason=reason, attributes=attributes or {})
            packet = self.packet(stream_trailer=trailer)
            error = await asyncio.shield(self._local.room.tasks.start(self._send_end(packet), "ending a stream"))
            if error is not None:
                raise error

    async def _send_end(self, packet: models.DataPacket) -> StreamError | None:
        """The error is returned, not raised: whoever closed the stream may be gone."""
        try:
            await self._local.send_stream_packet(packet)
        except StreamError as error:
            return error
        return None

    def abort(self, error: BaseException) -> None:
        """What was begun will not be finished: tell the readers."""
        if self._opened and not self._closed:
            why = "cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
            self._local.room.tasks.start(self._end_abnormally(f"aborted: {why}"), "ending a stream")

    async def _end_abnormally(self, reason: str) -> None:
        try:
            await self.close(reason=reason)
        except StreamError as error:
            logger.debug("stream %s could not be ended: %s", self._id, error)


class _StreamWriter:
    """Common part of the writers. Closing twice is fine; writing after closing raises RuntimeError."""

    def __init__(self, stream: OutgoingStream) -> None:
        self._stream = stream

    async def aclose(self, *, reason: str = "", attributes: dict[str, str] | None = None) -> None:
        """End the stream. A `reason` makes it an abnormal end; `attributes` are merged into the reader's info.

        Cancelled, the end is sent all the same: the reader waits for it.
        """
        await self._stream.close(reason=reason, attributes=attributes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.aclose(reason=f"aborted: {error}" if error is not None else "")


Writer = TypeVar("Writer", bound=_StreamWriter)


async def open_writer(writer: Writer) -> Writer:
    """For the SDK: a writer is handed out when its stream is open."""
    await writer._stream.open()
    return writer


def make_header(info: TextStreamInfo | ByteStreamInfo, reply_to_id: str | None = None) -> models.DataStream.Header:
    header = models.DataStream.Header(
        stream_id=info.stream_id,
        timestamp=info.timestamp,
        topic=info.topic,
        mime_type=info.mime_type,
        attributes=info.attributes or {},
    )
    if info.size is not None:
        header.total_length = info.size
    if isinstance(info, TextStreamInfo):
        header.text_header.operation_type = models.DataStream.OperationType.CREATE
        header.text_header.reply_to_stream_id = reply_to_id or ""
        header.text_header.attached_stream_ids.extend(info.attachments)
    else:
        header.byte_header.name = info.name
    return header


def text_info(
    topic: str, attributes: dict[str, str] | None, size: int | None, stream_id: str | None = None
) -> TextStreamInfo:
    """Of a stream that begins now."""
    return TextStreamInfo(
        stream_id or str(uuid.uuid4()), "text/plain", topic, _now_ms(), size, dict(attributes or {}), []
    )


def byte_info(
    name: str,
    mime_type: str,
    topic: str,
    attributes: dict[str, str] | None,
    size: int | None,
    stream_id: str | None = None,
) -> ByteStreamInfo:
    """Of a stream that begins now."""
    return ByteStreamInfo(
        stream_id or str(uuid.uuid4()), mime_type, topic, _now_ms(), size, dict(attributes or {}), name
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


class TextStreamWriter(_StreamWriter):
    """Made by `LocalParticipant.stream_text`."""

    def __init__(
        self,
        local_participant: LocalParticipant,
        *,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        total_size: int | None = None,
        reply_to_id: str | None = None,
        destination_identities: list[str] | None = None,
        sender_identity: str | None = None,
    ) -> None:
        self._info = text_info(topic, attributes, total_size, stream_id)
        stream = OutgoingStream(
            core_of(local_participant),
            self._info,
            destination_identities,
            reply_to_id=reply_to_id,
            sender_identity=sender_identity,
        )
        super().__init__(stream)

    @property
    def info(self) -> TextStreamInfo:
        return self._info

    async def write(self, text: str) -> None:
        """Send text; readers get it at once. Waits while the channel's buffer is full."""
        await self._stream.write(split_utf8(text))


class ByteStreamWriter(_StreamWriter):
    """Made by `LocalParticipant.stream_bytes`."""

    def __init__(
        self,
        local_participant: LocalParticipant,
        *,
        name: str,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        total_size: int | None = None,
        mime_type: str = "application/octet-stream",
        destination_identities: list[str] | None = None,
    ) -> None:
        self._info = byte_info(name, mime_type, topic, attributes, total_size, stream_id)
        super().__init__(OutgoingStream(core_of(local_participant), self._info, destination_identities))

    @property
    def info(self) -> ByteStreamInfo:
        return self._info

    async def write(self, data: bytes) -> None:
        """Send bytes; readers get them at once. Waits while the channel's buffer is full."""
        await self._stream.write(split_bytes(data))
