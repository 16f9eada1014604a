"""Data streams: text or bytes of any length, sent in chunks over the reliable channel (protocol: `DataStream`)."""

from __future__ import annotations

import asyncio
import codecs
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from livekit.protocol import models

from .errors import StreamError
from .event_emitter import handler_tasks
from .log import logger

if TYPE_CHECKING:
    from .local_participant import LocalParticipant

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


class _StreamReader(Generic[Piece]):
    """Pieces in their order. Ends when the sender closed the stream; raises `StreamError` when it broke."""

    def __init__(self, *, on_close: Callable[[], None] | None = None) -> None:
        self._pieces: deque[Piece] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: StreamError | None = None
        self._closed = False
        self._unread = 0
        self._on_close = on_close

    def _feed(self, content: bytes) -> None:
        raise NotImplementedError

    def _put(self, piece: Piece) -> None:
        if piece and not self._closed:
            self._pieces.append(piece)
            self._unread += len(piece)
            self._arrived.set()

    def _end(self, error: StreamError | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._error = error
            self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
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
        self._unread -= len(piece)
        return piece

    def close(self) -> None:
        """Stop reading; what arrives later is dropped. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._pieces.clear()
        self._unread = 0
        self._arrived.set()
        if self._on_close is not None:
            self._on_close()

    async def aclose(self) -> None:
        self.close()


class TextStreamReader(_StreamReader[str]):
    def __init__(self, info: TextStreamInfo, *, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(on_close=on_close)
        self._info = info
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def info(self) -> TextStreamInfo:
        return self._info

    def _feed(self, content: bytes) -> None:
        try:
            self._put(self._decoder.decode(content))
        except UnicodeDecodeError:
            self._end(StreamError(f"text stream {self._info.stream_id} is not UTF-8"))

    async def read_all(self) -> str:
        """The whole text, once the sender has closed the stream."""
        return "".join([piece async for piece in self])


class ByteStreamReader(_StreamReader[bytes]):
    def __init__(self, info: ByteStreamInfo, *, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(on_close=on_close)
        self._info = info

    @property
    def info(self) -> ByteStreamInfo:
        return self._info

    def _feed(self, content: bytes) -> None:
        self._put(content)

    async def read_all(self) -> bytes:
        """All bytes, once the sender has closed the stream."""
        return b"".join([piece async for piece in self])


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


class _StreamWriter:
    """Common part of the writers. Closing twice is fine; writing after closing raises RuntimeError."""

    def __init__(
        self,
        local_participant: LocalParticipant,
        info: TextStreamInfo | ByteStreamInfo,
        header: models.DataStream.Header,
        destination_identities: list[str] | None,
        sender_identity: str | None = None,
    ) -> None:
        self._participant = local_participant
        self._info = info
        self._header = header
        self._destinations = list(destination_identities or [])
        self._sender = sender_identity or local_participant.identity
        self._lock = asyncio.Lock()
        self._next_chunk = 0
        self._opened = False
        self._closed = False

    def _packet(self, **content: Any) -> models.DataPacket:
        return models.DataPacket(
            kind=models.DataPacket.RELIABLE,
            participant_identity=self._sender,
            destination_identities=self._destinations,
            **content,
        )

    async def _send_header(self) -> None:
        packet = self._packet(stream_header=self._header)
        if packet.ByteSize() > STREAM_CHUNK_SIZE:
            raise StreamError(f"the stream's header exceeds {STREAM_CHUNK_SIZE} bytes: use fewer or shorter attributes")
        await self._participant._send_stream_packet(packet)
        self._opened = True
        self._participant._open_writers.add(self)

    async def _send_chunk(self, content: bytes) -> None:
        chunk = models.DataStream.Chunk(stream_id=self._info.stream_id, chunk_index=self._next_chunk, content=content)
        await self._participant._send_stream_packet(self._packet(stream_chunk=chunk))
        # Cancelled before that it was not sent, and the next one has its number.
        self._next_chunk += 1

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Cannot write after stream is closed")
        if not self._opened:
            raise RuntimeError("Stream is not open")

    async def aclose(self, *, reason: str = "", attributes: dict[str, str] | None = None) -> None:
        """End the stream. A `reason` makes it an abnormal end; `attributes` are merged into the reader's info.

        Cancelled, the end is sent all the same: the reader waits for it.
        """
        async with self._lock:
            if self._closed or not self._opened:
                return
            self._closed = True
            self._participant._open_writers.discard(self)
            trailer = models.DataStream.Trailer(
                stream_id=self._info.stream_id, reason=reason, attributes=attributes or {}
            )
            packet = self._packet(stream_trailer=trailer)
            sending = asyncio.ensure_future(self._participant._send_stream_packet(packet))
            sending.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(sending)

    def _abort(self, error: BaseException) -> None:
        """What was begun will not be finished: tell the readers."""
        if self._opened and not self._closed:
            why = "cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
            handler_tasks.start(self._end_abnormally(f"aborted: {why}"), "ending a stream")

    async def _end_abnormally(self, reason: str) -> None:
        try:
            await self.aclose(reason=reason)
        except StreamError as error:
            logger.debug("stream %s could not be ended: %s", self._info.stream_id, error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.aclose(reason=f"aborted: {error}" if error is not None else "")


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


def new_stream_id() -> str:
    return str(uuid.uuid4())


def now_ms() -> int:
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
        info = TextStreamInfo(
            stream_id or new_stream_id(), "text/plain", topic, now_ms(), total_size, dict(attributes or {}), []
        )
        super().__init__(
            local_participant, info, make_header(info, reply_to_id), destination_identities, sender_identity
        )
        self._info: TextStreamInfo = info

    @property
    def info(self) -> TextStreamInfo:
        return self._info

    async def write(self, text: str) -> None:
        """Send text; readers get it at once. Waits while the channel's buffer is full."""
        async with self._lock:
            self._check_open()
            for piece in split_utf8(text):
                await self._send_chunk(piece)


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
        info = ByteStreamInfo(
            stream_id or new_stream_id(), mime_type, topic, now_ms(), total_size, dict(attributes or {}), name
        )
        super().__init__(local_participant, info, make_header(info), destination_identities)
        self._info: ByteStreamInfo = info

    @property
    def info(self) -> ByteStreamInfo:
        return self._info

    async def write(self, data: bytes) -> None:
        """Send bytes; readers get them at once. Waits while the channel's buffer is full."""
        async with self._lock:
            self._check_open()
            for start in range(0, len(data), STREAM_CHUNK_SIZE):
                await self._send_chunk(bytes(data[start : start + STREAM_CHUNK_SIZE]))
